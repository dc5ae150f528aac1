# SPDX-License-Identifier: Apache-2.0
"""What is told about an index: generations, counts, sources, the last build and gate. Shape only."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from nimblet.api.common import Conditions, StatusModel
from nimblet.api.teepolicy import PolicyStatus

MAX_ERRORS: Final = 20
MAX_FAILED: Final = 20
MAX_GENERATIONS: Final = 32
MAX_EMBEDDINGS: Final = 4
MAX_SERVERS: Final = 8
MAX_COLLECTIONS: Final = 100
MAX_SNAPSHOTS: Final = 128
MAX_UNEMBEDDED: Final = 20


class GateStatus(StatusModel):
    """What the golden questions gave for one generation."""

    generation: str = Field(default="", description="Generation that was asked.")
    passed: bool = Field(default=False, description="Whether it may serve.")
    asked: int = Field(default=0, ge=0, description="Questions.")
    recall: float = Field(default=0.0, description="Share of questions whose passage was among the first k.")
    mrr: float = Field(default=0.0, description="Mean reciprocal rank of the passage.")
    ndcg: float = Field(default=0.0, description="Normalised discounted cumulative gain at k.")
    failed: Annotated[list[str], Field(max_length=MAX_FAILED)] = Field(
        default_factory=list, description="Ids of the first questions that fell."
    )


class OperatingPointStatus(StatusModel):
    """From which score on Assistants answer from the serving generation."""

    generation: str = Field(default="", description="Generation that it is of.")
    basis: str = Field(
        default="",
        description="Calibrated; or why the default stays: NoGoldenQuestions, TooFewQuestions or Inseparable.",
    )
    threshold: float | None = Field(
        default=None,
        description="Score that a question's best passage must reach; absent where the default stays.",
    )
    asked: int = Field(default=0, ge=0, description="Golden questions.")
    answered: float = Field(default=0.0, description="Share of them that is answered.")
    refused: float = Field(
        default=0.0, description="Share that is refused where their own documents are left out."
    )
    message: str = Field(default="", description="The same in words, and what to do.")


class SourceStatus(StatusModel):
    """What the last good build read of a source."""

    name: str = Field(description="Name of the source.")
    revision: str = Field(default="", description="Commit of a git source.")
    hash: str = Field(default="", description="Hash over the names and contents that were read.")
    documents: int = Field(default=0, ge=0, description="Documents that were indexed.")
    refused: int = Field(default=0, ge=0, description="Files that were left out.")


class FileErrorStatus(StatusModel):
    """A file that was left out."""

    file: str = Field(description="Source and path of the file.")
    reason: str = Field(default="", description="One word for programs.")
    message: str = Field(default="", description="What was found, and what to do.")


class GenerationStatus(StatusModel):
    """A generation that is kept."""

    name: str = Field(description="Its name, g and six digits; a later one is higher.")
    documents: int = Field(default=0, ge=0, description="Documents in it.")
    chunks: int = Field(default=0, ge=0, description="Passages in it.")
    bytes: int = Field(default=0, ge=0, description="Its size in the store.")


class BuildStatus(StatusModel):
    """One build: what it was made for, and what became of it."""

    generation: str = Field(default="", description="Generation that it makes.")
    inputs: str = Field(
        default="", description="Hash of what it reads and how: sources, cutting, embedding, gate."
    )
    request: str = Field(default="", description="Value of nimblet.dev/build-requested-at that it answers.")
    started_at: datetime | None = Field(default=None, description="When it began to read.")
    finished_at: datetime | None = Field(default=None, description="When it ended.")


class ServersStatus(StatusModel):
    """Where the serving generation lies in a Dedicated store."""

    number: int = Field(
        default=1,
        ge=1,
        description="Number of their set: the first StatefulSet is `<name>-qdrant`, a later one "
        "`<name>-qdrant-s<number>`.",
    )
    count: int = Field(default=0, ge=0, description="Servers that its parts are spread over.")
    copies: int = Field(default=1, ge=1, description="Copies of each part.")


class StoreServerStatus(StatusModel):
    """An address of the store's servers."""

    url: str = Field(description="REST address.")
    version: str = Field(default="", description="Version of Qdrant there, as it says.")
    collections: Annotated[list[str], Field(max_length=MAX_COLLECTIONS)] = Field(
        default_factory=list, description="This index's collections there, the first of them."
    )


class SnapshotStatus(StatusModel):
    """One server's snapshot of one collection."""

    server: str = Field(description="REST address of the server.")
    collection: str = Field(default="", description="Collection that it is of.")
    name: str = Field(default="", description="Its file, in the collection's folder on the server's volume.")
    bytes: int = Field(default=0, ge=0, description="Its size.")
    taken_at: datetime | None = Field(default=None, description="When it was begun.")


