# SPDX-License-Identifier: Apache-2.0
"""What is known of the TEEPolicies and of the places they ask for, gathered beforehand: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nimblet.api.teepolicy import TEEPolicy


@dataclass(frozen=True, kw_only=True)
class RuntimeClassFacts:
    """A RuntimeClass: what each pod of it costs beside its containers, and the nodes that it chooses itself."""

    name: str
    memory_bytes: int = 0
    cpu_millicores: int = 0
    node_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LiveWorkload:
    """A Deployment, StatefulSet or unfinished Job of the resource; `runtime_class` is its pod template's."""

    kind: str
    name: str
    uid: str
    runtime_class: str = ""
    keeps_claims: bool = False
    """A StatefulSet whose claims may go with it."""


@dataclass(frozen=True, kw_only=True)
class LivePod:
    """A pod of the resource that has not ended."""

    name: str
    runtime_class: str = ""


@dataclass(frozen=True, kw_only=True)
class TEEFacts:
    """All that decides what TEEPolicies ask of one resource."""

    policies: tuple[TEEPolicy, ...] = ()
    """All policies of the cluster, sorted by name."""
    unreadable: str = ""
    """Why it is not known which policies there are: then there may be one that forbids every pod."""
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    runtime_classes: tuple[RuntimeClassFacts, ...] = ()
    initdata: Mapping[str, str] = field(default_factory=dict)
    """Policy → the annotation's value, where its ConfigMap has one."""
    workloads: tuple[LiveWorkload, ...] = ()
    pods: tuple[LivePod, ...] = ()
