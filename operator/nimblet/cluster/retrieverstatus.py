# SPDX-License-Identifier: Apache-2.0
"""What a retriever is asked for the sake of an observation, and what its answer tells. Pure; no HTTP here."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from pydantic import Field, ValidationError

from nimblet.cluster.podstatus import StatusQuestion, Told, quoted
from nimblet.plan.facts import Answer, Observation
from nimblet.plan.indexfacts import (
    GateFacts,
    GenerationFacts,
    PartFacts,
    PointFacts,
    RetrieverFacts,
    SnapshotFacts,
    SnapshotsFacts,
    StoreServerFacts,
)

EVERY_SECONDS: Final = 8.0
"""Between two questions: what a retriever meets shows in no object, and must be told within 15 seconds."""


class _Health(Told):
    ok: bool
    reason: str = ""
    message: str = ""

    @property
    def facts(self) -> PartFacts:
        return PartFacts(ok=self.ok, reason=self.reason, message=quoted(self.message))


class _Server(Told):
    url: str
    used: bool
    version: str = ""
    collections: tuple[str, ...] = ()


class _Store(_Health):
    full: bool = False
    servers: tuple[_Server, ...] = ()
    trouble: _Health | None = None
    note: str = ""


class _Point(Told):
    threshold: float
    basis: str
    asked: int = 0
    answered: float = 0.0
    refused: float = 0.0


class _Gate(Told):
    passed: bool
    asked: int = 0
    recall: float = 0.0
    mrr: float = 0.0
    ndcg: float = 0.0
    failed: tuple[str, ...] = ()
    point: _Point | None = None


class _Generation(Told):
    name: str
    embedding: str = ""
    documents: int = 0
    chunks: int = 0
    bytes: int | None = None
    sealed: bool = False
    gate: _Gate | None = None

    @property
    def facts(self) -> GenerationFacts:
        gate = GateFacts(**self.gate.model_dump(exclude={"point"})) if self.gate is not None else None
        point = self.gate.point if self.gate is not None else None
        return GenerationFacts(
            name=self.name,
            embedding=self.embedding,
            sealed=self.sealed,
            documents=self.documents,
            chunks=self.chunks,
            bytes=self.bytes or 0,
            gate=gate,
            point=PointFacts(**point.model_dump()) if point is not None else None,
        )


class _Snapshot(Told):
    server: str
    collection: str
    name: str
    bytes: int = 0
    taken_at: datetime | None = None


class _Snapshots(_Health):
    held: tuple[_Snapshot, ...] = Field(default=(), max_length=200)


class _Pushes(Told):
    unembedded: int = Field(default=0, ge=0)


class RetrieverStatus(Told):
    """The part of a retriever's status that facts are made of."""

    serving: str | None = None
    generations: tuple[_Generation, ...] = Field(default=(), max_length=200)
    embedding: _Health
    store: _Store
    snapshots: _Snapshots | None = None
    pushes: _Pushes = _Pushes()

    @property
    def facts(self) -> RetrieverFacts:
        """The facts."""
        taken = self.snapshots
        return RetrieverFacts(
            serving=self.serving,
            generations=tuple(item.facts for item in self.generations),
            embedding=self.embedding.facts,
            store=self.store.facts,
            full=self.store.full,
            trouble=self.store.trouble.facts if self.store.trouble is not None else None,
            servers=tuple(StoreServerFacts(**item.model_dump()) for item in self.store.servers),
            note=self.store.note,
            unembedded=self.pushes.unembedded,
            snapshots=SnapshotsFacts(
                last=taken.facts, held=tuple(SnapshotFacts(**item.model_dump()) for item in taken.held)
            )
            if taken is not None
            else None,
        )


@dataclass(frozen=True, kw_only=True)
class RetrieverInquiry(StatusQuestion):
    """The question to the retriever of one index. `epoch` tells how what it relies on stands."""

    proof: str = "status"
    every: float = EVERY_SECONDS

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
    return replace(RetrieverStatus.model_validate_json(observation.text).facts, age=observation.age)
