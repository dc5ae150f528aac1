# SPDX-License-Identifier: Apache-2.0
"""Which of our resources an object belongs to. Pure reading of metadata, nothing else."""

from typing import NamedTuple

from nimblet import labels
from nimblet.cluster.observed import Metadata


class Key(NamedTuple):
    """Identity of one of our resources: what the queue holds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


KIND_LABELS = {labels.MODEL: "CompactModel", labels.ASSISTANT: "Assistant", labels.INDEX: "RetrievalIndex"}
"""Label key → kind of ours that its value names."""


def owner_key(metadata: Metadata) -> Key | None:
    """Return the resource an object belongs to: its controller ownerRef of our group, else our label."""
    controlled = controller_key(metadata)
    if controlled is not None:
        return controlled
    for label, kind in KIND_LABELS.items():
        if name := metadata.labels.get(label):
            return Key(kind, metadata.namespace, name)
    return None


def controller_key(metadata: Metadata) -> Key | None:
    """Return the resource of our group that controls an object: labels alone make nothing ours to end."""
    owner = metadata.controller()
    if owner is None or owner.api_version.split("/")[0] != labels.GROUP:
        return None
    return Key(owner.kind, metadata.namespace, owner.name)
