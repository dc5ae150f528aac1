# SPDX-License-Identifier: Apache-2.0
"""Notices that a user's own objects changed which an index or Assistant names: no watch shows them to us.

What a pass read is remembered by its version alone. ConfigMaps and claims are compared with one list of what is
labelled for our use, without contents, however many resources name them; Secrets by name, as we may not list them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from nimblet import labels
from nimblet.cluster.client import Client, Json
from nimblet.cluster.key import Key
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.resources import CLAIM, CONFIG_MAP, SECRET, Resource

LISTED: Final = (CONFIG_MAP, CLAIM)
USABLE: Final = labels.selector_string({labels.USE: "true"})
ABSENT: Final = ""
"""Version of what is not there, or not labelled for our use: a list of what is labelled can't tell which."""


class Reader(Protocol):
    """Reads objects by name."""

    async def get(self, resource: Resource, *, namespace: str | None = None, name: str) -> Json | None:
        """Return the object, or None."""


@dataclass(frozen=True, kw_only=True)
class Noting:
    """Reads by a client, and notes the version of what it found."""

    client: Client
    notes: dict[Key, str]

    async def get(self, resource: Resource, *, namespace: str | None = None, name: str) -> Json | None:
        """Return the object, or None."""
        body = await self.client.get(resource, namespace=namespace, name=name)
        self.notes[Key(resource.kind, namespace or "", name)] = _version(resource, body)
        return body


@dataclass(kw_only=True)
class Referents:
    """What each of our resources read in its last pass: referrer → referent → version."""

    _read: dict[Key, dict[Key, str]] = field(default_factory=dict)

    def reader(self, client: Client, referrer: Key) -> Reader:
        """Return what a pass reads with; what an earlier one read is forgotten."""
        notes = self._read[referrer] = {}
        return Noting(client=client, notes=notes)

    def forget(self, referrer: Key) -> None:
        """Drop what is known of a resource that is gone."""
        self._read.pop(referrer, None)

    async def listed(self, client: Client, *, namespaces: Sequence[str] = ()) -> frozenset[Key]:
        """Return who names a ConfigMap or claim that changed, came or went since it was read."""
        found: set[Key] = set()
        for resource in LISTED:
            wanted = self._named(resource)
            if wanted:
                found |= self._compare(wanted, await _versions(client, resource, namespaces))
        return frozenset(found)

    async def secrets(self, client: Client) -> frozenset[Key]:
        """Return who names a Secret that changed, came or went since it was read."""
        wanted = self._named(SECRET)
        now = {}
        for key in sorted(wanted):
            body = await client.get(SECRET, namespace=key.namespace, name=key.name, metadata_only=True)
            now[key] = _version(SECRET, body)
        return self._compare(wanted, now)

    def _named(self, resource: Resource) -> frozenset[Key]:
        return frozenset(key for notes in self._read.values() for key in notes if key.kind == resource.kind)

    def _compare(self, wanted: Iterable[Key], now: dict[Key, str]) -> frozenset[Key]:
        """Return whose notes are old, and bring them up to date: each change is told once."""
        changed = set()
        for key in wanted:
            version = now.get(key, ABSENT)
            for referrer, notes in self._read.items():
                if notes.get(key, version) != version:
                    notes[key] = version
                    changed.add(referrer)
        return frozenset(changed)


async def _versions(client: Client, resource: Resource, namespaces: Sequence[str]) -> dict[Key, str]:
    found: dict[Key, str] = {}
    for namespace in namespaces or (None,):
        pages = client.pages(resource, namespace=namespace, label_selector=USABLE, metadata_only=True)
        async for page in pages:
            for body in page.items:
                metadata = metadata_of(body)
                found[Key(resource.kind, metadata.namespace, metadata.name)] = metadata.resource_version
    return found


def _version(resource: Resource, body: Json | None) -> str:
    if body is None:
        return ABSENT
    metadata = metadata_of(body)
    told = resource is SECRET or metadata.labels.get(labels.USE) == "true"
    return metadata.resource_version if told else ABSENT
