# SPDX-License-Identifier: Apache-2.0
"""Which versions of an endpoint's generated key the Secret and the pods hold. Never reads a key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nimblet import labels
from nimblet.cluster.client import Client
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.resources import SECRET
from nimblet.plan.facts import FIRST_KEY, DeploymentFacts, KeyFacts, PodFacts


def key_versions(pod_labels: Mapping[str, str]) -> tuple[int, ...]:
    """Return the versions that pods of these labels accept, ascending; the first where no label tells."""
    parts = pod_labels.get(labels.KEY_VERSIONS, "").split("-")
    return tuple(sorted({int(part) for part in parts if part.isdecimal()})) or FIRST_KEY


@dataclass(frozen=True, kw_only=True)
class KeySecret:
    """The key Secret of one resource, and the version that its spec wants."""

    namespace: str
    name: str
    owner_uid: str
    wanted: int


async def gather_key(
    client: Client, secret: KeySecret, *, deployment: DeploymentFacts | None, pods: Sequence[PodFacts]
) -> KeyFacts | None:
    """Return what our key Secret says of itself; it is not read where the key was never rotated."""
    seen = {FIRST_KEY, *(pod.key_versions for pod in pods)}
    if deployment is not None:
        seen.add(deployment.key_versions)
    if secret.wanted == FIRST_KEY[0] and seen == {FIRST_KEY}:
        return None
    body = await client.get(SECRET, namespace=secret.namespace, name=secret.name)
    return key_facts(body, uid=secret.owner_uid) if body is not None else None


def versions_in_use(
    wanted: int, *, stored: KeyFacts | None, deployment: DeploymentFacts | None, pods: Sequence[PodFacts]
) -> tuple[int, ...]:
    """Return every version of a key that is wanted, stored or accepted by a pod."""
    versions = {wanted, *(at for pod in pods for at in pod.key_versions)}
    if stored is not None:
        versions.add(stored.version)
    if deployment is not None:
        versions.update(deployment.key_versions)
    return tuple(sorted(versions))


def key_facts(body: Mapping[str, object], *, uid: str) -> KeyFacts | None:
    """Return the version and its time out of the annotations of a Secret that this resource controls."""
    metadata = metadata_of(body)
    owner = metadata.controller()
    version = metadata.annotations.get(labels.KEY_VERSION, "")
    if owner is None or owner.uid != uid or not version.isdecimal():
        return None
    return KeyFacts(version=int(version), published_at=time_of(metadata.annotations.get(labels.KEY_PUBLISHED_AT)))


def time_of(text: str | None) -> datetime | None:
    """Return a time that we wrote; None where somebody wrote something else: the grace is then over."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
