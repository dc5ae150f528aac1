# SPDX-License-Identifier: Apache-2.0
"""Snapshots of an index's collections: which are due, which are too many, and the order they are told in. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Any snapshot is newer: what never changes needs one only."""
STAMP: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}-\d{2}-\d{2}-\d{2})\.snapshot$")
STAMP_FORMAT: Final = "%Y-%m-%d-%H-%M-%S"
"""Ends the name that Qdrant gives a snapshot: when it was begun, in UTC."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One server's snapshot of one collection. `taken_at` is None where neither its name nor the server tells."""

    server: str
    collection: str
    name: str
    bytes: int
    taken_at: datetime | None

    @property
    def place(self) -> tuple[str, str]:
        """What it is of."""
        return self.collection, self.server

    @property
    def age(self) -> tuple[datetime, str]:
        """Orders the snapshots of one place, the older first."""
        return self.taken_at or EVER, self.name


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """What there is, the newest of each place first, and the first failure of the last round."""

    held: tuple[Snapshot, ...] = ()
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Collections that shall have a snapshot, by the moment that the newest must not be older than.

    `fixed` never change; `growing` are only whole together, while nothing is written to them.
    """

    collections: Sequence[str]
    """All of the index's."""
    fixed: Mapping[str, datetime] = field(default_factory=dict)
    growing: Mapping[str, datetime] = field(default_factory=dict)


def taken_at(name: str, told: str | None) -> datetime | None:
    """Return when a snapshot was taken: by its name, which outlives a copy of the volume, else as is told."""
    found = STAMP.search(name)
    try:
        if found is not None:
            return datetime.strptime(found[1], STAMP_FORMAT).replace(tzinfo=UTC)
        return datetime.fromisoformat(told).replace(tzinfo=UTC) if told else None
    except ValueError:
        return None


def newest(held: Sequence[Snapshot]) -> dict[tuple[str, str], Snapshot]:
    """Return the newest snapshot of each place."""
    return {item.place: item for item in sorted(held, key=lambda item: item.age)}


def spare(held: Sequence[Snapshot], *, retain: int) -> list[Snapshot]:
    """Return the snapshots that are more than are kept of their place, oldest first."""
    ordered = sorted(held, key=lambda item: (item.place, item.age))
    groups = [list(group) for _, group in groupby(ordered, key=lambda item: item.place)]
    return [item for group in groups for item in group[: max(0, len(group) - retain)]]


def listed(held: Sequence[Snapshot]) -> tuple[Snapshot, ...]:
    """Return snapshots as they are told: the newest of each place first, so that a short list can restore all."""
    first = newest(held)
    return tuple(
        sorted(held, key=lambda item: (first[item.place] is not item, item.place, -item.age[0].timestamp()))
    )
