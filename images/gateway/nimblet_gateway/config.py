# SPDX-License-Identifier: Apache-2.0
"""The gateway's configuration file: what the operator renders and this program reads. Parsing only."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from nimblet_relevance.relevance import OperatingPoint

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+[^\s?#/]$", max_length=1000)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ConfigModel(BaseModel):
    """Base: frozen, camelCase in the file, an unknown key is an error at start."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Grounding(StrEnum):
    """How an answer is bound to the indexes."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"
    OFF = "Off"


class ModelConfig(ConfigModel):
    """A chat model: an OpenAI-compatible endpoint."""

    url: Url = Field(description="Base address, with /v1.")
    name: Name = Field(description="Name of the model in requests.")
    key_file: Path | None = Field(default=None, description="File with the endpoint's API key.")
    context_length: int = Field(ge=256, description="Tokens that prompt and answer share.")
    parallel: int = Field(default=1, ge=1, description="Requests that the model answers at the same time.")
    system_role: bool = Field(
        default=True,
        description="Whether the chat template has a system role; else system text is put into the user's.",
    )
    request: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Fields that each request carries: what chooses an adapter of the model at its server.",
    )


class IndexConfig(ConfigModel):
    """An index: a retriever's address."""

    name: Name = Field(description="Name of the index, in citations.")
    url: Url = Field(description="Base address, without /v1.")
    key_file: Path | None = Field(default=None, description="File with the retriever's key, scope search.")


class GuardConfig(ConfigModel):
    """A model that judges questions and answers."""

    url: Url = Field(description="Base address, with /v1.")
    name: Name = Field(description="Name of the model in requests.")
    key_file: Path | None = Field(default=None, description="File with the endpoint's API key.")
    task: Literal["Chat", "Classify"] = Field(
        default="Chat",
        description="Chat: a guard model that answers with the word safe or unsafe. Classify: a classifier, "
        "one raw score per label.",
    )
    labels: tuple[Name, ...] = Field(
        default=(), max_length=16, description="Classify: the labels in the order of the scores."
    )
    blocked: frozenset[Name] = Field(default=frozenset(), description="Classify: labels that block a text.")
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="Classify: blocked from this probability of the blocked labels on."
    )

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        if self.task == "Classify" and (not self.blocked or not self.blocked <= set(self.labels)):
            raise ValueError("a Classify guard needs labels, and blocked must name some of them")
        return self


class OperatorKey(ConfigModel):
    """The operator's key, for /v1/status."""

    sha256: Sha256 = Field(description="SHA-256 of the key.")


class Limits(ConfigModel):
    """What one key, and all together, may ask for. Rates are of the whole Assistant: replicas share them."""

    requests_per_minute: int | None = Field(default=None, ge=1, description="Of each key; none when absent.")
    tokens_per_minute: int | None = Field(
        default=None, ge=1, description="Prompt and answer, of each key; none when absent."
    )
    concurrency: int = Field(default=8, ge=1, description="Requests at the model at the same time.")
    queue: int = Field(default=32, ge=0, description="Requests that wait for their turn; the next one gets 503.")
    request_seconds: float = Field(default=120.0, gt=0, description="From the request's end to the answer's.")
    max_tokens: int = Field(default=1024, ge=1, description="Longest answer, and its default.")
    body_bytes: int = Field(default=2**20, ge=1024, description="Longest request.")


class RetrievalConfig(ConfigModel):
    """How much is looked for and shown to the model."""

    top_k: int = Field(default=10, ge=1, le=50, description="Passages that each index is asked for.")
    max_passages: int = Field(default=3, ge=1, le=20, description="Passages that the model is shown at most.")
    threshold: float = Field(
        default=OperatingPoint().threshold,
        ge=0,
        le=1,
        description="From which relevance of the passages a question is answered, where a generation was not "
        "calibrated by golden questions: see docs/grounding.md.",
    )
    quote_instead: bool = Field(
        default=True,
        description="Required: when no sentence of the model's is supported, answer with the passages' own best "
        "sentence, marked as a quote; false refuses.",
    )
    wait_seconds: float = Field(
        default=10.0,
        ge=0,
        description="How long an index that restarts is waited for before it counts as missing.",
    )


class TracingConfig(ConfigModel):
    """Where traces go."""

    endpoint: Url = Field(description="OTLP over HTTP, with /v1/traces.")


class GatewayConfig(ConfigModel):
    """The whole file."""

    version: Literal[1]
    assistant: Name = Field(description="Name of the Assistant: the model's name for clients.")
    configuration: Name = Field(description="Hash of this configuration, as /v1/status answers it.")
    grounding: Grounding = Field(description="Required, Preferred or Off.")
    model: ModelConfig = Field(description="The model that answers.")
    indexes: tuple[IndexConfig, ...] = Field(default=(), max_length=16, description="Where passages come from.")
    guard: GuardConfig | None = Field(default=None, description="Judges questions and answers.")
    fallback: ModelConfig | None = Field(
        default=None, description="Answers while the model does not; never once an answer has begun."
    )
    keys_dir: Path = Field(description="Folder of keys: see keys.py.")
    operator_key: OperatorKey | None = Field(default=None, description="Who may ask for /v1/status.")
    limits: Limits = Limits()
    retrieval: RetrievalConfig = RetrievalConfig()
    replicas: int = Field(default=1, ge=1, description="Gateways that share the limits.")
    tracing: TracingConfig | None = None
    system_prompt: str = Field(
        default="", max_length=8000, description="Style and role, put before what clients say about themselves."
    )

    @model_validator(mode="after")
    def _required_needs_an_index(self) -> Self:
        if self.grounding is Grounding.REQUIRED and not self.indexes:
            raise ValueError("grounding Required needs at least one index")
        names = [index.name for index in self.indexes]
        if len(set(names)) != len(names):
            raise ValueError("two indexes have one name")
        return self


def read_config(path: Path) -> GatewayConfig:
    """Return the configuration. OSError and pydantic's ValidationError name what is wrong."""
    return GatewayConfig.model_validate_json(path.read_bytes())
