# SPDX-License-Identifier: Apache-2.0
"""What a batch of changes to the embedded overlay writes, and what each of them is answered. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nimblet_retriever.store.chunk import Chunk, StoreError, StoreFull
from nimblet_retriever.store.pushed import (
    Document,
    Entry,
    Receipt,
    Space,
    check_hidden,
    is_gone,
    is_repeated,
    next_version,
)
from nimblet_retriever.store.pushlog import Record, SpaceRecord, entry_record


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Delete a document; `undone` takes a tombstone away again."""

    document: str
    version: int | None
    undone: bool = False


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """Other vectors for a document as `entry` has it."""

    entry: Entry
    chunks: tuple[Chunk, ...]
    space: Space


Change = Document | Removal | Renewal


@dataclass(frozen=True, kw_only=True)
class Known:
    """The overlay before the batch."""

    entries: Mapping[str, Entry]
    spaces: frozenset[str]
    sequence: int
    passages: int
    limit: int
    hidden: int
    tombstones: int
    """How many documents of sources are hidden, and may be."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What is to be written, and the answers once it is."""

    records: tuple[Record, ...]
    answers: tuple[Receipt | Exception, ...]


@dataclass(kw_only=True)
class _Batch:
    """The overlay as it will be after the changes so far."""

    known: Known
    sequence: int
    passages: int
    hidden: int
    entries: dict[str, Entry] = field(default_factory=dict)
    spaces: set[str] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)

    def entry(self, document: str) -> Entry | None:
        return self.entries.get(document, self.known.entries.get(document))

    def write(self, entry: Entry, chunks: Sequence[Chunk], space: Space | None) -> None:
        before = self.entry(entry.document)
        passages = self.passages + len(chunks) - (before.passages if before is not None else 0)
        if chunks and passages > self.known.limit:
            raise StoreFull(
                f"{self.passages} of at most {self.known.limit} pushed passages are held; delete some, or give "
                "these documents to the index as a source"
            )
        if space is not None and space.id not in self.known.spaces | self.spaces:
            self.spaces.add(space.id)
            self.records.append(SpaceRecord(space=space))
        self.passages, self.sequence = passages, max(self.sequence, entry.sequence)
        self.hidden += entry.hides - (before.hides if before is not None else 0)
        self.entries[entry.document] = entry
        self.records.append(entry_record(entry, chunks))


def plan_batch(changes: Sequence[Change], known: Known) -> Planned:
    """Return the records of the changes in their order; one that is refused does not touch the others."""
    batch = _Batch(known=known, sequence=known.sequence, passages=known.passages, hidden=known.hidden)
    answers: list[Receipt | Exception] = []
    for change in changes:
        try:
            answers.append(_planned(batch, change))
        except StoreError as error:
            answers.append(error)
    return Planned(records=tuple(batch.records), answers=tuple(answers))


def _planned(batch: _Batch, change: Change) -> Receipt:
    match change:
        case Document():
            return _put(batch, change)
        case Removal():
            return _remove(batch, change)
        case Renewal():
            return _renew(batch, change)


def _put(batch: _Batch, document: Document) -> Receipt:
    entry = batch.entry(document.id)
    if entry is not None and is_repeated(entry, version=document.version, digest=document.digest):
        return _receipt(entry)
    made = Entry(
        document=document.id,
        version=next_version(entry, document.version),
        digest=document.digest,
        sequence=batch.sequence + 1,
        space=document.space.id,
        passages=len(document.chunks),
    )
    batch.write(made, document.chunks, document.space)
    return _receipt(made)


def _remove(batch: _Batch, removal: Removal) -> Receipt:
    entry = batch.entry(removal.document)
    if removal.undone and (entry is None or not entry.hides):
        return Receipt(sequence=batch.sequence, version=entry.version if entry is not None else 0)
    if entry is not None and not removal.undone and is_gone(entry, version=removal.version):
        return _receipt(entry)
    version = removal.version if removal.version is not None else entry.version if entry is not None else 0
    made = Entry(
        document=removal.document, version=version, deleted=not removal.undone, sequence=batch.sequence + 1
    )
    if made.hides and (entry is None or not entry.hides):
        check_hidden(batch.hidden, batch.known.tombstones)
    batch.write(made, (), None)
    return _receipt(made)


def _renew(batch: _Batch, renewal: Renewal) -> Receipt:
    entry = batch.entry(renewal.entry.document)
    if entry is not None and entry == renewal.entry:
        renewed = entry.model_copy(update={"space": renewal.space.id})
        batch.write(renewed, renewal.chunks, renewal.space)
    return _receipt(entry if entry is not None else renewal.entry)


def _receipt(entry: Entry) -> Receipt:
    return Receipt(sequence=entry.sequence, version=entry.version)
