# SPDX-License-Identifier: Apache-2.0
"""What a store keeps: chunks with their vectors, and what a search asks and gets. Values only, no engine."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_CHUNKS: Final = uuid.UUID("5b8f3d1e-6a0c-5e64-9d0b-8f1c2a7e4d93")
"""Namespace of chunk ids: any fixed UUID of our own."""


class StoreError(Exception):
    """Something a store can't do; the message says what was found and what to do."""


class GenerationUnknown(StoreError):  # noqa: N818 - said in the words of what was found, as below
    """No generation of that name, or not one that is sealed."""


class GenerationServing(StoreError):  # noqa: N818
    """The serving generation can't be dropped."""


class GenerationSealed(StoreError):  # noqa: N818
    """A sealed generation never changes: its name can't be built again."""


class GenerationEmpty(StoreError):  # noqa: N818
    """A generation without a chunk is never served."""


class BuildFenced(StoreError):  # noqa: N818
    """Another build took this one's place: an older indexer must stop."""


class ChunkRefused(StoreError):  # noqa: N818
    """A chunk does not fit its generation; nothing of its batch was kept."""


class StoreFull(StoreError):  # noqa: N818
    """Writing would eat into the reserve that keeps the engine alive."""


class StoreBusy(StoreError):  # noqa: N818
    """Another process holds this store."""


class StoreUnavailable(StoreError):  # noqa: N818
    """The server behind the store did not answer, or with an error of its own."""


class StoreMoved(StoreUnavailable):
    """What was asked for is being taken to other servers."""


class StoreRefused(StoreUnavailable):
    """The server behind the store refuses our key, for this or for everything."""


class StoreUnsupported(StoreUnavailable):
    """The server behind the store is of a version that lacks what we need."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A passage of a document with its dense vector. `position` counts the chunks of a document from 0."""

    document: str
    position: int
    text: str
    source: str
    title: str = ""
    location: str = ""
    """Where in the document: heading path, page; shown in a citation as it is."""
    reuse_key: str
    """Hash of what was embedded, of the model and its settings: equal keys may share a vector."""
    labels: Mapping[str, str] = field(default_factory=dict)
    access: tuple[str, ...] = ()
    """Who may find it: any one of these. A chunk without any is found by nobody."""
    context: str = ""
    """What the model saw before the text; kept of pushed passages alone, which may have to be embedded anew."""
    vector: Sequence[float]

    @property
    def id(self) -> str:
        """UUID out of document and position: the same chunk keeps its id in every generation."""
        return str(uuid.uuid5(_CHUNKS, f"{self.document}\0{self.position}"))


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which chunks a search may see. `access` is the caller's: without any nothing is found.

    Empty `sources`, `documents` and `labels` don't restrict; `hidden` names documents that are left out.
    `everything` is for the quality gate alone, which tells no text: no access label is asked.
    """

    access: frozenset[str]
    everything: bool = False
    sources: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()


class Mode(StrEnum):
    """How chunks are ranked."""

    DENSE = "Dense"
    LEXICAL = "Lexical"
    HYBRID = "Hybrid"
    """Reciprocal rank fusion of both, done by the engine."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A question: its vector, its text, how many chunks are wanted and from how many candidates a ranking."""

    vector: Sequence[float]
    text: str
    selection: Selection
    limit: int = 5
    candidates: int = 50
    mode: Mode = Mode.HYBRID


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A chunk that was found, without its vector. Scores compare within one search only."""

    id: str
    score: float
    document: str
    position: int
    text: str
    source: str
    title: str
    location: str
    labels: Mapping[str, str]
    similarity: float | None = None
    """Cosine of its dense vector to the question's, which compares between searches by one model."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What is left where a store writes, and what it keeps; None where only its server knows."""

    free: int | None
    reserve: int
