# SPDX-License-Identifier: Apache-2.0
"""Progress lines: one line a step, with the seconds since the start.

People watch these while the first build runs for many minutes, so lines go to standard error at once and
never hold up the work.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO


@dataclass(frozen=True)
class Progress:
    """Writes lines like `[  3.1s] kubelet: ready` to `stream`; a None stream writes nothing."""

    stream: TextIO | None = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Write one line."""
        if self.stream is None:
            return
        print(progress_line(elapsed=self.clock() - self.started, text=text), file=self.stream, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Say that `text` starts, and how long it took once it is done."""
        begin = self.clock()
        self.say(f"{text} …")
        yield
        self.say(f"{text}: done in {self.clock() - begin:.1f} s")


def progress_line(*, elapsed: float, text: str) -> str:
    """Return one line; `elapsed` in seconds."""
    return f"[{elapsed:7.1f}s] {text}"
