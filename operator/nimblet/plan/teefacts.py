# SPDX-License-Identifier: Apache-2.0
"""What is known of the TEEPolicies and of the places they ask for, gathered beforehand: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

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
    component: str = ""
    created_at: datetime | None = None
    version: str = ""
    """resourceVersion as which it was seen."""


@dataclass(frozen=True, kw_only=True)
class LivePod:
    """A pod of the resource that has not ended."""

    name: str
    runtime_class: str = ""
    component: str = ""
    node: str = ""
    """Where it runs; "" while it has no node."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """What it was placed by, its RuntimeClass's labels among it."""
    created_at: datetime | None = None
    uid: str = ""
    gated: bool = True
    """It has a gate, or has not begun yet."""
    opened: bool = False
    """Its gate has let the other containers start."""
    gate_exit: int | None = None
    """With which code its gate ended, where it does not run."""


@dataclass(frozen=True, kw_only=True)
class PodReport:
    """What a pod's gate answered to a nonce; "" while it has not. Nobody has judged it."""

    nonce: str
    text: str = field(repr=False)
    asked_at: datetime
    again_at: datetime
    """When it is worth to ask anew."""


@dataclass(frozen=True, kw_only=True)
class AttestationTexts:
    """Texts that a policy names in ConfigMaps of the operator's namespace; None where one is not there."""

    keys: str | None = None
    ca: str | None = None


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
    texts: Mapping[str, AttestationTexts] = field(default_factory=dict)
    """Policy → the texts that its attestation names."""
    reports: Mapping[str, PodReport] = field(default_factory=dict)
    """Uid of a pod → what its gate answered."""
    operator_namespace: str = ""
    """Who may ask the gates."""
