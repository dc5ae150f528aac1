# SPDX-License-Identifier: Apache-2.0
"""The points of an overlay's entries on a server: documents, spaces and the state. Pure; no I/O."""

import uuid
from typing import Final, TypeVar

from qdrant_client import models

from nimblet_retriever.store.generation import StoredModel
from nimblet_retriever.store.pushed import Entry
from nimblet_retriever.store.qdrant import any_of

_IDS: Final = uuid.UUID("0c1d6f0e-5f0a-5b0e-8a53-3f6c9b7f2a11")
"""Namespace of the ids here: any fixed UUID of our own."""
STATE, SPACE, LIVING, HIDES, GONE = "state", "space", "living", "hides", "gone"
"""Kinds of points among the entries."""

T = TypeVar("T", bound=StoredModel)


class State(StoredModel):
    """The last push's number, and what the overlay holds in sum. `revision` counts every write, renewals too."""

    revision: int = 0
    sequence: int = 0
    documents: int = 0
    passages: int = 0
    tombstones: int = 0
    moved: bool = False
    """The documents are being taken to other servers: nothing is written here any more."""


def changed(state: State, before: Entry | None, after: Entry) -> State:
    """Return the state after an entry was replaced."""
    was = before if before is not None else Entry(document=after.document, version=0, sequence=0)
    return State(
        revision=state.revision + 1,
        sequence=max(state.sequence, after.sequence),
        documents=state.documents + (after.passages > 0) - (was.passages > 0),
        passages=state.passages + after.passages - was.passages,
        tombstones=state.tombstones + after.hides - was.hides,
    )


def kind_of(entry: Entry) -> str:
    """Return the kind of an entry's point."""
    if entry.hides:
        return HIDES
    return LIVING if entry.passages else GONE


def entries_of(prefix: str) -> str:
    """Return the collection of an index's entries; those of passages begin with its name."""
    return f"{prefix}-push"


def passages_of(prefix: str, space: str) -> str:
    """Return the collection of the passages of one space."""
    return f"{entries_of(prefix)}-{space}"


def id_of(kind: str, name: str) -> str:
    """Return a point's id."""
    return str(uuid.uuid5(_IDS, f"{kind}\0{name}"))


def entry_point(kind: str, name: str, value: StoredModel) -> models.PointStruct:
    """Return the point of an entry, a space or the state; all kinds of entries share their document's id."""
    fixed = kind if kind in (STATE, SPACE) else LIVING
    payload = {"kind": kind, "value": value.model_dump(mode="json", by_alias=True)}
    if isinstance(value, Entry):
        payload["space"] = value.space
    return models.PointStruct(id=id_of(fixed, name), vector={}, payload=payload)


def value_of(record: models.Record, kind: type[T]) -> T:
    """Return what a point holds."""
    return kind.model_validate((record.payload or {}).get("value"))


def of_document(document: str, *, number: int | None = None, but: int | None = None) -> models.Filter:
    """Return the filter of a document's passages: those with a number, or all but those."""

    def numbered(value: int) -> models.FieldCondition:
        return models.FieldCondition(key="sequence", match=models.MatchValue(value=value))

    named: list[models.Condition] = [any_of("document", [document])]
    return models.Filter(
        must=[*named, numbered(number)] if number is not None else named,
        must_not=[numbered(but)] if but is not None else None,
    )
