# SPDX-License-Identifier: Apache-2.0
"""Which generations go once a build has ended. Pure.

What serves and what was just built stay. A build that was never completed goes: its token can't come back, since
builds are made one after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto


class Ended(Enum):
    """How a build ended."""

    SERVED = auto()
    HELD_BY_PIN = auto()
    HELD_BY_GATE = auto()


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A generation in the store; a later one's name is higher."""

    name: str
    sealed: bool


@dataclass(frozen=True, kw_only=True)
class Store:
    """The generations after a build, the one that serves now, and the one that served before."""

    generations: Sequence[Kept]
    serving: str | None
    before: str | None
    built: str


def plan_drops(store: Store, ended: Ended, *, retain: int) -> list[str]:
    """Return the names of those that go, oldest first; `retain` complete ones stay beside what serves."""
    never = {store.serving, store.built}
    others = sorted((item for item in store.generations if item.name not in never), key=lambda item: item.name)
    drops = [item.name for item in others if not item.sealed and item.name < store.built]
    sealed = [item.name for item in others if item.sealed]
    if ended is Ended.HELD_BY_GATE and store.serving is not None:
        fallen = [name for name in sealed if name > store.serving]  # none of them ever served
        drops += fallen
        sealed = [name for name in sealed if name < store.serving]
    # what served before is what one rolls back to: it stays even where a later one fell through its gate
    ranked = sorted(sealed, key=lambda name: (name == store.before, name))
    drops += ranked[: max(0, len(ranked) - retain)]
    return sorted(drops)
