# SPDX-License-Identifier: Apache-2.0
"""Which of our resources an object belongs to. Pure reading of metadata, nothing else."""

from typing import NamedTuple

from nimblet import labels
from nimblet.cluster.observed import Metadata, OwnerReference


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
    owner = metadata.controller()
    if owner is not None and is_of_group(owner):
        return Key(owner.kind, metadata.namespace, owner.name)
    for label, kind in KIND_LABELS.items():
        if name := metadata.labels.get(label):
            return Key(kind, metadata.namespace, name)
    return None


def is_of_group(owner: OwnerReference) -> bool:
    """Tell whether an owner is of our API group."""
    return owner.api_version.split("/")[0] == labels.GROUP
