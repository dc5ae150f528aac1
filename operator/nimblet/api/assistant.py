# SPDX-License-Identifier: Apache-2.0
"""Assistant: one model, the indexes it answers from, and one OpenAI-compatible endpoint with citations.

Shape and local validity only. Whether the model and the indexes are there and serve is decided in plan/.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.access import EndpointAccess
from nimblet.api.adapter import AdapterName
from nimblet.api.common import (
    Conditions,
    ModelRef,
    ObjectName,
    Parsed,
    PodsStatus,
    PolicyRef,
    Quantity,
    SecretRef,
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
from nimblet.api.scheduling import Scheduling
from nimblet.api.teepolicy import PolicyStatus

MAX_INDEXES: Final = 8
MAX_PROMPT: Final = 8000

StrictInt = Annotated[int, Field(strict=True)]
Grounding = Literal["Required", "Preferred", "Off"]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=200)]

GROUNDED_RULE = Rule(
    rule="self.grounding == 'Off' || (has(self.indexRefs) && self.indexRefs.size() > 0)",
    message="grounding Required and Preferred need an index: name one in indexRefs, or set grounding: Off",
    field_path=".indexRefs",
)
FALLBACK_RULE = Rule(
    rule="!has(self.fallback) || self.fallback.modelRef.name != self.modelRef.name",
    message="the fallback must be another model than modelRef",
    field_path=".fallback",
)
PASSAGES_RULE = Rule(
    rule="self.maxPassages <= self.topK", message="maxPassages can't exceed topK: nothing more was looked for"
)


class IndexRef(SpecModel):
    """A RetrievalIndex in the same namespace."""

    name: ObjectName = Field(description="Name of a RetrievalIndex in the resource's own namespace.")


class GuardRef(SpecModel):
    """A CompactModel that judges questions and answers."""

    name: ObjectName = Field(
        description="Name of a CompactModel in the resource's own namespace: of task Chat, a guard model that "
        "answers with the word safe or unsafe; of task Classify, a classifier whose labels `blocked` names."
    )
    blocked: Annotated[
        list[ClassName], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(default_factory=list, description="Task Classify: the labels that block a text.")
    threshold_percent: Annotated[StrictInt, Field(ge=1, le=99)] = Field(
        default=50,
        description="Task Classify: probability of the blocked labels, in percent, that blocks a text.",
    )


class Fallback(SpecModel):
    """What answers while the model does not."""

    model_ref: ModelRef = Field(
        description="Another CompactModel of task Chat. It takes requests that the model fails before an answer "
        "began; an answer that began is never changed."
    )


class Limits(SpecModel):
    """What one key, and all together, may ask for. Replicas share rates and concurrency."""

    requests_per_minute: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Requests a minute of each key; the next one gets 429. No limit when absent."
    )
    tokens_per_minute: Annotated[StrictInt, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="Tokens a minute, of prompts and answers, of each key. No limit when absent."
    )
    concurrency: Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default=8, description="Requests at the model at the same time; others wait in the queue."
    )
    queue: Annotated[StrictInt, Field(ge=0, le=10_000)] = Field(
        default=32, description="Requests that wait for their turn; the next one gets 503."
    )
    request_seconds: Annotated[StrictInt, Field(ge=1, le=3600)] = Field(
        default=120, description="Time that one request may take, from its end to the end of the answer."
    )
    max_tokens: Annotated[StrictInt, Field(ge=1, le=131_072)] = Field(
        default=1024, description="Longest answer in tokens, and its length where a request asks for none."
    )
    body_bytes: Annotated[StrictInt, Field(ge=1024, le=16_777_216)] = Field(
        default=1_048_576, description="Longest request in bytes."
    )


class Retrieval(SpecModel):
    """How much is looked for, and shown to the model."""

    model_config = ConfigDict(json_schema_extra=rules(PASSAGES_RULE))

    top_k: Annotated[StrictInt, Field(ge=1, le=50)] = Field(
        default=10, description="Passages that each index is asked for."
    )
    max_passages: Annotated[StrictInt, Field(ge=1, le=20)] = Field(
        default=3,
        description="Passages that the model is shown at most. Small models answer better from few; fewer are "
        "shown where the model's context is short.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_passages > self.top_k:
            raise ValueError(PASSAGES_RULE.message)
        return self


class GatewayResources(SpecModel):
    """Size of a gateway's pod."""

    cpu: Quantity | None = Field(default=None, description="CPU request; 100m when absent.")
    memory: Quantity | None = Field(default=None, description="Memory request and limit; 256Mi when absent.")


