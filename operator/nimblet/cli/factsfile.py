# SPDX-License-Identifier: Apache-2.0
"""What a facts file may hold: the cluster that an offline plan sees. Shape alone; nothing is read here."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from nimblet.api.common import Quantity
from nimblet.plan.artifact import Artifact


class FactsModel(BaseModel):
    """Base of a facts file: unknown keys are errors, since a typing mistake would change the plan in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class TaintEntry(FactsModel):
    """A taint of a node."""

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "NoExecute"] = "NoSchedule"


class NodeEntry(FactsModel):
    """A node by its totals."""

    name: str
    memory: Quantity = Field(description="Allocatable memory, such as 24Gi.")
    cpu: Quantity = Field(description="Allocatable CPU, such as 2 or 1900m.")
    labels: dict[str, str] = Field(default_factory=dict)
    resources: dict[str, Quantity] = Field(
        default_factory=dict, description="Allocatable extended resources, such as nvidia.com/gpu, and huge pages."
    )
    schedulable: bool = True
    taints: tuple[TaintEntry, ...] = ()


class SecretEntry(FactsModel):
    """The referenced Secret as the operator would see it."""

    usable: bool = True
    hosts: tuple[str, ...] = ("huggingface.co",)
    keys: tuple[str, ...] = ("token",)
    for_weights: bool = Field(default=False, description="It has the annotation that lets it decrypt weights.")


class RuntimeClassEntry(FactsModel):
    """A RuntimeClass of the cluster."""

    name: str
    memory: Quantity = Field(default="0", description="Overhead of each pod, such as 160Mi.")
    cpu: Quantity = Field(default="0", description="Overhead of each pod, such as 250m.")
    node_labels: dict[str, str] = Field(default_factory=dict, description="Its scheduling.nodeSelector.")


class FactsFile(FactsModel):
    """What an offline plan may look at. Every part may be absent."""

    about: dict[str, str] = Field(
        default_factory=dict, description="What the facts are of and who published them; nothing is planned by it."
    )
    nodes: tuple[NodeEntry, ...] = ()
    artifact: Artifact | None = Field(
        default=None, description="The resolver's result: artifact.json of the <model>-artifact-… ConfigMap."
    )
    artifacts: dict[str, Artifact] = Field(
        default_factory=dict,
        description="The same by the model's name, where several models are planned, and by `<model>/<adapter>` "
        "and `<model>/runtime.speculative`.",
    )
    secret: SecretEntry | None = None
    secrets: dict[str, SecretEntry] = Field(
        default_factory=dict, description="Secrets that an index or an Assistant names, by name."
    )
    config_maps: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="ConfigMaps labelled for use that an index reads: their keys, by name."
    )
    claims: tuple[str, ...] = Field(default=(), description="Claims labelled for use that an index reads.")
    storage_classes: tuple[str, ...] | None = Field(
        default=None, description="The cluster's StorageClasses, the default first; absent: not looked at."
    )
    cache_filled: bool = Field(
        default=False, description="With spec.cache: its claim is bound and filled, so that the server comes next."
    )
    own_keys: SecretEntry | None = Field(
        default=None, description="The Secret of access.apiKeysSecretRef; its key is `api-keys`."
    )
    weights_key: SecretEntry | None = Field(
        default=None, description="The Secret of source.encryption.keySecretRef; its key is `identity`."
    )
    chat_template: str | None = Field(default=None, description="The text of runtime.chatTemplate.")
    pod_security: Literal["privileged", "baseline", "restricted"] | None = Field(
        default=None, description="What the namespace's label pod-security.kubernetes.io/enforce says."
    )
    trust: dict[str, str] = Field(
        default_factory=dict, description="The texts that integrity names, by `<ConfigMap>/<key>`."
    )
    runtime_classes: tuple[RuntimeClassEntry, ...] = Field(
        default=(), description="The cluster's RuntimeClasses, as far as a TEEPolicy may ask for them."
    )
    namespace_labels: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="Labels of namespaces, by name, which a TEEPolicy selects by."
    )
