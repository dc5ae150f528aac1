# SPDX-License-Identifier: Apache-2.0
"""CompactModel: one compact generative model that serves an OpenAI-compatible endpoint.

Shape and local validity only. What depends on the cluster or on the model's file is decided in plan/.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.access import Access
from nimblet.api.adapter import ADAPTER_TASK_RULE, MAX_ADAPTERS, UNIQUE_MESSAGE, Adapter, AdapterStatus
from nimblet.api.cache import CACHE_RULE, READ_WRITE_ONCE, Cache, CacheStatus
from nimblet.api.common import (
    Conditions,
    Parsed,
    PodsStatus,
    PolicyRef,
    Quantity,
    SpecModel,
    StatusModel,
)
from nimblet.api.definition import (
    AGE_COLUMN,
    NAME_RULE,
    REASON_COLUMN,
    STATE_COLUMNS,
    Definition,
    PrinterColumn,
    Rule,
    ScalePaths,
    rules,
)
from nimblet.api.encryption import CACHE_ENCRYPTION_RULE, ENCRYPTION_RULE
from nimblet.api.hardware import Hardware, HardwareStatus
from nimblet.api.integrity import Integrity
from nimblet.api.modelruntime import ModelRuntime, StrictInt
from nimblet.api.modelsource import ModelSource
from nimblet.api.scheduling import Scheduling
from nimblet.api.speculative import DraftStatus
from nimblet.api.teepolicy import PolicyStatus

MAX_ARTIFACT_FILES: Final = 48
"""Files of a resolved model: so many digests fit a termination message, packed."""

ServedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", max_length=100)]
Task = Literal["Chat", "Embedding", "Rerank", "Classify"]

HTTPS_RULE = Rule(
    rule="!self.source.uri.startsWith('https://') || "
    "(has(self.integrity) && (has(self.integrity.manifestRef) || has(self.integrity.signature) || "
    "(has(self.integrity.sha256) && self.integrity.sha256.size() > 0)))",
    message="an https:// source needs integrity.sha256, manifestRef or signature: a URL pins nothing by itself",
    field_path=".integrity",
)
SPECULATIVE_RULE = Rule(
    rule="!has(self.runtime.speculative) || self.task == 'Chat'",
    message="runtime.speculative is for the task Chat: the others make no text",
    field_path=".runtime.speculative",
)
IMMUTABLE_RULE = Rule(
    rule="self == oldSelf", message="task can't be changed: clients rely on it; make a new CompactModel"
)


class Resources(SpecModel):
    """Overrides of the computed sizes; requests and, for memory, limits are set to them."""

    cpu: Quantity | None = Field(default=None, description="CPU request and thread count instead of the computed.")
    memory: Quantity | None = Field(
        default=None, description="Memory request and limit of the server instead of the computed."
    )


class Rollout(SpecModel):
    """How a change reaches the pods."""

    strategy: Literal["RollingUpdate", "Recreate"] = Field(
        default="RollingUpdate",
        description="RollingUpdate keeps the old model serving until the new one answers; Recreate stops it "
        "first, for nodes that can't hold both.",
    )


class CompactModelSpec(SpecModel):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            HTTPS_RULE, CACHE_RULE, ENCRYPTION_RULE, CACHE_ENCRYPTION_RULE, SPECULATIVE_RULE, ADAPTER_TASK_RULE
        )
    )

    source: ModelSource = Field(description="Where the weights come from.")
    integrity: Integrity | None = Field(default=None, description="What the weights must be, and who signed them.")
    task: Task = Field(
        default="Chat",
        description="What the model is asked for, and so where it answers below status.endpoint. Chat: text at "
        "/chat/completions. Embedding: vectors at /embeddings. Rerank: scores of documents at /rerank. Classify: "
        "at /embeddings too, each vector being one raw score (logit) per label, in the order of "
        "status.artifact.labels. The model must be made for it. Immutable.",
        json_schema_extra=rules(IMMUTABLE_RULE),
    )
    served_model_name: ServedName | None = Field(
        default=None,
        description="Name of the model in requests and answers; the resource's name when absent.",
    )
    runtime: ModelRuntime = Field(
        default_factory=ModelRuntime, description="The model server and how it is set up."
    )
    adapters: (
        Annotated[
            list[Adapter],
            Field(
                min_length=1,
                max_length=MAX_ADAPTERS,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="LoRA adapters that are loaded beside the model. The model itself answers, unless a request "
        "chooses one as status.adapters tells.",
    )
    hardware: Hardware = Field(default_factory=Hardware, description="The kind of node it runs on.")
    resources: Resources = Field(
        default_factory=Resources, description="Overrides of the computed CPU and memory."
    )
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where the pods run.")
    access: Access = Field(default_factory=Access, description="Who may call, and with which keys.")
    suspend: bool = Field(
        default=False,
        strict=True,
        description="Stops all pods and starts no resolver, and keeps everything else; `replicas` stays as it is.",
    )
    replicas: Annotated[StrictInt, Field(ge=0, le=100)] = Field(
        default=1,
        description="Pods wanted. Leave it out of git where an autoscaler sets it through /scale.",
    )
    rollout: Rollout = Field(default_factory=Rollout, description="How a change reaches the pods.")
    cache: Cache | None = Field(
        default=None,
        description="Keeps the model's files on a claim. When absent, every pod fetches them for itself.",
    )
    allow_large: bool = Field(
        default=False,
        strict=True,
        description="Serves a model of more than 15 billion parameters, experts that no token meets included. "
        "Without it such a model is refused once its header is read: this is for compact models.",
    )
    tee_policy_ref: PolicyRef | None = Field(
        default=None,
        description="A TEEPolicy that binds this resource beside those that select its namespace: it can add "
        "demands and take none away.",
    )

    @property
    def adapter_names(self) -> tuple[str, ...]:
        """Names of the adapters, in their order."""
        return tuple(adapter.name for adapter in self.adapters or ())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source.uri.startswith("https://") and self.integrity is None:
            raise ValueError(HTTPS_RULE.message)
        shared = self.replicas > 1 or self.rollout.strategy != "Recreate"
        if self.cache is not None and self.cache.access_mode == READ_WRITE_ONCE and shared:
            raise ValueError(CACHE_RULE.message)
        if self.source.encryption is not None and self.integrity is None:
            raise ValueError(ENCRYPTION_RULE.message)
        sources = (self.source, *self.further_sources)
        if self.cache is not None and any(source.encryption is not None for source in sources):
            raise ValueError(CACHE_ENCRYPTION_RULE.message)
        if self.runtime.speculative is not None and self.task != "Chat":
            raise ValueError(SPECULATIVE_RULE.message)
        names = self.adapter_names
        if names and self.task != "Chat":
            raise ValueError(ADAPTER_TASK_RULE.message)
        if len(set(names)) != len(names):
            raise ValueError(UNIQUE_MESSAGE)
        return self

    @property
    def integrities(self) -> tuple[Integrity, ...]:
        """Return what the files must be: the model's, its adapters' and the drafting model's."""
        asked = self.runtime.speculative
        draft = asked.integrity if asked is not None else None
        stated = (self.integrity, *(adapter.integrity for adapter in self.adapters or ()), draft)
        return tuple(integrity for integrity in stated if integrity is not None)

    @property
    def further_sources(self) -> tuple[ModelSource, ...]:
        """Return the sources beside the model's own: its adapters' and the drafting model's."""
        asked = self.runtime.speculative
        draft = (asked.source,) if asked is not None and asked.source is not None else ()
        return (*(adapter.source for adapter in self.adapters or ()), *draft)


