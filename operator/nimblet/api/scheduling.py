# SPDX-License-Identifier: Apache-2.0
"""The part of a pod's scheduling that users decide: a typed, bounded subset in Kubernetes' own words.

Shape and local validity only. No selector reaches another namespace, and no key of ours or Kubernetes' can be set.
"""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from nimblet.api.common import ObjectName, SpecModel
from nimblet.api.definition import Rule, rules

_NAME: Final = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
KEY_PATTERN: Final = f"^{_DOMAIN}{_NAME}$"
"""A qualified name, as labels, annotations and taints have."""
RESERVED_PATTERN: Final = (
    r"^(([-a-z0-9]+\.)*(nimblet\.dev|kubernetes\.io|k8s\.io|cncf\.io)/"
    r"|io\.kubernetes|io\.katacontainers|pod-template-hash$|controller-revision-hash$)"
)
"""Ours, Kubernetes' own, and those that container runtimes and network plugins obey."""
EVICTION_PREFIX: Final = "cluster-autoscaler.kubernetes.io/"
"""The one exception: whether the autoscaler may move a pod is the user's choice."""
MAX_ENTRIES: Final = 16

Key = Annotated[str, StringConstraints(pattern=KEY_PATTERN, max_length=317)]
LabelValue = Annotated[str, StringConstraints(pattern=rf"^({_NAME})?$", max_length=63)]
AnnotationValue = Annotated[str, StringConstraints(max_length=1024)]
Labels = Annotated[dict[Key, LabelValue], Field(max_length=MAX_ENTRIES)]
Weight = Annotated[int, Field(strict=True, ge=1, le=100)]

TOLERATION_RULE = Rule(
    rule="has(self.key) || self.operator == 'Exists'",
    message="a toleration without a key tolerates every taint: it needs operator Exists",
)
TOLERATION_VALUE_RULE = Rule(
    rule="!(has(self.value) && self.operator == 'Exists')",
    message="operator Exists compares no value: remove it",
)
TOLERATION_SECONDS_RULE = Rule(
    rule="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
    message="tolerationSeconds is known to effect NoExecute only",
)
VALUES_RULE = Rule(
    rule="self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : "
    "(self.operator in ['Gt', 'Lt'] ? has(self.values) && self.values.size() == 1 : "
    "!has(self.values) || self.values.size() == 0)",
    message="In and NotIn need values, Gt and Lt one number, Exists and DoesNotExist none",
)
SELECTS_RULE = Rule(
    rule="has(self.matchLabels) && self.matchLabels.size() > 0 || "
    "has(self.matchExpressions) && self.matchExpressions.size() > 0",
    message="an empty labelSelector selects nothing: set matchLabels or matchExpressions",
)
RESERVED_RULE = Rule(
    rule=f"self.all(key, !key.matches('{RESERVED_PATTERN.replace(chr(92), chr(92) * 2)}') || "
    f"key.startsWith('{EVICTION_PREFIX}'))",
    message="keys of nimblet.dev, kubernetes.io, k8s.io, cncf.io and of container runtimes are reserved: "
    "use a key of your own",
)


def is_reserved(key: str) -> bool:
    """Tell whether a label or annotation key is not the user's to set."""
    return re.match(RESERVED_PATTERN, key) is not None and not key.startswith(EVICTION_PREFIX)


class Toleration(SpecModel):
    """A taint that the pods stand."""

    model_config = ConfigDict(
        json_schema_extra=rules(TOLERATION_RULE, TOLERATION_VALUE_RULE, TOLERATION_SECONDS_RULE)
    )

    key: Key | None = Field(default=None, description="Key of the taint; every key when absent.")
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", description="Equal compares `value`; Exists takes any value."
    )
    value: LabelValue | None = Field(default=None, description="Value of the taint; empty when absent.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; every effect when absent."
    )
    toleration_seconds: Annotated[int, Field(strict=True, ge=0, le=86400 * 365)] | None = Field(
        default=None, description="How long a NoExecute taint is stood; for ever when absent."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.key is None and self.operator != "Exists":
            raise ValueError(TOLERATION_RULE.message)
        if self.value is not None and self.operator == "Exists":
            raise ValueError(TOLERATION_VALUE_RULE.message)
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(TOLERATION_SECONDS_RULE.message)
        return self


class _Requirement(SpecModel):
    """A key, an operator and the values it compares."""

    model_config = ConfigDict(json_schema_extra=rules(VALUES_RULE))

    key: Key = Field(description="Label that is looked at.")
    operator: str
    values: Annotated[list[LabelValue], Field(max_length=MAX_ENTRIES)] = Field(
        default_factory=list, description="Values that are compared with the label's."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        count = len(self.values)
        fits = {"In": count > 0, "NotIn": count > 0, "Gt": count == 1, "Lt": count == 1}
        if not fits.get(self.operator, count == 0):
            raise ValueError(VALUES_RULE.message)
        return self


class NodeRequirement(_Requirement):
    """A condition on a node's label."""

    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="How `values` are compared; Gt and Lt compare whole numbers."
    )


class PodRequirement(_Requirement):
    """A condition on a pod's label."""

    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How `values` are compared.")


class NodeTerm(SpecModel):
    """Conditions that one node must meet together."""

    match_expressions: Annotated[list[NodeRequirement], Field(min_length=1, max_length=8)] = Field(
        description="Conditions on the node's labels; all must hold."
    )


class NodeSelector(SpecModel):
    """Alternatives, one of which a node must meet."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=8)] = Field(
        description="Alternatives; one must hold."
    )


class PreferredNodes(SpecModel):
    """Nodes that are better than others."""

    weight: Weight = Field(description="How much better, 1 to 100.")
    preference: NodeTerm = Field(description="Which nodes.")


class NodeAffinity(SpecModel):
    """Which nodes the server's pods may or should go to."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        default=None, description="Nodes that are allowed."
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredNodes], Field(max_length=8)] = (
        Field(default_factory=list, description="Nodes that are better.")
    )