class AssistantSpec(SpecModel):
    """What the user wants."""

    model_config = ConfigDict(json_schema_extra=rules(GROUNDED_RULE, FALLBACK_RULE))

    model_ref: ModelRef = Field(description="The CompactModel, of task Chat, that writes the answers.")
    adapter: AdapterName | None = Field(
        default=None,
        description="The adapter of that CompactModel that writes the answers; the model itself when absent. A "
        "fallback answers without one.",
    )
    index_refs: Annotated[
        list[IndexRef],
        Field(
            max_length=MAX_INDEXES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(
        default_factory=list,
        description="The indexes that answers come from. Several are asked together and their passages merged.",
    )
    guard_ref: GuardRef | None = Field(
        default=None,
        description="A model that sees every question and every answer first, and blocks what is unsafe. While it "
        "does not answer, nothing is.",
    )
    grounding: Grounding = Field(
        default="Required",
        description="Required: refuses where nothing relevant is found, and leaves out every sentence that no "
        "found passage supports. Preferred: answers all the same, and cites what supports it. Off: the model "
        "alone answers. A supported sentence is one whose names, numbers and content words all occur in one cited "
        "passage: that tells where it comes from, not that it is true.",
    )
    system_prompt: Annotated[str, StringConstraints(max_length=MAX_PROMPT)] = Field(
        default="",
        description="Style and role of the answers. It can't loosen the grounding.",
    )
    retrieval: Retrieval = Field(default_factory=Retrieval, description="How much is looked for and shown.")
    fallback: Fallback | None = Field(default=None, description="What answers while the model does not.")
    limits: Limits = Field(default_factory=Limits, description="What may be asked for.")
    api_keys_secret_ref: SecretRef | None = Field(
        default=None,
        description="A Secret with keys of your own beside the generated one: each entry is one key, its name the "
        "key's id, its content the key itself or a JSON record: `key` or `sha256`, and where wanted `access` (the "
        "access labels of documents that it may see), `requestsPerMinute`, `tokensPerMinute`, `expires`. It must "
        'carry the label nimblet.dev/use: "true". A change reaches the pods within about two minutes, without a '
        "restart.",
    )
    access: EndpointAccess = Field(
        default_factory=EndpointAccess, description="Who may call, and the generated key."
    )
    resources: GatewayResources = Field(default_factory=GatewayResources, description="Size of a gateway's pod.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where the gateway's pods run.")
    suspend: bool = Field(
        default=False, strict=True, description="Stops the gateway's pods, and keeps everything else."
    )
    replicas: Annotated[StrictInt, Field(ge=0, le=100)] = Field(
        default=1,
        description="Gateway pods wanted. Leave it out of git where an autoscaler sets it through /scale.",
    )
    tee_policy_ref: PolicyRef | None = Field(
        default=None,
        description="A TEEPolicy that binds this resource beside those that select its namespace: it can add "
        "demands and take none away.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.grounding != "Off" and not self.index_refs:
            raise ValueError(GROUNDED_RULE.message)
        if self.fallback is not None and self.fallback.model_ref.name == self.model_ref.name:
            raise ValueError(FALLBACK_RULE.message)
        names = [item.name for item in self.index_refs]
        if len(set(names)) != len(names):
            raise ValueError("each index may stand in indexRefs once")
        return self


class UsedIndexStatus(StatusModel):
    """An index that answers come from."""

    name: str = Field(description="Name of the RetrievalIndex.")
    generation: str = Field(default="", description="Generation of it that is searched.")
    documents: int = Field(default=0, ge=0, description="Documents in it.")
    chunks: int = Field(default=0, ge=0, description="Passages in it.")


class AssistantStatus(PodsStatus):
    """What was observed. Written only when it changes."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation this status is about.")
    conditions: Conditions = Field(
        default_factory=list,
        description="Serving: it answers now. Ready: the current spec is what answers, and the gateway's test of "
        "itself found a passage and got a token. Reconciling and Stalled exist only while True.",
    )
    endpoint: str = Field(
        default="", description="Base URL of the endpoint inside the cluster, for any OpenAI client."
    )
    key_secret: str = Field(default="", description="Secret whose key `api-key` opens the endpoint.")
    configuration: str = Field(
        default="",
        description="Hash of the gateway's configuration that the spec asks for; the gateway tells its own.",
    )
    indexes: Annotated[
        list[UsedIndexStatus],
        Field(
            max_length=MAX_INDEXES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list, description="The indexes, and what of them is searched.")
    policy: PolicyStatus | None = Field(
        default=None, description="What the TEEPolicies that bind it come to; absent where none does."
    )
    image: str = Field(default="", description="Image of the gateway.")
    spec_hash: str = Field(
        default="", description="Hash of the spec (without replicas) that the image was chosen for."
    )


DEFINITION: Final = Definition(
    kind="Assistant",
    plural="assistants",
    singular="assistant",
    short_names=("asst",),
    description="A model that answers from indexes and cites them, behind one OpenAI-compatible endpoint.",
    columns=(
        *STATE_COLUMNS,
        PrinterColumn(name="Model", json_path=".spec.modelRef.name"),
        PrinterColumn(name="Grounding", json_path=".spec.grounding"),
        PrinterColumn(name="Endpoint", json_path=".status.endpoint", priority=1),
        AGE_COLUMN,
        REASON_COLUMN,
    ),
    root_rules=(NAME_RULE,),
    scale=ScalePaths(),
)


class Assistant(Parsed):
    """A parsed Assistant."""

    spec: AssistantSpec
    status: AssistantStatus
