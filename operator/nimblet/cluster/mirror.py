# SPDX-License-Identifier: Apache-2.0
"""Trimmed copies of the cluster's objects in memory, by kind, with an index by the resource they belong to.

Fed by watch events, by lists at resync and by our own writes; an older version never replaces a newer one.
It does no I/O and decides nothing; what it lacks is read again at the next resync.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from nimblet.cluster.key import Key, owner_key
from nimblet.cluster.observed import Metadata, metadata_of
from nimblet.cluster.references import references_of
from nimblet.cluster.trim import TRIMS, Object, shared, significant

Name = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a put or a removal did: `owner` is the resource to look at again, where there is one."""

    changed: bool
    owner: Key | None
    told: bool = False
    """A resource of ours changed, or says something else of itself: whoever names it looks again."""


UNCHANGED = Change(changed=False, owner=None)


@dataclass(frozen=True, slots=True)
class _Entry:
    body: Object
    uid: str
    version: int
    owner: Key | None
    references: frozenset[Key] = frozenset()


@dataclass
class Mirror:
    """Objects of the kinds in `TRIMS`. All methods are synchronous: one event loop owns a mirror."""

    _kinds: dict[str, dict[Name, _Entry]] = field(default_factory=lambda: {kind: {} for kind in TRIMS})
    _owned: dict[Key, set[tuple[str, Name]]] = field(default_factory=dict)
    _revisions: Counter[str] = field(default_factory=Counter)
    _referrers: dict[Key, set[Key]] = field(default_factory=dict)
    _gone: dict[str, dict[Name, int]] = field(default_factory=lambda: {kind: {} for kind in TRIMS})
    """At which version objects were reported deleted, until a list is newer: one under way may still have them."""

    def holds(self, kind: str) -> bool:
        """Tell whether objects of this kind are kept at all."""
        return kind in self._kinds

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return the trimmed object, or None."""
        entry = self._kinds[kind].get((namespace, name))
        return entry.body if entry is not None else None

    def revision(self, kind: str) -> int:
        """Return a number that grows with every change of a kind that is worth a reconcile."""
        return self._revisions[kind]

    def of_kind(self, kind: str) -> Iterator[Object]:
        """Return all objects of a kind, in no promised order."""
        return (entry.body for entry in tuple(self._kinds[kind].values()))

    def owned(self, key: Key, kind: str) -> tuple[Object, ...]:
        """Return the objects of a kind that belong to `key`, sorted by name."""
        names = sorted(name for owned_kind, name in self._owned.get(key, ()) if owned_kind == kind)
        return tuple(self._kinds[kind][name].body for name in names)

    def referrers(self, key: Key) -> tuple[Key, ...]:
        """Return the resources of ours that name this one, which may not exist, sorted."""
        return tuple(sorted(self._referrers.get(key, ())))

    def keys(self, kind: str) -> tuple[Key, ...]:
        """Return the keys of our own resources of a kind."""
        return tuple(Key(kind, namespace, name) for namespace, name in sorted(self._kinds[kind]))

    def sizes(self) -> Mapping[str, int]:
        """Return the number of objects by kind."""
        return {kind: len(entries) for kind, entries in self._kinds.items()}

    def put(self, kind: str, body: Object) -> Change:
        """Store an object unless a version at least as new of it is there.

        `changed` tells whether something worth a reconcile differs from what was stored.
        """
        metadata = metadata_of(body)
        name = (metadata.namespace, metadata.name)
        old = self._kinds[kind].get(name)
        version = _version(metadata)
        if old is not None and old.version >= version:
            return UNCHANGED
        # as new as that is what lost our label alone: a deletion has a version of its own
        if version < self._gone[kind].get(name, -1):
            return UNCHANGED
        trimmed = TRIMS[kind](body)
        changed = old is None or significant(kind, old.body) != significant(kind, trimmed)
        told = kind in OWN_KINDS and (changed or old is None or old.body.get("status") != trimmed.get("status"))
        new = _Entry(shared(trimmed), metadata.uid, version, _owner(kind, metadata), references_of(kind, body))
        self._revisions[kind] += changed
        if old is not None:
            self._forget(kind, name, old)
        self._kinds[kind][name] = new
        if new.owner is not None:
            self._owned.setdefault(new.owner, set()).add((kind, name))
            for named in new.references:
                self._referrers.setdefault(named, set()).add(new.owner)
        return Change(changed=changed, owner=new.owner, told=told)

    def remove(self, kind: str, body: Object) -> Change:
        """Drop an object that was reported deleted, unless it was made anew since."""
        metadata = metadata_of(body)
        name = (metadata.namespace, metadata.name)
        version = _version(metadata)
        if version:  # our own deletions have none: what they are of may go later
            self._gone[kind][name] = max(version, self._gone[kind].get(name, version))
        old = self._kinds[kind].get(name)
        if old is None or (old.uid != metadata.uid and metadata.uid):
            return UNCHANGED
        self._drop(kind, name, old)
        return Change(changed=True, owner=old.owner, told=kind in OWN_KINDS)

    def prune(
        self, kind: str, *, seen: Collection[Name], version: str, namespaces: Collection[str] = ()
    ) -> frozenset[Key]:
        """Drop what a full list of a kind, read at resourceVersion `version`, lacks; return the owners.

        Objects newer than the list stay. With `namespaces` the list is about these only.
        """
        limit = int(version)
        touched: set[Key] = set()
        for name, entry in tuple(self._kinds[kind].items()):
            covered = not namespaces or not name[0] or name[0] in namespaces
            if covered and name not in seen and entry.version <= limit:
                self._drop(kind, name, entry)
                if entry.owner is not None:
                    touched.add(entry.owner)
        self._gone[kind] = {name: gone for name, gone in self._gone[kind].items() if gone > limit}
        return frozenset(touched)

    def _drop(self, kind: str, name: Name, entry: _Entry) -> None:
        self._forget(kind, name, entry)
        del self._kinds[kind][name]
        self._revisions[kind] += 1

    def _forget(self, kind: str, name: Name, entry: _Entry) -> None:
        if entry.owner is None:
            return
        _discard(self._owned, entry.owner, (kind, name))
        for named in entry.references:
            _discard(self._referrers, named, entry.owner)


def _discard(index: dict[Key, set[T]], key: Key, item: T) -> None:
    """Take an item from an index, and its set where that was the last."""
    items = index.get(key, set())
    items.discard(item)
    if not items:
        index.pop(key, None)


def _version(metadata: Metadata) -> int:
    """Return the resourceVersion as a number: etcd's revision, comparable within one kind."""
    return int(metadata.resource_version or 0)


def _owner(kind: str, metadata: Metadata) -> Key | None:
    if kind in OWN_KINDS:
        return Key(kind, metadata.namespace, metadata.name)
    return None if kind in CLUSTER_KINDS else owner_key(metadata)


WAKING_KINDS = frozenset({"Namespace", "TEEPolicy"})
"""Kinds that facts are never read from: a change of theirs wakes the resources that it may concern."""
CLUSTER_KINDS = WAKING_KINDS | {"Node"}
"""Kinds without a namespace: they belong to nobody."""
OWN_KINDS = frozenset({"Assistant", "CompactModel", "RetrievalIndex"})
"""Kinds of ours: each such object belongs to itself."""