class PodSelector(SpecModel):
    """Pods of the resource's own namespace, by their labels."""

    model_config = ConfigDict(json_schema_extra=rules(SELECTS_RULE))

    match_labels: Labels = Field(default_factory=dict, description="Labels that the pods carry.")
    match_expressions: Annotated[list[PodRequirement], Field(max_length=8)] = Field(
        default_factory=list, description="Conditions on the pods' labels; all must hold."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.match_labels and not self.match_expressions:
            raise ValueError(SELECTS_RULE.message)
        return self


class PodTerm(SpecModel):
    """Pods of the own namespace, and what counts as near to them."""

    label_selector: PodSelector = Field(description="Which pods; only those of the resource's own namespace.")
    topology_key: Key = Field(
        description="Label of nodes: nodes with the same value of it are near, such as `kubernetes.io/hostname`."
    )


class PreferredPods(SpecModel):
    """A nearness, or distance, that is better than others."""

    weight: Weight = Field(description="How much better, 1 to 100.")
    pod_affinity_term: PodTerm = Field(description="Near to, or far from, which pods.")


class PodAffinity(SpecModel):
    """Nearness to pods (podAffinity) or distance from them (podAntiAffinity)."""

    required_during_scheduling_ignored_during_execution: Annotated[list[PodTerm], Field(max_length=8)] = Field(
        default_factory=list, description="What must hold."
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredPods], Field(max_length=8)] = (
        Field(default_factory=list, description="What should hold.")
    )


class Affinity(SpecModel):
    """Where the server's pods may or should run."""

    node_affinity: NodeAffinity | None = Field(default=None, description="By the nodes' labels.")
    pod_affinity: PodAffinity | None = Field(default=None, description="Near to pods of the own namespace.")
    pod_anti_affinity: PodAffinity | None = Field(default=None, description="Far from pods of the own namespace.")


class Spread(SpecModel):
    """How the replicas are spread."""

    topology_key: Key = Field(description="Label of nodes over whose values the replicas are spread.")
    max_skew: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        default=1, description="By how many replicas two values may differ."
    )
    when_unsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"] = Field(
        default="ScheduleAnyway", description="Whether a pod may run where the spread can't be kept."
    )


class Scheduling(SpecModel):
    """Where the pods run, in Kubernetes' own words; a subset of what a pod has."""

    node_selector: Labels = Field(
        default_factory=dict,
        description="Labels that a node must have. Holds for the server and for the resolver, so that a pool that "
        "only admits such pods works. Whether any node fits is said before a pod is made.",
    )
    tolerations: Annotated[list[Toleration], Field(max_length=MAX_ENTRIES)] = Field(
        default_factory=list, description="Taints that the pods of the server and of the resolver stand."
    )
    affinity: Affinity | None = Field(
        default=None, description="Nodes and pods that the server's pods should be at, near to or far from."
    )
    spread: (
        Annotated[
            list[Spread],
            Field(
                min_length=1,
                max_length=4,
                json_schema_extra={
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["topologyKey", "whenUnsatisfiable"],
                },
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="How the replicas are spread; over hosts as far as possible when absent.",
    )
    priority_class_name: ObjectName | None = Field(
        default=None, description="PriorityClass of the server's pods; the cluster's default when absent."
    )
    pod_labels: Labels = Field(
        default_factory=dict,
        description="Further labels of the pods of the server and the resolver. Keys of nimblet.dev, "
        "kubernetes.io, k8s.io and cncf.io are reserved.",
        json_schema_extra=rules(RESERVED_RULE),
    )
    pod_annotations: Annotated[dict[Key, AnnotationValue], Field(max_length=MAX_ENTRIES)] = Field(
        default_factory=dict,
        description="Further annotations of the same pods, with the same reserved keys; those of "
        "cluster-autoscaler.kubernetes.io may be set.",
        json_schema_extra=rules(RESERVED_RULE),
    )

    @field_validator("pod_labels", "pod_annotations")
    @classmethod
    def _not_reserved(cls, value: dict[str, str]) -> dict[str, str]:
        if any(is_reserved(key) for key in value):
            raise ValueError(RESERVED_RULE.message)
        return value

    @field_validator("spread")
    @classmethod
    def _each_once(cls, value: list[Spread] | None) -> list[Spread] | None:
        seen = [(item.topology_key, item.when_unsatisfiable) for item in value or ()]
        if len(seen) != len(set(seen)):
            raise ValueError("topologyKey and whenUnsatisfiable name a spread: each pair may stand there once")
        return value
