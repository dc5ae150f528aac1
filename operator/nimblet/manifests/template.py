# SPDX-License-Identifier: Apache-2.0
"""Pod templates that carry the hash of themselves, and the Deployment around one. Pure: values in, dict out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nimblet import labels, names
from nimblet.api.scheduling import Scheduling
from nimblet.manifests.common import Manifest, Part, metadata


@dataclass(frozen=True, kw_only=True)
class Template:
    """A pod template, before it knows its hash."""

    part: Part
    scheduling: Scheduling
    spec: Manifest
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the pods and of the object that makes them, beside those of the part."""
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    """Of the pods alone."""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def own_labels(self) -> dict[str, str]:
        """Labels of the object that makes the pods, but for the hash."""
        return {**self.part.labels, **self.labels}

    @property
    def revision(self) -> str:
        """Hash of all that the pods are made of."""
        return content_revision(labels_=self._labels(), annotations=self._annotations(), spec=self.spec)

    def render(self) -> Manifest:
        """Return the template; its pods carry the hash as REVISION label."""
        head: Manifest = {"labels": {**self._labels(), labels.REVISION: self.revision}}
        if annotations := self._annotations():
            head["annotations"] = annotations
        return {"metadata": head, "spec": self.spec}

    def _labels(self) -> dict[str, str]:
        return {**self.scheduling.pod_labels, **self.own_labels, **self.pod_labels}

    def _annotations(self) -> dict[str, str]:
        return {**self.scheduling.pod_annotations, **self.annotations}


def content_revision(*, labels_: Mapping[str, object], annotations: Mapping[str, object], spec: Manifest) -> str:
    """Return the hash of a pod template's content; its labels are those without the hash."""
    content: Manifest = {"labels": dict(labels_), "spec": spec}
    return names.content_hash({**content, "annotations": dict(annotations)} if annotations else content)


def revision_of(made: Manifest | None) -> str | None:
    """Return the hash that the pods of a rendered Deployment carry; None where none was rendered."""
    if made is None:
        return None
    head = made["metadata"]
    if not isinstance(head, dict):
        raise TypeError(f"expected metadata to be a dict, found {type(head).__name__}")
    return str(head["labels"][labels.REVISION])


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """How many pods there are, and how a change reaches them."""

    replicas: int
    progress_deadline_seconds: int
    strategy: str = "RollingUpdate"


def rolling_deployment(template: Template, rolling: Rolling, *, name: str) -> Manifest:
    """Return the Deployment; a RollingUpdate takes no pod away before its successor is ready."""
    strategy: Manifest = {"type": rolling.strategy}
    if rolling.strategy == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxSurge": 1, "maxUnavailable": 0}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(
            name,
            template.part.namespace,
            labels_={**template.own_labels, labels.REVISION: template.revision},
        ),
        "spec": {
            "replicas": rolling.replicas,
            "strategy": strategy,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": rolling.progress_deadline_seconds,
            "selector": {"matchLabels": template.part.selector},
            "template": template.render(),
        },
    }


def single_stateful_set(template: Template, rolling: Rolling, *, name: str) -> Manifest:
    """Return the StatefulSet of pods that keep something: an old pod is gone before its successor starts."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(
            name,
            template.part.namespace,
            labels_={**template.own_labels, labels.REVISION: template.revision},
        ),
        "spec": {
            "replicas": rolling.replicas,
            "serviceName": name,
            # with OrderedReady a template that can't start is never replaced by a better one
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": template.part.selector},
            "template": template.render(),
        },
    }
