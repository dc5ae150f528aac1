# SPDX-License-Identifier: Apache-2.0
"""What was read a moment ago and needs no second read yet. No I/O; its clock is given.

It holds names and times, never objects: what is decided is decided on what a read returned.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

ALIVE_SECONDS: Final = 1.0
"""How long an owner or a namespace counts as alive after a read: a write under way may take longer than that."""
SECRET_SECONDS: Final = 30.0
"""How long a Secret counts as unchanged: no watch shows it, and without this every pass would read it."""


class Sightings:
    """Things seen as they should be, each for `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._seen: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of things that are remembered."""
        return len(self._seen)

    def saw(self, what: Hashable) -> None:
        """Note that it was read just now; what is too old goes."""
        now = self._clock()
        self._seen[what] = now
        self._seen.move_to_end(what)
        while now - next(iter(self._seen.values())) >= self._seconds:
            self._seen.popitem(last=False)

    def recent(self, what: Hashable) -> bool:
        """Tell whether it was seen within the time."""
        seen = self._seen.get(what)
        return seen is not None and self._clock() - seen < self._seconds


@dataclass(frozen=True, kw_only=True)
class Recent:
    """The memories that outlive a pass: owners' uids and namespaces, and Secrets by child and hash."""

    alive: Sightings = field(default_factory=lambda: Sightings(ALIVE_SECONDS))
    secrets: Sightings = field(default_factory=lambda: Sightings(SECRET_SECONDS))
