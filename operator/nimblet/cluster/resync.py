# SPDX-License-Identifier: Apache-2.0
"""Reads the cluster anew into the mirror: one chunked list a kind. Finds what watches missed, deletions first.

A page is trimmed as it comes, so that memory holds one page of full objects at a time.
"""

import logging
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from nimblet import labels
from nimblet.cluster.client import Client
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import CLUSTER_KINDS, OWN_KINDS, Mirror, Name
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.patience import patiently
from nimblet.cluster.resources import Resource, resource_of
from nimblet.cluster.trim import WATCHED

UNSELECTED: Final = OWN_KINDS | CLUSTER_KINDS
"""Kinds read whole; of all others only what carries our label."""
RETRY_SECONDS: Final = (0.5, 2.0)
"""Waits before a list is tried again; after them the resync fails as a whole and is tried later."""


async def rebuild(
    client: Client, mirror: Mirror, *, namespaces: Sequence[str] = (), kinds: Collection[str] = WATCHED
) -> frozenset[Key]:
    """Read the kinds, every one that is watched; return the keys whose objects changed, came or went unnoticed.

    Our own resources come last: a resource is known only when its children are.
    """
    touched: set[Key] = set()
    for kind in sorted(kinds, key=lambda kind: (kind in OWN_KINDS, kind)):
        resource = resource_of(kind)
        for namespace in namespaces if namespaces and resource.namespaced else (None,):
            # one refused list must not void all that were read; keys of a try that failed may go untold, since
            # after a resync every key has a turn anyway
            touched |= await patiently(
                partial(_rebuild_kind, client, mirror, resource, namespace=namespace),
                what=f"list of {resource.plural}",
                waits=RETRY_SECONDS,
                level=logging.INFO,
            )
    return frozenset(touched)


async def _rebuild_kind(
    client: Client, mirror: Mirror, resource: Resource, *, namespace: str | None
) -> frozenset[Key]:
    selector = "" if resource.kind in UNSELECTED else labels.MANAGED_SELECTOR
    seen: set[Name] = set()
    touched: set[Key] = set()
    version = "0"
    async for page in client.pages(resource, namespace=namespace, label_selector=selector):
        if page.restarted:
            seen.clear()
        version = page.resource_version
        for body in page.items:
            metadata = metadata_of(body)
            seen.add((metadata.namespace, metadata.name))
            change = mirror.put(resource.kind, body)
            if change.changed and change.owner is not None:
                touched.add(change.owner)
            if change.told and change.owner is not None:
                touched.update(mirror.referrers(change.owner))
    scope = (namespace,) if namespace is not None else ()
    return frozenset(touched) | mirror.prune(resource.kind, seen=seen, version=version, namespaces=scope)
