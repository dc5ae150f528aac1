# SPDX-License-Identifier: Apache-2.0
"""Requests and answers of the retriever's HTTP interface, in JSON. Parsing and shapes only."""

from typing import Annotated

from pydantic import Field, StringConstraints

from nimblet_retriever.config import ConfigModel, Id, Label
from nimblet_retriever.retrieval import PassageIn
from nimblet_retriever.store.chunk import Hit, Mode
from nimblet_retriever.store.generation import Counts, Generation, Name, Token


class RetrieveRequest(ConfigModel):
    """POST /v1/retrieve. Filters narrow what the caller's key may see.

    `access` does so for who asks for somebody else: only labels that the key has, too, count.
    """

    query: Annotated[str, StringConstraints(min_length=1, max_length=8000)]
    top_k: int | None = Field(default=None, ge=1, le=50)
    mode: Mode | None = None
    sources: frozenset[Label] = Field(default=frozenset(), max_length=100)
    documents: frozenset[Id] = Field(default=frozenset(), max_length=100)
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=20)
    access: frozenset[Label] | None = Field(default=None, max_length=100)


class PassageAnswer(ConfigModel):
    """A found passage. `id` is the citation's: index/document/chunk@generation."""

    id: str
    document: str
    chunk: int
    text: str
    source: str
    title: str
    location: str
    labels: dict[str, str]
    score: float
    similarity: float | None


class RetrieveAnswer(ConfigModel):
    """Passages, best first, all of the generation named and of the pushes up to `push`.

    `score` compares within one answer; `similarity`, the cosine to the question, between answers by one model.
    `reranked` is false where the reranker failed, null where there is none. `threshold` is from which score on a
    question is answered from this generation; null where golden questions did not calibrate it.
    """

    index: str
    generation: str
    push: int
    reranked: bool | None
    threshold: float | None = None
    passages: tuple[PassageAnswer, ...]


class BeginRequest(ConfigModel):
    """POST /v1/builds."""

    name: Name
    token: Token


class BeginAnswer(ConfigModel):
    """The build that was begun or resumed."""

    name: str
    dimension: int
    embedding: str


class AddRequest(ConfigModel):
    """POST /v1/builds/{name}/{token}/passages."""

    passages: tuple[PassageIn, ...] = Field(min_length=1, max_length=1000)


class AddAnswer(ConfigModel):
    """Durable now."""

    embedded: int
    reused: int


class TokensRequest(ConfigModel):
    """POST /v1/tokens."""

    texts: tuple[Annotated[str, StringConstraints(max_length=1_000_000)], ...] = Field(max_length=1000)


class TokensAnswer(ConfigModel):
    """Tokens of each text by the embedding model's tokenizer."""

    counts: tuple[int, ...]


class ServeRequest(ConfigModel):
    """PUT /v1/serving."""

    generation: Name


class GenerationAnswer(ConfigModel):
    """One generation; it is being built until it is sealed, and has its counts from then on."""

    name: str
    embedding: str
    sealed: bool
    counts: Counts | None


class GenerationsAnswer(ConfigModel):
    """GET /v1/generations."""

    serving: str | None
    generations: tuple[GenerationAnswer, ...]


class ErrorAnswer(ConfigModel):
    """Every error: a reason for programs, a message for people."""

    reason: str
    message: str


def passage_of(hit: Hit, *, index: str, generation: str) -> PassageAnswer:
    """Return a hit as it is answered."""
    return PassageAnswer(
        id=f"{index}/{hit.document}/{hit.position}@{generation}",
        document=hit.document,
        chunk=hit.position,
        text=hit.text,
        source=hit.source,
        title=hit.title,
        location=hit.location,
        labels=dict(hit.labels),
        score=hit.score,
        similarity=hit.similarity,
    )


def generation_of(generation: Generation) -> GenerationAnswer:
    """Return a generation as it is answered."""
    return GenerationAnswer(
        name=generation.name,
        embedding=generation.manifest.embedding,
        sealed=generation.sealed,
        counts=generation.counts,
    )
