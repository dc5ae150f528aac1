# SPDX-License-Identifier: Apache-2.0
"""RetrievalIndex: documents that are cut, embedded, searched, and built anew on a schedule.

Shape and local validity only. What depends on the cluster or on the sources is decided in plan/.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from cronsim import CronSim, CronSimError
from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from nimblet.api.access import MAX_KEY_VERSION, MAX_NAMESPACES, WEEK_SECONDS, NamespaceName, NamespaceSelector
from nimblet.api.common import (
    ConfigMapKeyRef,
    Duration,
    ModelRef,
    Parsed,
    PolicyRef,
    Quantity,
    SecretRef,
    SpecModel,
)
from nimblet.api.definition import (
    AGE_COLUMN,
    NAME_RULE,
    REASON_COLUMN,
    STATE_COLUMNS,
    Definition,
    PrinterColumn,
    Rule,
    rules,
)
from nimblet.api.indexsource import EVERYONE, MAX_SOURCES, LabelText, Source
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.api.indexstore import Store, Url
from nimblet.api.scheduling import Scheduling

MAX_GENERATIONS_KEPT: Final = 10
SCHEDULE_PATTERN: Final = r"^([0-9A-Za-z*/,#-]+ ){4}[0-9A-Za-z*/,#-]+$"
_EPOCH: Final = datetime(2026, 1, 1)  # noqa: DTZ001 - only the words of a schedule are tried

GenerationName = Annotated[str, StringConstraints(pattern=r"^g[0-9]{6}$", max_length=7)]
Prefix = Annotated[str, StringConstraints(max_length=200)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Language = Literal[
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "turkish",
]

EMBEDDING_RULE = Rule(
    rule="has(self.modelRef) != has(self.url)",
    message="name an embedding model by modelRef, or an endpoint by url: one of them",
)
ENDPOINT_RULE = Rule(
    rule="has(self.url) ? has(self.model) : !has(self.model) && !has(self.keySecretRef) && !has(self.revision)",
    message="url needs model; model, revision and keySecretRef belong to url",
    field_path=".model",
)
OVERLAP_RULE = Rule(rule="self.overlap < self.tokens", message="overlap must be smaller than tokens")
LAG_RULE = Rule(
    rule="!has(self.freshness) || has(self.schedule)",
    message="freshness.maxLag needs a schedule: nothing else builds again by itself",
    field_path=".freshness",
)

SERVERS_RULE = Rule(
    rule="!has(self.resources) || !has(self.resources.qdrant) || self.store.type == 'Dedicated'",
    message="resources.qdrant is for a Dedicated store",
    field_path=".resources.qdrant",
)


class Embedding(SpecModel):
    """What turns text into vectors. Another one, or another prefix, means a full new generation."""

    model_config = ConfigDict(json_schema_extra=rules(EMBEDDING_RULE, ENDPOINT_RULE))

    model_ref: ModelRef | None = Field(default=None, description="A CompactModel of task Embedding.")
    url: Url | None = Field(
        default=None,
        description="Base address, with /v1, of an OpenAI-compatible endpoint; its host must be in the "
        "administrator's fetch.allow.",
    )
    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", max_length=200)] | None = (
        Field(default=None, description="Name of the model in requests to url.")
    )
    revision: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] | None = (
        Field(
            default=None,
            description="Any text; change it when the model behind url changed. Nimblet can't see that by itself "
            "before a search shows it.",
        )
    )
    key_secret_ref: SecretRef | None = Field(
        default=None,
        description="A Secret with the key of url under `api-key`. It must carry the label nimblet.dev/use: "
        '"true" and name the host in the annotation nimblet.dev/hosts.',
    )
    query_prefix: Prefix = Field(default="", description="Put before questions, as some models want.")
    document_prefix: Prefix = Field(default="", description="Put before passages, as some models want.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.model_ref is None) == (self.url is None):
            raise ValueError(EMBEDDING_RULE.message)
        others = (self.model, self.key_secret_ref, self.revision)
        if (self.url is not None and self.model is None) or (
            self.url is None and any(item is not None for item in others)
        ):
            raise ValueError(ENDPOINT_RULE.message)
        return self


class Chunking(SpecModel):
    """How documents are cut into passages."""

    model_config = ConfigDict(json_schema_extra=rules(OVERLAP_RULE))

    tokens: Annotated[int, Field(strict=True, ge=16, le=8192)] = Field(
        default=256, description="Tokens, by the embedding model's own count, of a passage with its title."
    )
    overlap: Annotated[int, Field(strict=True, ge=0, le=4096)] = Field(
        default=32, description="Tokens at most that repeat the end of the passage before."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.overlap >= self.tokens:
            raise ValueError(OVERLAP_RULE.message)
        return self


class Freshness(SpecModel):
    """How old the index may become."""

    max_lag: Duration = Field(
        description="The condition Fresh goes False when the last good build began longer ago, such as `26h`. "
        "Longer than the schedule's interval and a build together."
    )


class Search(SpecModel):
    """What a search does unless its request says otherwise."""

    mode: Literal["Hybrid", "Dense", "Lexical"] = Field(
        default="Hybrid", description="Dense by vectors, Lexical by words (BM25), Hybrid by both rankings fused."
    )
    top_k: Annotated[int, Field(strict=True, ge=1, le=50)] = Field(default=5, description="Passages returned.")
    language: Language = Field(
        default="english", description="Stemmer and stop words of the lexical ranking; of new generations."
    )
    reranker_ref: ModelRef | None = Field(
        default=None, description="A CompactModel of task Rerank that orders the found passages again."
    )
    rerank_candidates: Annotated[int, Field(strict=True, ge=1, le=100)] | None = Field(
        default=None,
        description="Passages that the reranker orders, 20 when absent: more find more, and take its time each.",
    )
    rerank_timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=60)] | None = Field(
        default=None,
        description="How long a question waits for the reranker, 10 when absent; then the search's own order is "
        "answered.",
    )


class QualityGate(SpecModel):
    """Golden questions that a new generation must answer before it serves."""

    golden_ref: ConfigMapKeyRef = Field(
        description='A ConfigMap, labelled nimblet.dev/use: "true", with JSON lines of `id`, '
        "`question`, `document` and `quote`; the quote occurs in the document."
    )
    k: Annotated[int, Field(strict=True, ge=1, le=50)] = Field(
        default=5, description="How many of the first passages count."
    )
    min_recall: Share = Field(
        default=0.9, description="Share of the questions whose passage must be among the first k."
    )
    min_mrr: Share | None = Field(default=None, alias="minMRR", description="Least mean reciprocal rank.")
    min_ndcg: Share | None = Field(default=None, alias="minNDCG", description="Least nDCG at k.")


class ContainerResources(SpecModel):
    """Size of one container; memory is request and limit."""

    cpu: Quantity | None = Field(default=None, description="CPU request.")
    memory: Quantity | None = Field(default=None, description="Memory request and limit.")


class IndexResources(SpecModel):
    """Sizes of the pods."""

    retriever: ContainerResources = Field(
        default_factory=ContainerResources,
        description="The retriever; 250m and 1Gi when absent. An Embedded store needs memory for its vectors: "
        "about 2 kB a passage, and as much again while a generation is built.",
    )
    indexer: ContainerResources = Field(
        default_factory=ContainerResources, description="The build Jobs; 250m and 2Gi when absent."
    )
    qdrant: ContainerResources | None = Field(
        default=None,
        description="Each server of a Dedicated store; computed from the passages when absent.",
    )


class IndexAccess(SpecModel):
    """Who may call the retriever, and with which keys."""

    namespaces: Annotated[list[NamespaceName], Field(max_length=MAX_NAMESPACES)] = Field(
        default_factory=list,
        description="Namespaces, besides the resource's own, whose pods may call the retriever. They still need a "
        "key. Held by a NetworkPolicy, where the cluster's network enforces those.",
    )
    namespace_selector: NamespaceSelector | None = Field(
        default=None,
        description="Further namespaces by their labels. Whoever may label a namespace may then open it.",
    )
    labels: Annotated[list[LabelText], Field(min_length=1, max_length=100)] = Field(
        default_factory=lambda: [EVERYONE],
        description="Access labels that the generated keys have beyond those of the sources: what may be pushed "
        "and found.",
    )
    push: bool = Field(
        default=False,
        strict=True,
        description="Makes a Secret `<name>-push-key` whose key may push and delete documents.",
    )
    key_version: Annotated[int, Field(strict=True, ge=1, le=MAX_KEY_VERSION)] = Field(
        default=1,
        description="Another number is another set of generated keys. The retriever first accepts both, then the "
        "Secrets hold the new ones, and after `keyGraceSeconds` the old ones stop working. Count up.",
    )
    key_grace_seconds: Annotated[int, Field(strict=True, ge=0, le=WEEK_SECONDS)] = Field(
        default=300, description="How long old keys work on once the Secrets hold the new ones."
    )


class RetrievalIndexSpec(SpecModel):
    """What the user wants."""

    model_config = ConfigDict(json_schema_extra=rules(LAG_RULE, SERVERS_RULE))

    store: Store = Field(default_factory=Store, description="Where generations are kept and searched.")
    embedding: Embedding = Field(description="What turns text into vectors.")
    sources: Annotated[
        list[Source],
        Field(
            max_length=MAX_SOURCES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(
        min_length=1,
        description="What is indexed. Documents that a source no longer has leave with the next build.",
    )
    chunking: Chunking = Field(default_factory=Chunking, description="How documents are cut.")
    schedule: Annotated[str, StringConstraints(pattern=SCHEDULE_PATTERN, max_length=100)] | None = Field(
        default=None,
        description="When it is built again: five fields of cron, in UTC, such as `0 3 * * *`. Without one it is "
        "built when the spec or a ConfigMap of it changes, and when the annotation "
        "nimblet.dev/build-requested-at gets a new value.",
    )
    max_shrink_percent: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        default=50,
        description="A build that finds a source to have lost more than this share of its documents does not "
        "serve; 100 allows everything.",
    )
    freshness: Freshness | None = Field(default=None, description="How old the index may become.")
    search: Search = Field(default_factory=Search, description="What a search does by default.")
    quality_gate: QualityGate | None = Field(
        default=None, description="What a new generation must answer before it serves; nothing when absent."
    )
    retain_generations: Annotated[int, Field(strict=True, ge=1, le=MAX_GENERATIONS_KEPT)] = Field(
        default=1, description="Generations kept beside the serving one, to roll back to."
    )
    generation: GenerationName | None = Field(
        default=None,
        description="Pins the generation that serves, one of status.generations: this rolls back. Builds go on "
        "and do not serve. Remove it to serve the newest again.",
    )
    resources: IndexResources = Field(default_factory=IndexResources, description="Sizes of the pods.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where the pods run.")
    access: IndexAccess = Field(default_factory=IndexAccess, description="Who may call, and with which keys.")
    suspend: bool = Field(
        default=False, strict=True, description="Stops all pods and builds, and keeps everything else."
    )
    tee_policy_ref: PolicyRef | None = Field(
        default=None,
        description="A TEEPolicy that binds this resource beside those that select its namespace: it can add "
        "demands and take none away.",
    )

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                next(CronSim(value, _EPOCH))
            except (CronSimError, StopIteration) as error:
                raise ValueError(f"it is no schedule of cron that ever comes ({error})") from error
        return value

    @field_validator("sources")
    @classmethod
    def _named_once(cls, value: list[Source]) -> list[Source]:
        if len({source.name for source in value}) != len(value):
            raise ValueError("each source has a name of its own")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.freshness is not None and self.schedule is None:
            raise ValueError(LAG_RULE.message)
        if self.resources.qdrant is not None and self.store.type != "Dedicated":
            raise ValueError(SERVERS_RULE.message)
        return self


DEFINITION: Final = Definition(
    kind="RetrievalIndex",
    plural="retrievalindexes",
    singular="retrievalindex",
    short_names=("ridx",),
    description="Documents of several sources, searched by meaning and by words, and built anew on a schedule.",
    columns=(
        *STATE_COLUMNS,
        PrinterColumn(name="Generation", json_path=".status.servingGeneration"),
        PrinterColumn(name="Documents", json_path=".status.documents", type="integer"),
        PrinterColumn(name="Chunks", json_path=".status.chunks", type="integer"),
        PrinterColumn(name="Indexed", json_path=".status.lastIndexedTime", type="date"),
        AGE_COLUMN,
        REASON_COLUMN,
    ),
    root_rules=(NAME_RULE,),
)


class RetrievalIndex(Parsed):
    """A parsed RetrievalIndex."""

    build_requested_at: str = ""
    """Value of the annotation that asks for a build; any text, another text asks again."""
    spec: RetrievalIndexSpec
    status: RetrievalIndexStatus
