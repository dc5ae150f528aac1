# SPDX-License-Identifier: Apache-2.0
"""TEEPolicy: on which confidential hardware pods must, or should, run. Shape and local validity only.

It makes nothing itself. What it asks of a pod is decided in plan/tee.py, and what the API server refuses beside
the operator stands in the chart's ValidatingAdmissionPolicy.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.access import NamespaceSelector
from nimblet.api.attestation import Attestation, AttestationStatus
from nimblet.api.common import ObjectName, SpecModel, StatusModel
from nimblet.api.definition import Definition, PrinterColumn, Rule, rules
from nimblet.api.scheduling import Key, LabelValue

Technology = Literal["TDX", "SNP", "SGX", "NVIDIA-CC"]
Enforcement = Literal["Required", "Preferred"]
CLASS_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

RuntimeClassName = Annotated[str, StringConstraints(pattern=CLASS_PATTERN, max_length=253)]

SGX_RULE = Rule(
    rule="!('SGX' in self.technologies) || (has(self.overrides) && "
    "self.overrides.exists(item, item.technology == 'SGX' && has(item.runtimeClassName)))",
    message="SGX has no RuntimeClass of its own: name the one of your library OS in overrides",
    field_path=".technologies",
)
OVERRIDE_RULE = Rule(
    rule="!has(self.overrides) || self.overrides.all(item, item.technology in self.technologies)",
    message="each technology of overrides must stand in technologies",
    field_path=".overrides",
)
SAYS_RULE = Rule(
    rule="has(self.runtimeClassName) || has(self.nodeLabels)",
    message="an override names a runtimeClassName, nodeLabels or both",
)


class Override(SpecModel):
    """What a site calls a technology, where that differs from what kata-deploy and NFD call it."""

    model_config = ConfigDict(json_schema_extra=rules(SAYS_RULE))

    technology: Technology = Field(description="Which technology.")
    runtime_class_name: RuntimeClassName | None = Field(
        default=None, description="RuntimeClass of the pods instead of kata-deploy's."
    )
    node_labels: Annotated[dict[Key, LabelValue], Field(min_length=1, max_length=8)] | None = Field(
        default=None, description="Labels of the nodes instead of those of Node Feature Discovery."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.runtime_class_name is None and self.node_labels is None:
            raise ValueError(SAYS_RULE.message)
        return self


class WeightsPolicy(SpecModel):
    """What the weights of a bound CompactModel must be."""

    require_signature: bool = Field(
        default=False, strict=True, description="Weights without a verified signature are refused."
    )
    require_encryption: bool = Field(
        default=False,
        strict=True,
        description="Plaintext weights are refused: the sources of the CompactModel, of its adapters and of its "
        "drafting model must name encryption. A key out of a Secret is enough for attestation.mode Simulated "
        "alone.",
    )


class TEEPolicySpec(SpecModel):
    """What pods must, or should, run on."""

    model_config = ConfigDict(json_schema_extra=rules(SGX_RULE, OVERRIDE_RULE))

    technologies: Annotated[
        list[Technology], Field(min_length=1, max_length=4, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(description="Any of these, the first that the cluster offers.")
    enforcement: Enforcement = Field(
        description="Required: no pod without it. Preferred: without it pods run as if there were no policy, and "
        "the condition PolicyEnforced says so."
    )
    namespace_selector: NamespaceSelector | None = Field(
        default=None,
        description="Binds every CompactModel, RetrievalIndex and Assistant of these namespaces. When absent it "
        "binds those alone that name it in teePolicyRef. Whoever may label a namespace may take it out.",
    )
    overrides: Annotated[
        list[Override],
        Field(
            max_length=4,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["technology"]},
        ),
    ] = Field(default_factory=list, description="What this cluster calls the technologies.")
    attestation: Attestation = Field(description="How the place is proved.")
    weights: WeightsPolicy = Field(
        default_factory=WeightsPolicy, description="What the weights of a bound CompactModel must be."
    )
    on_violation: Literal["Keep", "Evict"] = Field(
        default="Keep",
        description="What becomes of pods that run already where a Required policy does not allow them. Keep: "
        "they stay until something replaces them, and nothing new is made that breaks it. Evict: they end at "
        "once.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = [item.technology for item in self.overrides]
        if len(set(named)) != len(named) or len(set(self.technologies)) != len(self.technologies):
            raise ValueError("each technology may stand once")
        if not set(named) <= set(self.technologies):
            raise ValueError(OVERRIDE_RULE.message)
        if "SGX" in self.technologies and not any(
            item.technology == "SGX" and item.runtime_class_name for item in self.overrides
        ):
            raise ValueError(SGX_RULE.message)
        return self


class PolicyStatus(StatusModel):
    """What the TEEPolicies that bind a resource come to. In the status of what is bound."""

    policies: Annotated[list[ObjectName], Field(max_length=16)] = Field(
        default_factory=list, description="TEEPolicies that bind it, by namespace or by teePolicyRef."
    )
    enforcement: str = Field(default="", description="Required where one of them is, else Preferred.")
    technology: str = Field(default="", description="Technology that was chosen; empty where none was found.")
    runtime_class: str = Field(default="", description="RuntimeClass of the pods.")
    proof: str = Field(
        default="",
        description="Simulated: nothing is proved. Attested: the operator checked a token of every pod that runs. "
        "Pending: it has not, or not of every pod. Empty without a place.",
    )
    attestation: AttestationStatus | None = Field(
        default=None, description="What was checked of the pods' tokens, where policies have a gate."
    )
    initdata_sha256: str = Field(default="", description="SHA-256 of the initdata that the pods carry.")
    not_covered: Annotated[list[str], Field(max_length=8)] = Field(
        default_factory=list, description="What the policies do not protect."
    )


class TEEPolicyStatus(StatusModel):
    """Nothing: what a policy does shows in what it binds."""


DEFINITION: Final = Definition(
    kind="TEEPolicy",
    plural="teepolicies",
    singular="teepolicy",
    short_names=("teep",),
    description="On which confidential hardware the pods of models, indexes and assistants must, or should, run.",
    namespaced=False,
    columns=(
        PrinterColumn(name="Technologies", json_path=".spec.technologies"),
        PrinterColumn(name="Enforcement", json_path=".spec.enforcement"),
        PrinterColumn(name="Proof", json_path=".spec.attestation.mode"),
        PrinterColumn(name="OnViolation", json_path=".spec.onViolation"),
        PrinterColumn(name="Age", json_path=".metadata.creationTimestamp", type="date"),
    ),
)


class TEEPolicy(SpecModel):
    """A parsed TEEPolicy."""

    model_config = ConfigDict(extra="ignore")

    name: str
    spec: TEEPolicySpec
