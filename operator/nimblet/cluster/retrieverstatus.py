# SPDX-License-Identifier: Apache-2.0
"""What a retriever is asked for the sake of an observation, and what its answer tells. Pure; no HTTP here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from nimblet.plan.facts import Answer, Observation
from nimblet.plan.indexfacts import GateFacts, GenerationFacts, PartFacts, RetrieverFacts, StoreServerFacts

STATUS_PATH: Final = "/v1/status"
LASTS_SECONDS: Final = 8.0
"""How long an answer holds: what a retriever meets shows in no object, and must be told within 15 seconds."""
MAX_WORDS: Final = 300
"""Longest quote of a retriever's words, in characters."""


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class _Health(_Told):
    ok: bool
    reason: str = ""
    message: str = ""

    @property
    def facts(self) -> PartFacts:
        words = self.message if len(self.message) <= MAX_WORDS else f"{self.message[:MAX_WORDS]} …"
        return PartFacts(ok=self.ok, reason=self.reason, message=words)


class _Server(_Told):
    url: str
    used: bool
    version: str = ""
    collections: tuple[str, ...] = ()


class _Store(_Health):
    full: bool = False
    servers: tuple[_Server, ...] = ()
    trouble: _Health | None = None
    note: str = ""


class _Gate(_Told):
    passed: bool
    asked: int = 0
    recall: float = 0.0
    mrr: float = 0.0
    ndcg: float = 0.0
    failed: tuple[str, ...] = ()


class _Generation(_Told):
    name: str
    embedding: str = ""
    documents: int = 0
    chunks: int = 0
    bytes: int | None = None
    sealed: bool = False
    gate: _Gate | None = None

    @property
    def facts(self) -> GenerationFacts:
        gate = GateFacts(**self.gate.model_dump()) if self.gate is not None else None
        return GenerationFacts(
            name=self.name,
            embedding=self.embedding,
            sealed=self.sealed,
            documents=self.documents,
            chunks=self.chunks,
            bytes=self.bytes or 0,
            gate=gate,
        )


class RetrieverStatus(_Told):
    """The part of a retriever's status that facts are made of."""

    serving: str | None = None
    generations: tuple[_Generation, ...] = Field(default=(), max_length=200)
    embedding: _Health
    store: _Store

    @property
    def facts(self) -> RetrieverFacts:
        """The facts."""
        return RetrieverFacts(
            serving=self.serving,
            generations=tuple(item.facts for item in self.generations),
            embedding=self.embedding.facts,
            store=self.store.facts,
            full=self.store.full,
            trouble=self.store.trouble.facts if self.store.trouble is not None else None,
            servers=tuple(StoreServerFacts(**item.model_dump()) for item in self.store.servers),
            note=self.store.note,
        )


@dataclass(frozen=True, kw_only=True)
class RetrieverInquiry:
    """The question to the retriever of one index. `epoch` tells how what it relies on stands."""

    epoch: str = ""
    proof: str = "status"
    method: Literal["GET"] = "GET"
    path: str = STATUS_PATH
    body: Mapping[str, object] | None = None
    lasts: float | None = LASTS_SECONDS

    def judge(self, body: bytes, *, source_hash: str) -> Observation:
        """Return that it answered, with what facts are read from; `source_hash` does not matter to it."""
        del source_hash
        try:
            status = RetrieverStatus.model_validate_json(body)
        except ValidationError:
            return Observation(answer=Answer.FAILED, detail="HTTP 200 without a retriever's status")
        return Observation(answer=Answer.ANSWERED, text=status.model_dump_json())


def retriever_facts(observation: Observation | None) -> RetrieverFacts | None:
    """Return what a retriever told, None where it has told nothing."""
    if observation is None or not observation.text:
        return None
    return RetrieverStatus.model_validate_json(observation.text).facts
