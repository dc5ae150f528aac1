# SPDX-License-Identifier: Apache-2.0
"""Memory of fights over fields: who took a field back from us, and how often. No I/O; its clock is given.

It also remembers what the API server itself makes of a manifest (defaults, admission), so that a value which
comes back changed at once is neither drift nor a fight.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from nimblet.cluster.drift import Drift

LOST_FIGHTS: Final = 3
"""After this many repairs that a rival undid we stop writing the object."""
CALM_SECONDS: Final = 600.0
"""A fight that rests this long is over: its count begins anew."""


@dataclass(frozen=True, kw_only=True)
class ChildKey:
    """One child object, by its owner's uid."""

    owner_uid: str
    kind: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A field we gave up, and who writes it."""

    field: str
    manager: str


@dataclass
class _Record:
    manifest_hash: str
    repairs: dict[str, int] = field(default_factory=dict)
    last_repair: float = 0.0
    contest: Contest | None = None
    settled: Mapping[str, object] = field(default_factory=dict)


class ContestLedger:
    """Fights and settled values by child; `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[ChildKey, _Record] = {}

    def unsettled(self, key: ChildKey, manifest_hash: str, found: Iterable[Drift]) -> tuple[Drift, ...]:
        """Return what is left of `found` without the values that the API server made of this manifest."""
        record = self._records.get(key)
        known: Mapping[str, object] = {}
        if record is not None and record.manifest_hash == manifest_hash:
            known = record.settled
        return tuple(item for item in found if item.path not in known or known[item.path] != item.found)

    def settle(self, key: ChildKey, manifest_hash: str, returned: Iterable[Drift]) -> None:
        """Remember how the answer to a write differs from what was written."""
        self._record(key, manifest_hash).settled = {item.path: item.found for item in returned}

    def contest(self, key: ChildKey, manifest_hash: str) -> Contest | None:
        """Return the open contest over this manifest; another manifest is a new chance."""
        record = self._records.get(key)
        return record.contest if record is not None and record.manifest_hash == manifest_hash else None

    def repaired(self, key: ChildKey, manifest_hash: str, fields: Iterable[str]) -> None:
        """Count a repair of fields that someone else had changed."""
        record = self._record(key, manifest_hash)
        for name in fields:
            record.repairs[name] = record.repairs.get(name, 0) + 1
            record.last_repair = self._clock()

    def lost(self, key: ChildKey, manifest_hash: str, fields: Mapping[str, str]) -> Contest | None:
        """Return a contest where one of `fields` (field → rival) was repaired in vain three times."""
        record = self._record(key, manifest_hash)
        for name, manager in fields.items():
            if record.repairs.get(name, 0) >= LOST_FIGHTS:
                return Contest(field=name, manager=manager)
        return None

    def give_up(self, key: ChildKey, manifest_hash: str, contest: Contest) -> None:
        """Keep a lost contest: the object is not written until the rival agrees or the manifest changes."""
        self._record(key, manifest_hash).contest = contest

    def agreed(self, key: ChildKey) -> None:
        """Note that the live object is as rendered: an open contest ends, a recent fight stays counted."""
        record = self._records.get(key)
        if record is not None and record.contest is not None:
            record.contest = None
            record.repairs.clear()

    def forget(self, owner_uid: str) -> None:
        """Drop all that is known about the children of an owner that is gone."""
        for key in [key for key in self._records if key.owner_uid == owner_uid]:
            del self._records[key]

    def _record(self, key: ChildKey, manifest_hash: str) -> _Record:
        record = self._records.get(key)
        if record is None or record.manifest_hash != manifest_hash:
            record = self._records[key] = _Record(manifest_hash)
        if record.contest is None and record.repairs and self._clock() - record.last_repair > CALM_SECONDS:
            record.repairs.clear()
        return record
