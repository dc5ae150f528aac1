# SPDX-License-Identifier: Apache-2.0
"""The embedded overlay: a log for what must last, an index in memory for searches. One process has it.

Changes that wait together are written and synced together; each is told only then, and is searchable from then
on. Everything happens in the event loop but the disk's part and cutting into words, so that a search sees all of a
change or nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nimblet_retriever.store.chunk import Chunk, Search, StoreFull
from nimblet_retriever.store.lexical import Words, document_vector
from nimblet_retriever.store.memory import MemoryIndex
from nimblet_retriever.store.pushed import (
    TOMBSTONES,
    Document,
    Entry,
    Found,
    Outdated,
    Receipt,
    Space,
    Totals,
    forgotten,
    ranked,
)
from nimblet_retriever.store.pushlog import (
    Batch,
    EntryRecord,
    NumberRecord,
    PushLog,
    Record,
    SpaceRecord,
    chunks_of,
    entry_record,
)
from nimblet_retriever.store.pushplan import Change, Known, Planned, Removal, Renewal, plan_batch

log = logging.getLogger(__name__)
PASSAGES: Final = 10_000
"""Pushed passages at most: they are read in at each start, which must take seconds only."""
TOGETHER: Final = 32
"""Changes in one batch: questions wait while they are put in."""
DEAD_BYTES: Final = 4 * 2**20
"""The log is rewritten when that much of it, and as much as lives, is of no use any more."""


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    change: Change
    done: "asyncio.Future[Receipt]"


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A record, its chunks, and the words of each."""

    record: Record
    chunks: tuple[Chunk, ...]
    words: tuple[Words, ...]