class ResolvedStatus(StatusModel):
    """What the plan chose where the spec left a choice."""

    runtime: str = Field(default="", description="Server that was chosen.")
    version: str = Field(default="", description="Version of the server, from its image's tag.")
    image: str = Field(default="", description="Image of the server.")
    profile: str = Field(default="", description="Hardware profile that was chosen.")
    hardware: HardwareStatus | None = Field(
        default=None, description="What of the profile was chosen, what was not, and why."
    )
    loader_image: str = Field(default="", description="Image of the loader in the pods.")
    weights_image: str = Field(
        default="", description="Image that the weights are mounted from, by digest; empty where a loader fetches."
    )
    spec_hash: str = Field(
        default="", description="Hash of the spec (without replicas) that the images were chosen for."
    )
    context_length: int = Field(default=0, description="Tokens of context per parallel request.")
    why: str = Field(default="", description="Why these were chosen.")


class SizingStatus(StatusModel):
    """The arithmetic behind the server's memory and CPU; bytes unless said otherwise."""

    weights_bytes: int = Field(default=0, description="Tensors of the model in memory.")
    kv_cache_bytes: int = Field(
        default=0, description="Key and value cache over all layers, slots and the whole context."
    )
    compute_bytes: int = Field(default=0, description="Scratch buffers of the graph and the output.")
    prompt_cache_bytes: int = Field(default=0, description="Cache of old prompts (--cache-ram).")
    runtime_bytes: int = Field(default=0, description="The server program itself, vocabulary and margin.")
    adapter_bytes: int | None = Field(default=None, description="Tensors of the adapters.")
    draft_bytes: int | None = Field(
        default=None, description="Weights, cache and scratch buffers of the drafting model."
    )
    total_bytes: int = Field(default=0, description="Sum of the above: the computed memory of one replica.")
    device_memory_bytes: int | None = Field(
        default=None, description="Memory that one replica needs on its devices, over all of them."
    )
    largest_context_length: int | None = Field(
        default=None,
        description="Where it does not fit: the largest contextLength that would, with the slots as they are.",
    )
    largest_parallel: int | None = Field(
        default=None,
        description="Where it does not fit: the most parallel that would, with the context as it is.",
    )
    overhead_bytes: int | None = Field(
        default=None, description="What the RuntimeClass of a TEEPolicy adds to each pod, beside `totalBytes`."
    )
    memory: str = Field(default="", description="Memory request and limit of the server container.")
    cpu: str = Field(default="", description="CPU request of the server container.")
    threads: int = Field(default=0, description="Compute threads of the server.")
    formula: Annotated[list[str], Field(max_length=12)] = Field(
        default_factory=list, description="The arithmetic with the numbers put in, one line a term."
    )


