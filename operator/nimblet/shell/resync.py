# SPDX-License-Identifier: Apache-2.0
"""The periodic full read: finds what watches lost, and gives every resource a turn."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Never

from nimblet.cluster.client import Client
from nimblet.cluster.errors import ApiError
from nimblet.cluster.mirror import OWN_KINDS, Mirror
from nimblet.cluster.resync import rebuild
from nimblet.shell.metrics import Metrics
from nimblet.shell.queue import Queue

SETTLE_SECONDS: Final = 15.0
"""From the first read to the next, and from a watch that begins anew: no event tells what went before its list."""
RETRY_SECONDS: Final = 10.0
"""After a resync that failed; liveness watches how long none succeeds."""
SPREAD: Final = 0.1
"""Share of the interval over which the turns are spread: no burst of reads."""

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Resync:
    """`clock` gives the loop's seconds; `ended` is the time of the last good end, None before the first."""

    client: Client
    mirror: Mirror
    queue: Queue
    namespaces: tuple[str, ...]
    interval: float
    rng: random.Random
    clock: Callable[[], float]
    metrics: Metrics
    ended: float | None = None
    _anew: asyncio.Event = field(default_factory=asyncio.Event)

    def age(self) -> float | None:
        """Return the seconds since the last good resync."""
        return None if self.ended is None else self.clock() - self.ended

    async def once(self, *, spread: float) -> None:
        """Read everything; what changed has its turn at once, the rest within `spread` seconds."""
        touched = await rebuild(self.client, self.mirror, namespaces=self.namespaces)
        for key in touched:
            if key.kind in OWN_KINDS:
                self.queue.add(key)
        for kind in OWN_KINDS:
            for key in self.mirror.keys(kind):
                self.queue.add_after(key, spread * self.rng.random())
        self.ended = self.clock()
        self.metrics.resyncs.labels(outcome="done").inc()
        log.debug("resync: %d objects, %d keys changed unnoticed", sum(self.mirror.sizes().values()), len(touched))

    def soon(self) -> None:
        """Read everything soon: a watch lists its kind anew, and may have missed what went meanwhile."""
        self._anew.set()

    async def _rest(self, seconds: float) -> None:
        """Return after these seconds, or when watches that began anew have had the time to."""
        try:
            async with asyncio.timeout(seconds):
                await self._anew.wait()
        except TimeoutError:
            return
        await asyncio.sleep(min(seconds, SETTLE_SECONDS))
        self._anew.clear()

    async def run(self) -> Never:
        """Resync for ever. A failed one is tried again; liveness ends a process in which none succeeds."""
        wait = min(self.interval, SETTLE_SECONDS)
        while True:
            await self._rest(wait * (1.0 - SPREAD * self.rng.random()))
            try:
                await self.once(spread=SPREAD * self.interval)
                wait = self.interval
            except ApiError as error:
                self.metrics.resyncs.labels(outcome="failed").inc()
                log.warning("resync failed, next try in about %.0f s: %s", RETRY_SECONDS, error)
                wait = min(RETRY_SECONDS, self.interval)
