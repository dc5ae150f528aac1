# SPDX-License-Identifier: Apache-2.0
"""Which versions of an endpoint's generated key the Secret and the pods hold. Never reads a key."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from nimblet import labels, names
from nimblet.api.compactmodel import CompactModel
from nimblet.cluster.client import Client
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.resources import SECRET
from nimblet.plan.facts import FIRST_KEY, DeploymentFacts, KeyFacts, PodFacts


def key_versions(pod_labels: Mapping[str, str]) -> tuple[int, ...]:
    """Return the versions that pods of these labels accept, ascending; the first where no label tells."""
    parts = pod_labels.get(labels.KEY_VERSIONS, "").split("-")
    return tuple(sorted({int(part) for part in parts if part.isdecimal()})) or FIRST_KEY


async def gather_key(
    client: Client, model: CompactModel, *, deployment: DeploymentFacts | None, pods: Sequence[PodFacts]
) -> KeyFacts | None:
    """Return what our key Secret says of itself; it is not read for a model whose key was never rotated."""
    seen = {FIRST_KEY, *(pod.key_versions for pod in pods)}
    if deployment is not None:
        seen.add(deployment.key_versions)
    if model.spec.access.key_version == FIRST_KEY[0] and seen == {FIRST_KEY}:
        return None
    body = await client.get(SECRET, namespace=model.namespace, name=names.api_key(model.name))
    return key_facts(body, uid=model.uid) if body is not None else None


def key_facts(body: Mapping[str, object], *, uid: str) -> KeyFacts | None:
    """Return the version and its time out of the annotations of a Secret that this resource controls."""
    metadata = metadata_of(body)
    owner = metadata.controller()
    version = metadata.annotations.get(labels.KEY_VERSION, "")
    if owner is None or owner.uid != uid or not version.isdecimal():
        return None
    return KeyFacts(version=int(version), published_at=_time(metadata.annotations.get(labels.KEY_PUBLISHED_AT)))


def _time(text: str | None) -> datetime | None:
    """Return a time that we wrote; None where somebody wrote something else: the grace is then over."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
