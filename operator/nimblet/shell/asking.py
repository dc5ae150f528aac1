# SPDX-License-Identifier: Apache-2.0
"""Makes who asks our pods: for a proof once, and for a status again and again. Decides nothing."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from nimblet.cluster.key import Key
from nimblet.cluster.observe import Observer, Patience, PodUrl
from nimblet.cluster.poll import Poller, Ways
from nimblet.cluster.trust import Trust
from nimblet.settings import Timing


@dataclass(frozen=True, kw_only=True)
class Askers:
    """What they need of the process: whom they wake, how they end it, and how pods are reached."""

    wake: Callable[[Key], None]
    fail: Callable[[BaseException], None]
    rng: random.Random
    url_of: PodUrl


@asynccontextmanager
async def asking(timing: Timing, askers: Askers, *, trust: Trust) -> AsyncIterator[tuple[Observer, Poller]]:
    """Make both, and end their questions. `trust`: what a pod that speaks TLS is verified by."""
    clock = asyncio.get_running_loop().time
    # statuses come over a connection each: a server's own limit for idle ones lies near the time between two
    connector = aiohttp.TCPConnector(force_close=True, limit=0, ssl=trust.everywhere)
    kept = aiohttp.TCPConnector(ssl=trust.everywhere)
    async with (
        aiohttp.ClientSession(connector=kept) as session,
        aiohttp.ClientSession(connector=connector) as polling,
    ):
        observer = Observer(
            session=session,
            patience=Patience(
                timeout=float(timing.probe_timeout_seconds), retry=float(timing.probe_retry_seconds)
            ),
            wake=askers.wake,
            clock=clock,
            url_of=askers.url_of,
            trust_of=trust.of,
        )
        poller = Poller(
            session=polling,
            ways=Ways(wake=askers.wake, fail=askers.fail),
            clock=clock,
            rng=askers.rng,
            url_of=askers.url_of,
            trust_of=trust.of,
        )
        try:
            yield observer, poller
        finally:
            await observer.close()
            await poller.close()
