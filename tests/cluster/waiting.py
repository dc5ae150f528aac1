# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition with a deadline. Only for tests."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.05


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float, what: str) -> None:
    """Return once `condition` holds; AssertionError names `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"expected {what} within {seconds:g} s"
        await asyncio.sleep(POLL_SECONDS)
