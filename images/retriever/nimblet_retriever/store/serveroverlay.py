# SPDX-License-Identifier: Apache-2.0
"""The overlay on a Qdrant server: collections of its own, which no swap and no purge of a generation touches.

PREFIX-push holds an entry for each document, the spaces, and the last push's number; PREFIX-push-SPACE the
passages of one space. A passage counts while its document's entry has its number and space: the entry is written
last, so that a push that was cut off is as if it never was, and replacing a document is one step to a searcher.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from qdrant_client import models

from nimblet_retriever.store.chunk import Chunk, GenerationUnknown, Hit, Mode, Search, StoreError, StoreMoved
from nimblet_retriever.store.creation import create_entries, create_passages
from nimblet_retriever.store.overlaypoints import (
    GONE,
    HIDES,
    LIVING,
    SPACE,
    STATE,
    State,
    changed,
    entries_of,
    entry_point,
    id_of,
    kind_of,
    of_document,
    passages_of,
    value_of,
)
from nimblet_retriever.store.payload import DENSE, Payload, chunk_of, hit_from, similarity_of
from nimblet_retriever.store.pushed import (
    TOMBSTONES,
    Document,
    Entry,
    Found,
    Outdated,
    Receipt,
    Space,
    Totals,
    check_hidden,
    forgotten,
    is_gone,
    is_repeated,
    next_version,
    ranked,
)
from nimblet_retriever.store.qdrant import answered, any_of, filter_of, point_of, ranking, scroll
from nimblet_retriever.store.site import Site
from nimblet_retriever.store.troubles import Troubles

LOOKS: Final = 5
"""How often a search is made again because a document it found was replaced meanwhile."""


@dataclass(frozen=True, kw_only=True)
class _View:
    """What changes with writes alone, kept until the revision is another."""

    state: State
    hidden: frozenset[str]
    spaces: tuple[Space, ...]
    occupied: frozenset[str]
    """Spaces that living documents are in."""


class ServerOverlay:
    """An Overlay on a server. Changes of one process are made one after another."""

    def __init__(
        self,
        site: Site,
        troubles: Troubles,
        *,
        tombstones: int = TOMBSTONES,
    ) -> None:
        self._tombstones = tombstones
        self._site = site
        self._client = site.client
        self._troubles = troubles
        self._config = site.config
        self._prefix = site.prefix
        self._entries = entries_of(site.prefix)
        self._turn = asyncio.Lock()
        self._view = _View(state=State(revision=-1), hidden=frozenset(), spaces=(), occupied=frozenset())

    @classmethod
    async def open(
        cls,
        site: Site,
        troubles: Troubles,
        *,
        tombstones: int = TOMBSTONES,
    ) -> "ServerOverlay":
        """Make what is missing, with as many copies as generations have."""
        client, overlay = site.client, cls(site, troubles, tombstones=tombstones)
        if not await answered(client.collection_exists(overlay._entries)):
            await troubles.written(
                overlay._entries, create_entries(client, overlay._entries, site.config), field="kind"
            )
        if (await answered(client.count(overlay._entries, exact=True))).count == 0:
            await overlay._put([entry_point(STATE, "", State())])
        return overlay

    async def put(self, document: Document) -> Receipt:
        """Write the passages, then the entry, then remove what it replaced."""
        async with self._turn:
            entry = await self.entry(document.id)
            if entry is not None and is_repeated(entry, version=document.version, digest=document.digest):
                return Receipt(sequence=entry.sequence, version=entry.version)
            state = await self._writable()
            made = Entry(
                document=document.id,
                version=next_version(entry, document.version),
                digest=document.digest,
                sequence=state.sequence + 1,
                space=document.space.id,
                passages=len(document.chunks),
            )
            await self._clear(document.id, but=entry)
            await self._write(made, document.chunks, document.space)
            await self._enter(made, changed(state, entry, made))
            await self._clear(document.id, but=made)
            return Receipt(sequence=made.sequence, version=made.version)

    async def remove(self, document: str, version: int | None) -> Receipt:
        """Write the entry, then remove the passages."""
        async with self._turn:
            entry = await self.entry(document)
            if entry is not None and is_gone(entry, version=version):
                return Receipt(sequence=entry.sequence, version=entry.version)
            kept = version if version is not None else entry.version if entry is not None else 0
            return await self._enter_without_passages(document, entry, version=kept, deleted=True)

    async def restore(self, document: str) -> Receipt:
        """Take a tombstone away."""
        async with self._turn:
            entry = await self.entry(document)
            if entry is None or not entry.hides:
                return Receipt(
                    sequence=(await self._state()).sequence, version=entry.version if entry is not None else 0
                )
            return await self._enter_without_passages(document, entry, version=entry.version, deleted=False)

    async def renew(self, entry: Entry, chunks: Sequence[Chunk], space: Space) -> None:
        """Write a document into another space too, then switch its entry to that."""
        async with self._turn:
            if await self.entry(entry.document) != entry:
                return
            state = await self._writable()
            made = entry.model_copy(update={"space": space.id})
            await self._write(made, chunks, space)
            await self._enter(made, changed(state, entry, made))
            await self._clear(entry.document, but=made)
            await self._drop_empty(entry.space)

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Hold back what this process would write: entries and passages are whole together."""
        async with self._turn:
            yield

    async def entry(self, document: str) -> Entry | None:
        """Return what is known of a document."""
        found = await self._read({document})
        return found.get(document)

    async def spaces(self) -> tuple[Space, ...]:
        """Return the spaces that documents are in."""
        return (await self._current()).spaces

    async def totals(self) -> Totals:
        """Read the sums."""
        state = await self._state()
        return Totals(
            sequence=state.sequence,
            documents=state.documents,
            passages=state.passages,
            tombstones=state.tombstones,
        )

    async def search(self, search: Search, space: str | None) -> Found:
        """Search every space by words and one by the vector; again when something was written meanwhile."""
        for _ in range(LOOKS):
            view = await self._current()
            found = await self._look(search, space, view)
            if (await self._state()).revision == view.state.revision:
                break
        return found  # after LOOKS: whole documents all the same, some perhaps newer than the number

    async def outdated(self, space: str, limit: int, *, but: Collection[str] = ()) -> tuple[Outdated, ...]:
        """Return some of the documents that are in another space."""
        wanted = models.Filter(must=[any_of("kind", [LIVING])], must_not=[any_of("space", [space])])
        found: list[Outdated] = []
        async for record in scroll(self._client, self._entries, fields=True, vectors=False, flt=wanted):
            entry = value_of(record, Entry)
            if entry.document in but:
                continue
            chunks = [
                chunk_of(Payload.model_validate(item.payload), ())
                async for item in scroll(
                    self._client,
                    self._passages(entry.space),
                    fields=True,
                    vectors=False,
                    flt=of_document(entry.document, number=entry.sequence),
                )
            ]
            found.append(Outdated(entry=entry, chunks=tuple(sorted(chunks, key=lambda chunk: chunk.position))))
            if len(found) == limit:
                break
        return tuple(found)

    async def close(self) -> None:
        """Nothing is held: the store closes the client."""

    async def _state(self) -> State:
        found = await answered(self._client.retrieve(self._entries, [id_of(STATE, "")], with_payload=True))
        if not found:
            raise StoreError(f"collection {self._entries} lost its state; remove it, and push its documents again")
        return value_of(found[0], State)

    async def _writable(self) -> State:
        """Return the state, which a write replaces. StoreMoved where another place has the documents now."""
        state = await self._state()
        if state.moved:
            raise StoreMoved("pushed documents are being taken to other servers; ask again")
        return state

    async def _put(self, points: list[models.PointStruct]) -> None:
        """Write entries."""
        await self._troubles.put(self._entries, points, field="kind")

    async def _current(self) -> _View:
        """Return the view of now, read anew if anything was written since the last one."""
        state = await self._state()
        if state.revision != self._view.state.revision:
            spaces, hidden, occupied = [], set(), set()
            flt = models.Filter(must=[any_of("kind", [SPACE, HIDES])])
            async for record in scroll(self._client, self._entries, fields=True, vectors=False, flt=flt):
                if (record.payload or {}).get("kind") == SPACE:
                    spaces.append(value_of(record, Space))
                else:
                    hidden.add(value_of(record, Entry).document)
            for space in spaces:
                if await self._living(space.id):
                    occupied.add(space.id)
            self._view = _View(
                state=state, hidden=frozenset(hidden), spaces=tuple(spaces), occupied=frozenset(occupied)
            )
        return self._view

    async def _living(self, space: str) -> int:
        flt = models.Filter(must=[any_of("kind", [LIVING]), any_of("space", [space])])
        return (await answered(self._client.count(self._entries, count_filter=flt, exact=True))).count

    async def _read(self, documents: set[str]) -> dict[str, Entry]:
        ids = [id_of(LIVING, document) for document in documents]
        found = await answered(self._client.retrieve(self._entries, ids, with_payload=True)) if ids else []
        entries = [value_of(record, Entry) for record in found]
        return {entry.document: entry for entry in entries}

    async def _enter(self, entry: Entry, state: State) -> None:
        """Commit: the entry and the number in one request."""
        await self._put([entry_point(kind_of(entry), entry.document, entry), entry_point(STATE, "", state)])

    async def _enter_without_passages(
        self, document: str, entry: Entry | None, *, version: int, deleted: bool
    ) -> Receipt:
        state = await self._writable()
        made = Entry(document=document, version=version, deleted=deleted, sequence=state.sequence + 1)
        if made.hides and (entry is None or not entry.hides):
            check_hidden(state.tombstones, self._tombstones)
        await self._enter(made, changed(state, entry, made))
        await self._clear(document, but=made)
        if made.forgettable:
            await self._forget()
        return Receipt(sequence=made.sequence, version=made.version)

    async def _forget(self) -> None:
        """Remove the oldest entries that only remember a version, once there are too many."""
        gone = models.Filter(must=[any_of("kind", [GONE])])
        counted = await answered(self._client.count(self._entries, count_filter=gone, exact=True))
        if counted.count <= self._tombstones:
            return
        found = scroll(self._client, self._entries, fields=True, vectors=False, flt=gone)
        entries = [value_of(record, Entry) async for record in found]
        ids = [id_of(LIVING, document) for document in forgotten(entries, self._tombstones)]
        await answered(self._client.delete(self._entries, models.PointIdsList(points=list(ids)), wait=True))

    async def _write(self, entry: Entry, chunks: Sequence[Chunk], space: Space) -> None:
        collection = self._passages(space.id)
        if not await answered(self._client.collection_exists(collection)):
            made = create_passages(self._client, collection, dimension=space.dimension, config=self._config)
            await self._troubles.written(self._entries, made, field="kind")
        await self._put([entry_point(SPACE, space.id, space)])
        points = []
        for chunk in chunks:
            point = point_of(chunk, language=space.language)
            point.id = id_of(f"{entry.document}\0{entry.sequence}", str(chunk.position))
            point.payload = {**(point.payload or {}), "sequence": entry.sequence}
            points.append(point)
        await self._troubles.put(collection, points)

    async def _clear(self, document: str, *, but: Entry | None) -> None:
        """Remove a document's passages from all spaces, but those of one entry."""
        for space in (await self._current()).spaces:
            kept = but.sequence if but is not None and but.space == space.id else None
            selector = models.FilterSelector(filter=of_document(document, but=kept))
            passages = self._passages(space.id)
            await self._troubles.written(passages, self._client.delete(passages, selector, wait=True))

    async def _drop_empty(self, space: str) -> None:
        if await self._living(space) == 0:
            ids = models.PointIdsList(points=[id_of(SPACE, space)])
            deleted = self._client.delete(self._entries, ids, wait=True)
            await self._troubles.written(self._entries, deleted, field="kind")
            await self._site.delete(self._passages(space))

    async def _look(self, search: Search, space: str | None, view: _View) -> Found:
        dense = [
            hit
            for item in view.spaces
            if item.id == space and item.id in view.occupied
            for hit in await self._half(search, Mode.DENSE, item)
        ]
        lexical = [
            hit
            for item in view.spaces
            if item.id in view.occupied
            for hit in await self._half(search, Mode.LEXICAL, item)
        ]
        entries = await self._read({hit.document for hit, _ in (*dense, *lexical)})
        return Found(
            sequence=view.state.sequence,
            hidden=view.hidden,
            dense=ranked(_counting(dense, entries), search.candidates),
            lexical=ranked(_counting(lexical, entries), search.candidates),
            outdated=bool(view.occupied - {space}),
        )

    async def _half(self, search: Search, mode: Mode, space: Space) -> "list[_Numbered]":
        """Return one ranking of one space, each hit with the number and space of its passage."""
        if search.mode not in (mode, Mode.HYBRID):
            return []
        plan = ranking(replace(search, mode=mode), language=space.language)
        if plan is None:
            return []
        try:
            found = await answered(
                self._client.query_points(
                    self._passages(space.id),
                    query=plan.query,
                    using=plan.using,
                    query_filter=filter_of(search.selection),
                    limit=search.candidates,
                    with_payload=True,
                    with_vectors=[DENSE],
                )
            )
        except GenerationUnknown:
            return []  # its last document was renewed into another space since the view was read
        return [_numbered(point, search, space) for point in found.points]

    def _passages(self, space: str) -> str:
        return passages_of(self._prefix, space)


_Numbered = tuple[Hit, tuple[int, str]]


def _numbered(point: models.ScoredPoint, search: Search, space: Space) -> _Numbered:
    similarity = similarity_of(search.vector, point.vector)
    payload = point.payload or {}
    stored = Payload.model_validate(payload)
    hit = hit_from(chunk_of(stored, ()).id, point.score, stored, similarity=similarity)
    return hit, (int(payload["sequence"]), space.id)


def _counting(hits: Sequence[_Numbered], entries: Mapping[str, Entry]) -> list[Hit]:
    """Return the hits whose document's entry has their number and space: not cut off, replaced or deleted."""
    found = [(hit, mark, entries.get(hit.document)) for hit, mark in hits]
    return [hit for hit, mark, entry in found if entry is not None and (entry.sequence, entry.space) == mark]