class EmbeddingStatus(StatusModel):
    """The embedding model of a generation, as the retriever asks it."""

    fingerprint: str = Field(description="Names the model and all that changes a vector.")
    url: str = Field(default="", description="Where it is asked.")
    model: str = Field(default="", description="What requests call it.")
    key_secret: str = Field(default="", description="Secret with its key.")
    key_entry: str = Field(default="", description="Entry of that Secret.")
    tokenizer: str = Field(default="", description="Who counts tokens: LlamaCpp (the model itself) or Estimate.")
    query_prefix: str = Field(default="", description="Put before questions.")
    document_prefix: str = Field(default="", description="Put before passages.")


class RetrievalIndexStatus(StatusModel):
    """What was observed. Written only when it changes."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation this status is about.")
    conditions: Conditions = Field(
        default_factory=list,
        description="Serving: it answers now. Ready: what answers is of the current spec. Resolved: all that the "
        "spec names is there. Indexed: how the last build ended. GatePassed: what the golden questions said of "
        "it. Fresh: whether the index is young enough. Snapshotted: whether the last snapshots went well. "
        "Reconciling and Stalled exist only while True.",
    )
    endpoint: str = Field(default="", description="Base URL of the retriever inside the cluster.")
    key_secret: str = Field(default="", description="Secret whose key `api-key` may search.")
    serving_generation: str = Field(default="", description="Generation that answers.")
    building_generation: str = Field(default="", description="Generation that is being built.")
    build_percent: int | None = Field(default=None, description="Progress of the running build, in steps of 10.")
    documents: int = Field(default=0, ge=0, description="Documents of the serving generation.")
    chunks: int = Field(default=0, ge=0, description="Passages of the serving generation.")
    bytes: int = Field(default=0, ge=0, description="Size of the serving generation.")
    last_indexed_time: datetime | None = Field(
        default=None, description="When the last good build began to read: older changes are in."
    )
    generations: Annotated[
        list[GenerationStatus],
        Field(
            max_length=MAX_GENERATIONS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list, description="Complete generations that are kept; `spec.generation` names one.")
    unembedded_pushes: int = Field(
        default=0,
        ge=0,
        le=MAX_UNEMBEDDED,
        description="Pushed documents that the embedding model refuses, and that are found by their words only; "
        f"{MAX_UNEMBEDDED} means that many or more. The retriever's own status names them.",
    )
    servers: ServersStatus | None = Field(
        default=None, description="Where the serving generation lies in a Dedicated store."
    )
    store_servers: Annotated[
        list[StoreServerStatus],
        Field(
            max_length=MAX_SERVERS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["url"]},
        ),
    ] = Field(
        default_factory=list,
        description="Where a Dedicated or External store is, as the retriever told. `nimblet index purge` removes "
        "an External store's collections once the RetrievalIndex is deleted.",
    )
    snapshots: Annotated[list[SnapshotStatus], Field(max_length=MAX_SNAPSHOTS)] = Field(
        default_factory=list,
        description="Snapshots of a Dedicated store, the newest of each collection and server first: what is "
        "restored from. It stays as it was while nothing serves.",
    )
    sources: Annotated[
        list[SourceStatus],
        Field(
            max_length=MAX_GENERATIONS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list, description="What the last good build read.")
    refused: int = Field(default=0, ge=0, description="Files that the last good build left out.")
    errors: Annotated[list[FileErrorStatus], Field(max_length=MAX_ERRORS)] = Field(
        default_factory=list, description="The first of them."
    )
    gate: GateStatus | None = Field(default=None, description="What the golden questions last gave.")
    operating_point: OperatingPointStatus | None = Field(
        default=None, description="From which score on Assistants answer from the serving generation."
    )
    build: BuildStatus | None = Field(default=None, description="The last build that ended well.")
    embeddings: Annotated[
        list[EmbeddingStatus],
        Field(
            max_length=MAX_EMBEDDINGS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["fingerprint"]},
        ),
    ] = Field(
        default_factory=list,
        description="Embedding models that the retriever knows: the spec's, then those of kept generations.",
    )
    policy: PolicyStatus | None = Field(
        default=None, description="What the TEEPolicies that bind it come to; absent where none does."
    )
    image: str = Field(default="", description="Image of the retriever.")
    spec_hash: str = Field(default="", description="Hash of the spec that the image was chosen for.")
    replicas: int = Field(default=0, ge=0, description="Retriever pods that exist.")
    ready_replicas: int = Field(default=0, ge=0, description="Retriever pods that answer.")
