# SPDX-License-Identifier: Apache-2.0
"""Waits for the API server while the operator starts. Once it runs, queue and resync have waits of their own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from nimblet.cluster.errors import Transient

RETRY_SECONDS: Final = (1.0, 2.0, 4.0, 8.0)
"""Waits between tries, the last for ever: a kubelet's own back-off would grow to five minutes."""

T = TypeVar("T")
log = logging.getLogger(__name__)


async def patiently(ask: Callable[[], Awaitable[T]], *, what: str) -> T:
    """Return what `ask` returns, tried again after transient errors; everything else propagates."""
    tries = 0
    while True:
        try:
            return await ask()
        except Transient as error:
            wait = max(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)], error.retry_after or 0.0)
            tries += 1
            log.warning("%s: next try in %.0f s: %s", what, wait, error)
        await asyncio.sleep(wait)
