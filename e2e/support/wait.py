# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition with a deadline: never a bare sleep, and on failure what was seen last."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.3
T = TypeVar("T")


class NotInTimeError(AssertionError):
    """What was waited for did not come; the message says what was seen instead."""


def until(probe: Callable[[], T | None], *, what: str, seconds: float, seen: Callable[[], str] | None = None) -> T:
    """Return the first truthy result of `probe`; `seen` describes the state for the failure's message."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            last = seen() if seen is not None else repr(found)
            raise NotInTimeError(f"expected {what} within {seconds:.0f} s; last seen: {last}")
        time.sleep(POLL_SECONDS)
