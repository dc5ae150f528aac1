# SPDX-License-Identifier: Apache-2.0
"""A chunk as a Qdrant payload and back, and the names of vectors and fields. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field

from nimblet_retriever.store.chunk import Chunk, ChunkRefused, Hit, Selection
from nimblet_retriever.store.generation import Manifest, StoredModel

DENSE: Final = "dense"
LEXICAL: Final = "lexical"
INDEXED: Final = ("access", "source", "document", "labels", "reuseKey")
"""Payload fields that filters name: each gets a keyword index."""
RRF_K: Final = 2
"""Rank constant of reciprocal rank fusion: the server's own default, named for the embedded engine too."""


class Payload(StoredModel):
    """The stored form. Labels are `key=value` strings, which one keyword index can filter."""

    document: str
    position: int
    text: str
    source: str
    title: str = ""
    location: str = ""
    reuse_key: str
    labels: tuple[str, ...] = ()
    access: tuple[str, ...] = Field(default=())
    context: str = ""


def payload_of(chunk: Chunk) -> Payload:
    """Return the stored form of a chunk."""
    return Payload(
        document=chunk.document,
        position=chunk.position,
        text=chunk.text,
        source=chunk.source,
        title=chunk.title,
        location=chunk.location,
        reuse_key=chunk.reuse_key,
        labels=_labels(chunk.labels),
        access=tuple(sorted(chunk.access)),
        context=chunk.context,
    )


def chunk_of(stored: Payload, vector: Sequence[float]) -> Chunk:
    """Return the chunk that a stored form was made of."""
    return Chunk(
        document=stored.document,
        position=stored.position,
        text=stored.text,
        source=stored.source,
        title=stored.title,
        location=stored.location,
        reuse_key=stored.reuse_key,
        labels=_labels_of(stored),
        access=stored.access,
        context=stored.context,
        vector=vector,
    )


def json_of(payload: Payload) -> dict[str, object]:
    """Return a payload as the engines take it."""
    dumped: dict[str, object] = payload.model_dump(mode="json", by_alias=True)
    if not payload.context:
        del dumped["context"]
    return dumped


def hit_of(point_id: str, score: float, payload: Mapping[str, object], *, similarity: float | None) -> Hit:
    """Return a hit out of what an engine found."""
    return hit_from(point_id, score, Payload.model_validate(payload), similarity=similarity)


def hit_from(point_id: str, score: float, stored: Payload, *, similarity: float | None) -> Hit:
    """Return a hit out of a stored form."""
    return Hit(
        id=point_id,
        score=score,
        document=stored.document,
        position=stored.position,
        text=stored.text,
        source=stored.source,
        title=stored.title,
        location=stored.location,
        labels=_labels_of(stored),
        similarity=similarity,
    )


def similarity_of(asked: Sequence[float], held: object) -> float | None:
    """Return the cosine of a question's vector to a point's; both are normalised. None without a dense vector."""
    dense = held.get(DENSE) if isinstance(held, Mapping) else None
    if not isinstance(dense, Sequence) or len(dense) != len(asked):
        return None
    # of vectors of length one, and in C: |a - b|² = 2 - 2 cos
    return max(-1.0, min(1.0, 1.0 - math.dist(asked, dense) ** 2 / 2.0))


def check_chunks(manifest: Manifest, chunks: Sequence[Chunk]) -> None:
    """Raise ChunkRefused for the first chunk that does not fit the generation."""
    for chunk in chunks:
        if len(chunk.vector) != manifest.dimension:
            raise ChunkRefused(
                f"{chunk.document} chunk {chunk.position}: expected a vector of {manifest.dimension} numbers as "
                f"generation {manifest.name} has, found {len(chunk.vector)}; embed it with the generation's model"
            )
        broken = next((key for key in chunk.labels if "=" in key), None)
        if broken is not None:
            raise ChunkRefused(f"{chunk.document}: expected a label key without '=', found {broken!r}; rename it")


def required(selection: Selection) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the conditions that must all hold, each a field and the values of which it must have one."""
    conditions = [] if selection.everything else [("access", tuple(sorted(selection.access)))]
    if selection.sources:
        conditions.append(("source", tuple(sorted(selection.sources))))
    if selection.documents:
        conditions.append(("document", tuple(sorted(selection.documents))))
    conditions += [("labels", (label,)) for label in _labels(selection.labels)]
    return tuple(conditions)


def excluded(selection: Selection) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the conditions of which none may hold."""
    return (("document", tuple(sorted(selection.hidden))),) if selection.hidden else ()


def sees(selection: Selection, payload: Payload) -> bool:
    """Tell whether a selection lets a passage through, its document's name aside: `required`, done by hand."""
    held = {"access": payload.access, "source": (payload.source,), "labels": payload.labels}
    return all(
        not set(values).isdisjoint(held[field]) for field, values in required(selection) if field != "document"
    )


def _labels_of(stored: Payload) -> dict[str, str]:
    return dict(label.split("=", 1) for label in stored.labels)


def _labels(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(f"{key}={value}" for key, value in labels.items()))
