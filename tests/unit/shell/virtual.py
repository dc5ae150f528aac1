# SPDX-License-Identifier: Apache-2.0
"""An event loop whose clock jumps: whenever nothing is ready, time moves to the next timer at once."""

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Never waits; tells how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing will ever happen: every task waits and no timer is set")
            self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Seconds cost nothing here."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def stand_still(self, seconds: float) -> None:
        """Let the clock run and nothing else, as for a process that is stopped and goes on later."""
        self._jump.now += seconds


def run_virtual(main: Coroutine[object, object, T]) -> T:
    """Run `main` to its end in virtual time, from second 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def dice(seed: int = 1) -> random.Random:
    """Return dice that always fall the same."""
    return random.Random(seed)  # noqa: S311 - nothing secret hangs on it
