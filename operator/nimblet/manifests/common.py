# SPDX-License-Identifier: Apache-2.0
"""Fragments every child shares: metadata and the restricted Pod Security settings. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nimblet import labels

Manifest = dict[str, object]

RUN_AS_USER: Final = 65532
"""Numeric and not root, as Pod Security `restricted` asks; also the user of our images."""

POD_SECURITY: Final[Manifest] = {
    "runAsNonRoot": True,
    "runAsUser": RUN_AS_USER,
    "runAsGroup": RUN_AS_USER,
    "fsGroup": RUN_AS_USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def metadata(
    name: str, namespace: str, *, labels_: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> Manifest:
    """Return ObjectMeta with our labels; owner references are added where the owner's uid is known, at apply."""
    meta: Manifest = {"name": name, "namespace": namespace, "labels": dict(labels_)}
    if annotations:
        meta["annotations"] = dict(annotations)
    return meta


@dataclass(frozen=True, kw_only=True)
class Part:
    """The objects of one component of one of our resources, the immutable selector of its pods among them."""

    owner: str
    namespace: str
    component: str
    kind_label: str = labels.MODEL

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the objects and pods."""
        return labels.child_labels(kind_label=self.kind_label, owner=self.owner, component=self.component)

    @property
    def selector(self) -> dict[str, str]:
        """Labels that select the pods; they never change."""
        return {self.kind_label: self.owner, labels.COMPONENT: self.component}


def model_labels(owner: str, component: str) -> dict[str, str]:
    """Return the labels of a CompactModel's child."""
    return labels.child_labels(kind_label=labels.MODEL, owner=owner, component=component)


def pod_selector(owner: str, component: str) -> dict[str, str]:
    """Return the immutable selector labels of a CompactModel's pods."""
    return {labels.MODEL: owner, labels.COMPONENT: component}