class EmbeddedOverlay:
    """An Overlay in a folder. `check_space` raises StoreFull when so many bytes can't be had."""

    def __init__(
        self, log: PushLog, *, check_space: Callable[[int], None], limit: int, tombstones: int = TOMBSTONES
    ) -> None:
        self._log = log
        self._check_space = check_space
        self._limit = limit
        self._tombstones = tombstones
        self._sequence = 0
        self._entries: dict[str, Entry] = {}
        self._hidden: frozenset[str] = frozenset()
        self._indexes: dict[str, MemoryIndex] = {}
        self._sizes: dict[str, int] = {}
        """Bytes of the log that each document's last record has."""
        self._dead = 0
        """Bytes of the log that later records made useless."""
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        check_space: Callable[[int], None],
        limit: int = PASSAGES,
        tombstones: int = TOMBSTONES,
    ) -> "EmbeddedOverlay":
        """Read the log. Blocks for as long as that takes."""
        log = PushLog(folder)
        overlay = cls(log, check_space=check_space, limit=limit, tombstones=tombstones)
        try:
            overlay._replay()
        except BaseException:  # whoever gets no overlay can't close it
            log.close()
            raise
        return overlay

    def _replay(self) -> None:
        for batch in self._log.read():
            self._apply(_prepared(batch.records, self._languages()))
        self._forget()
        if self._dead > 0:  # so that nothing which was erased outlives a restart
            self._rewrite_if_possible()

    async def put(self, document: Document) -> Receipt:
        """Keep a document durably, in the place of what it was."""
        return await self._commit(document)

    async def remove(self, document: str, version: int | None) -> Receipt:
        """Delete a pushed document, or hide a source's."""
        return await self._commit(Removal(document=document, version=version))

    async def restore(self, document: str) -> Receipt:
        """Show a source's document again."""
        return await self._commit(Removal(document=document, version=None, undone=True))

    async def renew(self, entry: Entry, chunks: Sequence[Chunk], space: Space) -> None:
        """Put other vectors in the place of outdated ones, unless the document changed meanwhile."""
        await self._commit(Renewal(entry=entry, chunks=tuple(chunks), space=space))

    async def entry(self, document: str) -> Entry | None:
        """Return what is known of a document."""
        return self._entries.get(document)

    async def spaces(self) -> tuple[Space, ...]:
        """Return the spaces that documents are in."""
        return tuple(index.space for index in self._indexes.values())

    async def totals(self) -> Totals:
        """Count."""
        living = [entry for entry in self._entries.values() if not entry.deleted]
        return Totals(
            sequence=self._sequence,
            documents=sum(entry.passages > 0 for entry in living),
            passages=sum(entry.passages for entry in living),
            tombstones=len(self._hidden),
        )

    async def search(self, search: Search, space: str | None) -> Found:
        """Search all passages by words, and those of one space by the vector too."""
        index = self._indexes.get(space) if space is not None else None
        others = [other for other in self._indexes.values() if len(other)]
        return Found(
            sequence=self._sequence,
            hidden=self._hidden,
            dense=index.dense(search) if index is not None else (),
            lexical=ranked([hit for other in others for hit in other.lexical(search)], search.candidates),
            outdated=any(other is not index for other in others),
        )

    async def outdated(self, space: str, limit: int, *, but: Collection[str] = ()) -> tuple[Outdated, ...]:
        """Return some of the documents that are not in a space."""
        others = (entry for entry in self._entries.values() if entry.passages and entry.space != space)
        found = (entry for entry in others if entry.document not in but)
        return tuple(
            Outdated(entry=entry, chunks=self._indexes[entry.space].chunks(entry.document))
            for entry, _ in zip(found, range(limit), strict=False)
        )

    async def close(self) -> None:
        """Finish what is being written and let go of the log."""
        if self._writer is not None:
            await self._writer
        self._log.close()

    async def _commit(self, change: Change) -> Receipt:
        waiting = _Waiting(change=change, done=asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await waiting.done

    async def _write(self) -> None:
        """Write all that waits, again and again, until nothing does."""
        while self._waiting:
            batch, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            planned = plan_batch([item.change for item in batch], self._known())
            try:
                await self._keep(planned)
            except Exception as error:  # noqa: BLE001 - whatever it is, everyone who waits is told
                _tell(batch, [error] * len(batch))
                continue
            _tell(batch, planned.answers)
            if self._dead > max(DEAD_BYTES, self._log.size // 2):
                await asyncio.to_thread(self._rewrite_if_possible)

    async def _keep(self, planned: Planned) -> None:
        if not planned.records:
            return
        self._check_space(sum(_size(record) for record in planned.records))
        await asyncio.to_thread(self._log.append, Batch(records=planned.records))
        # cutting into words takes longer than a search may wait for its turn
        self._apply(await asyncio.to_thread(_prepared, planned.records, self._languages()))
        self._forget()

    def _forget(self) -> None:
        """Give up the oldest entries that only remember a version; the log loses them when it is rewritten."""
        for document in forgotten(self._entries.values(), self._tombstones):
            del self._entries[document]
            self._dead += self._sizes.pop(document, 0)

    def _known(self) -> Known:
        return Known(
            entries=self._entries,
            spaces=frozenset(self._indexes),
            sequence=self._sequence,
            passages=sum(len(index) for index in self._indexes.values()),
            limit=self._limit,
            hidden=len(self._hidden),
            tombstones=self._tombstones,
        )

    def _languages(self) -> Mapping[str, str]:
        return {index.space.id: index.space.language for index in self._indexes.values()}

    def _apply(self, records: Sequence[_Prepared]) -> None:
        for prepared in records:
            match record := prepared.record:
                case SpaceRecord(space=space):
                    self._indexes.setdefault(space.id, MemoryIndex(space))
                case NumberRecord(sequence=sequence):
                    self._sequence = max(self._sequence, sequence)
                case EntryRecord(entry=entry):
                    self._set(entry, prepared)
                    self._dead += self._sizes.get(entry.document, 0)
                    self._sizes[entry.document] = _size(record)
        self._hidden = frozenset(entry.document for entry in self._entries.values() if entry.hides)

    def _set(self, entry: Entry, prepared: _Prepared) -> None:
        for index in self._indexes.values():
            index.remove(entry.document)
        self._entries[entry.document] = entry
        self._sequence = max(self._sequence, entry.sequence)
        if prepared.chunks:
            self._indexes[entry.space].add(entry.document, prepared.chunks, prepared.words)

    def _rewrite_if_possible(self) -> None:
        """Leave out of the log what is of no use; where there is no space for that it stays."""
        try:
            self._check_space(sum(self._sizes.values()))
            self._log.rewrite(self._batches())
        except StoreFull as error:
            log.warning("useless bytes stay in the log of pushed documents: %s", error)
            return
        self._dead = 0

    def _batches(self) -> Iterator[Batch]:
        spaces = [SpaceRecord(space=index.space) for index in self._indexes.values() if len(index)]
        yield Batch(records=(NumberRecord(sequence=self._sequence), *spaces))
        for entry in self._entries.values():
            chunks = self._indexes[entry.space].chunks(entry.document) if entry.passages else ()
            yield Batch(records=(entry_record(entry, chunks),))


def _prepared(records: Sequence[Record], languages: Mapping[str, str]) -> list[_Prepared]:
    """Return records with their chunks, cut into words. Pure; `languages`: of the spaces that are known."""
    known, made = dict(languages), []
    for record in records:
        chunks: tuple[Chunk, ...] = ()
        words: tuple[Words, ...] = ()
        if isinstance(record, SpaceRecord):
            known.setdefault(record.space.id, record.space.language)
        if isinstance(record, EntryRecord):
            chunks = tuple(chunks_of(record))
            words = tuple(document_vector(item.text, language=known[record.entry.space]) for item in chunks)
        made.append(_Prepared(record=record, chunks=chunks, words=words))
    return made


def _size(record: Record) -> int:
    return len(record.model_dump_json(by_alias=True))


def _tell(batch: Sequence[_Waiting], answers: Sequence[Receipt | Exception]) -> None:
    for waiting, answer in zip(batch, answers, strict=True):
        if waiting.done.cancelled():  # its client went away; the change holds all the same
            continue
        if isinstance(answer, Exception):
            waiting.done.set_exception(answer)
        else:
            waiting.done.set_result(answer)
