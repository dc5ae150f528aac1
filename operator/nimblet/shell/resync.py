# SPDX-License-Identifier: Apache-2.0
"""The periodic full read: finds what watches lost, and gives every resource a turn."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Never

from nimblet.cluster.client import Client
from nimblet.cluster.errors import ApiError
from nimblet.cluster.mirror import OWN_KINDS, Mirror
from nimblet.cluster.resync import rebuild
from nimblet.shell.metrics import Metrics
from nimblet.shell.queue import Queue

SETTLE_SECONDS: Final = 15.0
"""From the first read to the next, at most: no watch tells what went between the read and the watch's own list."""
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

    async def run(self) -> Never:
        """Resync for ever. A failed one is tried again; liveness ends a process in which none succeeds."""
        wait = min(self.interval, SETTLE_SECONDS)
        while True:
            await asyncio.sleep(wait * (1.0 - SPREAD * self.rng.random()))
            try:
                await self.once(spread=SPREAD * self.interval)
                wait = self.interval
            except ApiError as error:
                self.metrics.resyncs.labels(outcome="failed").inc()
                log.warning("resync failed, next try in about %.0f s: %s", RETRY_SECONDS, error)
                wait = min(RETRY_SECONDS, self.interval)
