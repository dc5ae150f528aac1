# SPDX-License-Identifier: Apache-2.0
"""The retriever's configuration file: what the operator renders and this program reads. Parsing only."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from nimblet_retriever.store.chunk import Mode

Id = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Label = Annotated[str, StringConstraints(max_length=200)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+[^\s?#/]$", max_length=1000)]


class ConfigModel(BaseModel):
    """Base: frozen, camelCase in the file, an unknown key is an error at start."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class EmbeddedConfig(ConfigModel):
    """Qdrant's engine in this process."""

    type: Literal["Embedded"] = "Embedded"
    folder: Path = Field(description="Where the volume is mounted.")
    reserve_bytes: int = Field(default=256 * 2**20, ge=0, description="Space that builds and pushes leave free.")
    push_passages: int = Field(
        default=10_000, ge=0, description="Pushed passages at most: they are held in memory."
    )
    builder_memory_bytes: int = Field(default=2 * 2**30, ge=2**28, description="Memory of a build's own process.")


class CollectionConfig(ConfigModel):
    """How new generations are laid out on a server."""

    shards: int = Field(default=1, ge=1, le=128, description="Parts of a generation, spread over the servers.")
    replication_factor: int = Field(default=1, ge=1, le=8, description="Copies of each part.")
    write_consistency_factor: int = Field(
        default=1, ge=1, le=8, description="Copies that must have a write before it counts."
    )
    memory: Literal["InMemory", "OnDisk"] = Field(
        default="InMemory", description="Vectors and words in memory, or mapped from the volume."
    )
    quantization: Literal["None", "Scalar", "Binary"] = Field(
        default="None", description="The compressed copy that is searched; candidates are scored again whole."
    )


class SnapshotConfig(ConfigModel):
    """Snapshots that the retriever takes of its collections: of the serving generation and of pushed documents."""

    servers: tuple[Url, ...] = Field(
        min_length=1,
        max_length=32,
        description="REST address of each server: a snapshot is one server's own.",
    )
    retain: int = Field(default=2, ge=1, le=10, description="Snapshots of a collection that each server keeps.")
    every_seconds: int = Field(
        default=86_400, ge=60, description="Age at which those of pushed documents are taken anew."
    )
    folder: str = Field(
        default="/qdrant/snapshots", pattern=r"^/", max_length=200, description="Where a server keeps them."
    )


class ServerConfig(ConfigModel):
    """A Qdrant server, the operator's or the user's."""

    type: Literal["Server"] = "Server"
    url: Url = Field(description="REST address of the server.")
    prefix: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}$")] = Field(
        description="Begins the names of all collections of this index: the resource's uid."
    )
    former: tuple[Url, ...] = Field(
        default=(),
        max_length=8,
        description="Servers that are left for those of url, by the same key: they answer until a generation "
        "that was built there serves.",
    )
    key_file: Path | None = Field(
        default=None, description="File with the server's API key, read again when it changes."
    )
    tls_folder: Path | None = Field(
        default=None,
        description="Folder with ca.crt, read again when it changes: servers asked by https are verified by these "
        "authorities alone. By those of the system when absent.",
    )
    collection: CollectionConfig | None = Field(
        default=None, description="How new generations are laid out; as the server does by itself when absent."
    )
    snapshots: SnapshotConfig | None = Field(
        default=None, description="Takes snapshots on the servers of url; none without."
    )


class EmbeddingConfig(ConfigModel):
    """The embedding model: an OpenAI-compatible endpoint."""

    url: Url = Field(description="Base address, with /v1.")
    model: str = Field(min_length=1, max_length=200, description="Name of the model in requests.")
    key_file: Path | None = Field(default=None, description="File with the endpoint's API key.")
    fingerprint: str = Field(
        min_length=1,
        max_length=200,
        description="Digest of the model's weights and of every setting that changes a vector; another one means "
        "a new generation.",
    )
    query_prefix: str = Field(default="", max_length=200, description="Put before questions, as some models want.")
    document_prefix: str = Field(default="", max_length=200, description="Put before passages.")
    tokenizer: Literal["LlamaCpp", "Estimate"] = Field(
        default="LlamaCpp",
        description="Who counts tokens: the server's own /tokenize, or, where it has none, an upper estimate.",
    )
    batch: int = Field(default=32, ge=1, le=2048, description="Texts in one request.")
    timeout_seconds: float = Field(default=60.0, gt=0, description="Of one request.")


class SearchConfig(ConfigModel):
    """What a search does unless its request says otherwise."""

    mode: Mode = Field(default=Mode.HYBRID, description="Dense, Lexical or Hybrid.")
    top_k: int = Field(default=5, ge=1, le=50, description="Passages returned.")
    candidates: int = Field(default=50, ge=1, le=1000, description="Passages that each ranking puts in.")
    language: str = Field(
        default="english", max_length=20, description="Stemmer and stop words of new generations."
    )


class RerankerConfig(ConfigModel):
    """A reranking model: llama.cpp's /v1/rerank, and others of that shape."""

    url: Url = Field(description="Base address, with /v1.")
    model: str = Field(min_length=1, max_length=200, description="Name of the model in requests.")
    key_file: Path | None = Field(default=None, description="File with the endpoint's API key.")
    candidates: int = Field(default=20, ge=1, le=100, description="Passages of a search that it orders.")
    timeout_seconds: float = Field(
        default=10.0, gt=0, description="Of one request; then the search's own order is answered."
    )


class TracingConfig(ConfigModel):
    """Where traces go."""

    endpoint: Url = Field(description="Base address of an OTLP receiver over HTTP; /v1/traces is added.")


class PushConfig(ConfigModel):
    """How pushed documents are cut, and the limits of parsing one."""

    tokens: int = Field(default=256, ge=16, le=8192, description="Tokens of what is embedded at once.")
    overlap: int = Field(default=32, ge=0, description="Tokens at most that repeat the end of the passage before.")
    file_bytes: int = Field(default=24 * 2**20, ge=1, description="Largest content that is read.")
    memory_bytes: int = Field(default=2**30, ge=2**28, description="Address space of the parser process.")
    seconds: float = Field(default=60.0, gt=0, description="Time to parse one document.")


class RetrieverConfig(ConfigModel):
    """The whole file."""

    version: Literal[1]
    index: str = Field(min_length=1, max_length=63, description="The index's name, in citations.")
    store: Annotated[EmbeddedConfig | ServerConfig, Field(discriminator="type")]
    embedding: EmbeddingConfig
    former_embeddings: tuple[EmbeddingConfig, ...] = Field(
        default=(),
        max_length=8,
        description="Models of older generations that are kept: questions to those are embedded by them.",
    )
    search: SearchConfig = SearchConfig()
    reranker: RerankerConfig | None = Field(default=None, description="Orders what a search finds; none without.")
    tracing: TracingConfig | None = Field(default=None, description="Sends traces; none without.")
    push: PushConfig = PushConfig()
    keys_file: Path = Field(description="Who may ask: see keys.py.")


def read_config(path: Path) -> RetrieverConfig:
    """Return the configuration. OSError and pydantic's ValidationError name what is wrong."""
    return RetrieverConfig.model_validate_json(path.read_bytes())
