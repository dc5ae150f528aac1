# SPDX-License-Identifier: Apache-2.0
"""Asks the API server again where trying again helps. Queue and resync have longer waits of their own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import TypeVar

from nimblet.cluster.errors import Transient

T = TypeVar("T")
log = logging.getLogger(__name__)


def endless() -> Iterator[float]:
    """Return waits in seconds that never end: a kubelet's own back-off would grow to five minutes."""
    return chain((1.0, 2.0, 4.0), repeat(8.0))


async def patiently(
    ask: Callable[[], Awaitable[T]],
    *,
    what: str,
    waits: Iterable[float] | None = None,
    level: int = logging.WARNING,
) -> T:
    """Return what `ask` returns, tried again after transient errors, as often as there are waits.

    Without `waits` for ever. The last error and everything that is not transient propagate.
    """
    for wait in endless() if waits is None else waits:
        try:
            return await ask()
        except Transient as error:
            pause = max(wait, error.retry_after or 0.0)
            log.log(level, "%s: next try in %.1f s: %s", what, pause, error)
        await asyncio.sleep(pause)
    return await ask()