class ArtifactFile(StatusModel):
    """One file of the resolved model."""

    path: str = Field(description="Name inside the source.")
    size: int = Field(description="Length in bytes.")
    sha256: str = Field(
        default="",
        description="SHA-256 that the loader checks; where the source tells none, the one that it found.",
    )


class ArtifactStatus(StatusModel):
    """What the source turned out to be."""

    commit: str = Field(default="", description="Commit that the revision was resolved to.")
    files: Annotated[list[ArtifactFile], Field(max_length=MAX_ARTIFACT_FILES)] = Field(
        default_factory=list, description="Files that are loaded."
    )
    digest_source: str = Field(
        default="",
        description="Who vouches for the digests: Spec, Signature, Source (it reported them), Resolver (nobody, "
        "but it measured them when the source was resolved, and the loader accepts nothing else) or None.",
    )
    method: str | None = Field(
        default=None,
        description="How the files are verified: Digest (against the spec's), Key, Certificate or Sigstore; "
        "absent where the spec demands nothing.",
    )
    signer: str | None = Field(
        default=None,
        description="Who signed: SHA-256 of the public key's PEM, the certificate's subject, or the identity.",
    )
    verified_time: datetime | None = Field(
        default=None,
        description="When the files of this spec were found verified; absent while Verified is not True.",
    )
    key: str | None = Field(
        default=None,
        description="Encrypted weights: Secret (their key is a user's Secret, for tests), KBS (it is to come from "
        "a key broker) or KeyReleased (the broker released it to the guest of a pod that is ready). Absent for "
        "plain ones.",
    )
    architecture: str = Field(default="", description="Architecture named in the file's header.")
    parameters: int = Field(default=0, description="Number of weights.")
    dimension: int | None = Field(default=None, description="Task Embedding: numbers in a vector.")
    labels: Annotated[list[str], Field(max_length=16)] | None = Field(
        default=None, description="Task Classify: names of the classes, in the order of their scores."
    )


class CompactModelStatus(PodsStatus):
    """What was observed. Written only when it changes."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation this status is about.")
    conditions: Conditions = Field(
        default_factory=list,
        description="Serving: it answers now. Ready: the current spec is what answers. Resolved, Verified, "
        "Placed: the stages before. Reconciling and Stalled exist only while True.",
    )
    resolved: ResolvedStatus | None = Field(default=None, description="What was chosen, and why.")
    sizing: SizingStatus | None = Field(default=None, description="The arithmetic of memory and CPU.")
    artifact: ArtifactStatus | None = Field(default=None, description="What the source was resolved to.")
    draft: DraftStatus | None = Field(
        default=None, description="The model that drafts, with `runtime.speculative` of type Draft."
    )
    adapters: Annotated[list[AdapterStatus], Field(max_length=MAX_ADAPTERS)] | None = Field(
        default=None,
        description="The adapters of the spec, once all are resolved, in the order in which the server has them.",
    )
    cache: CacheStatus | None = Field(
        default=None, description="The claim that holds the files, with `spec.cache`."
    )
    policy: PolicyStatus | None = Field(
        default=None, description="What the TEEPolicies that bind it come to; absent where none does."
    )
    endpoint: str = Field(
        default="", description="Base URL inside the cluster; spec.task tells the path below it."
    )
    key_secret: str = Field(default="", description="Secret whose key `api-key` opens the endpoint.")
    download_percent: int | None = Field(
        default=None, description="Progress of the slowest running download, in steps of 10."
    )


DEFINITION: Final = Definition(
    kind="CompactModel",
    plural="compactmodels",
    singular="compactmodel",
    short_names=("cmodel",),
    description="A compact generative model that serves an OpenAI-compatible endpoint.",
    columns=(
        *STATE_COLUMNS,
        PrinterColumn(name="Runtime", json_path=".status.resolved.runtime"),
        PrinterColumn(name="Profile", json_path=".status.resolved.profile"),
        PrinterColumn(name="Model", json_path=".spec.source.uri"),
        AGE_COLUMN,
        REASON_COLUMN,
    ),
    root_rules=(NAME_RULE,),
    scale=ScalePaths(),
)


class CompactModel(Parsed):
    """A parsed CompactModel."""

    spec: CompactModelSpec
    status: CompactModelStatus
