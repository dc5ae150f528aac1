# SPDX-License-Identifier: Apache-2.0
"""The store on a Qdrant server, dedicated or external: one collection a build, one alias for the serving one.

Collections are named PREFIX-NAME-TOKEN, so that a zombie build writes to a collection of its own, which is gone
once it was fenced. What a generation was built from stands in the collection's metadata (Qdrant 1.16 and newer).
"""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeVar, cast

from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient, models

from nimblet_retriever.config import CollectionConfig
from nimblet_retriever.store.chunk import (
    BuildFenced,
    Chunk,
    GenerationEmpty,
    GenerationSealed,
    GenerationServing,
    GenerationUnknown,
    Hit,
    Room,
    Search,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from nimblet_retriever.store.collection import search_params
from nimblet_retriever.store.creation import create, create_indexes
from nimblet_retriever.store.generation import Counts, Generation, Manifest, Notes
from nimblet_retriever.store.lexical import check_language
from nimblet_retriever.store.look import Look, ServerLook, version_note
from nimblet_retriever.store.overlaymove import home_of
from nimblet_retriever.store.overlaypoints import entries_of
from nimblet_retriever.store.payload import DENSE, check_chunks, hit_of, similarity_of
from nimblet_retriever.store.qdrant import FULL, answered, any_of, filter_of, is_full, point_of, ranking, scroll
from nimblet_retriever.store.serveroverlay import ServerOverlay
from nimblet_retriever.store.serversnapshots import ServerSnapshots
from nimblet_retriever.store.site import Site
from nimblet_retriever.store.snapshot import EVER, Snapshots, Wanted
from nimblet_retriever.store.troubles import Troubles

METADATA_KEY: Final = "nimblet"
SEARCH_SECONDS: Final = 10
"""Of one search; writes may take longer."""

T = TypeVar("T")


class ServerStore:
    """A Store on a server. `prefix` is the index's own: the CR's uid, so that indexes share a server."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        *,
        prefix: str,
        collection: CollectionConfig | None = None,
        url: str = "",
        snapshots: ServerSnapshots | None = None,
    ) -> None:
        """`url` is what it is called in a status; `snapshots`: where they are taken."""
        self.url = url
        self.site = Site(client=client, prefix=prefix, config=collection, snapshots=snapshots)
        """Where its collections are."""
        self._client = client
        self._troubles = Troubles(client)
        self._prefix = prefix
        self._collection = collection
        self._known: dict[str, tuple[str, Generation]] = {}
        """Sealed generations by name, with their collections: all but their notes never changes."""
        self._overlay: ServerOverlay | None = None

    @property
    def alias(self) -> str:
        """The alias that points at the serving generation's collection."""
        return f"{self._prefix}-serving"

    async def begin(self, manifest: Manifest) -> "ServerBuild":
        """Begin or resume a build."""
        check_language(manifest.language)
        resumed = False
        for collection, generation in await self._collections():
            if generation.name != manifest.name:
                continue
            if generation.sealed:
                raise GenerationSealed(f"generation {manifest.name} is sealed; build the next one")
            if generation.manifest.token == manifest.token:
                resumed = True
            else:
                await self.site.delete(collection)
        collection = f"{self._prefix}-{manifest.name}-{manifest.token}"
        if resumed:
            made = create_indexes(self._client, collection)  # it may have been cut off before these
        else:
            made = create(
                self._client,
                collection,
                dimension=manifest.dimension,
                metadata=_metadata(Generation(manifest=manifest)),
                config=self._collection,
            )
        # of a collection that can't be made, later writes to the one of pushes tell whether it still can't
        await self._troubles.written(entries_of(self._prefix), made, field="kind")
        return ServerBuild(self._client, self._troubles, collection, manifest, known=self._known)

    async def generations(self) -> tuple[Generation, ...]:
        """Return all generations."""
        found = [generation for _, generation in await self._collections()]
        return tuple(sorted(found, key=lambda item: (item.name, item.manifest.token)))

    async def serving(self) -> str | None:
        """Return the serving generation's name."""
        collection = await self._served()
        return collection.removeprefix(f"{self._prefix}-").rpartition("-")[0] if collection is not None else None

    async def check_servable(self, name: str) -> str:
        """Return the collection of a generation that may serve. GenerationUnknown, GenerationEmpty."""
        collection, generation = await self._sealed(name)
        if generation.counts is None or generation.counts.chunks == 0:
            raise GenerationEmpty(f"generation {name} has no chunk; the serving one stays")
        return collection

    async def serve(self, name: str) -> None:
        """Point the alias at a sealed generation: deletion and creation are one request, applied as one."""
        collection = await self.check_servable(name)
        operations: list[models.AliasOperations] = []
        if await self._served() is not None:
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.alias)))
        operations.append(
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name=collection, alias_name=self.alias)
            )
        )
        await self._alias(operations)

    async def withdraw(self) -> None:
        """Serve no generation any more: another place does."""
        if await self._served() is not None:
            alias = models.DeleteAlias(alias_name=self.alias)
            await self._alias([models.DeleteAliasOperation(delete_alias=alias)])

    async def drop(self, name: str) -> None:
        """Remove a generation's collections."""
        if await self.serving() == name:
            raise GenerationServing(f"generation {name} serves; swap to another before you drop it")
        for collection, generation in await self._collections():
            if generation.name == name:
                await self.site.delete(collection)
        self._known.pop(name, None)  # not before: whoever lists what is there takes it for known

    async def search(self, name: str, search: Search) -> tuple[Hit, ...]:
        """Search one generation."""
        collection, generation = await self._sealed(name)
        params = search_params(self._collection)
        ranked = ranking(search, language=generation.manifest.language, params=params)
        if ranked is None:
            return ()
        found = await answered(
            self._client.query_points(
                collection,
                query=ranked.query,
                using=ranked.using,
                prefetch=ranked.prefetch,
                search_params=ranked.params,
                query_filter=filter_of(search.selection),
                limit=search.limit,
                with_payload=True,
                with_vectors=[DENSE],
                timeout=SEARCH_SECONDS,
            )
        )
        return tuple(
            hit_of(
                str(point.id),
                point.score,
                point.payload or {},
                similarity=similarity_of(search.vector, point.vector),
            )
            for point in found.points
        )

    async def vectors(self, name: str, reuse_keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return vectors by reuse key."""
        collection, _ = await self._sealed(name)
        return await _vectors(self._client, collection, reuse_keys)

    async def access_of(self, document: str) -> frozenset[str]:
        """Return a document's access labels in all sealed generations."""
        wanted = models.Filter(must=[any_of("document", [document])])
        labels: set[str] = set()
        for collection, generation in await self._collections():
            if generation.sealed:
                async for record in scroll(self._client, collection, fields=["access"], vectors=False, flt=wanted):
                    labels |= set((record.payload or {}).get("access") or ())
        return frozenset(labels)

    async def overlay(self) -> ServerOverlay:
        """Return the pushed documents."""
        if self._overlay is None:
            await home_of([self.site])  # a move that was cut off has ended, or it would not be asked for alone
            self._overlay = await ServerOverlay.open(self.site, self._troubles)
        return self._overlay

    async def note(self, name: str, notes: Notes) -> None:
        """Replace a sealed generation's notes in the collection's metadata."""
        collection, known = await self._sealed(name)
        generation = known.model_copy(update={"notes": notes, "revision": known.revision + 1})
        noted = self._client.update_collection(collection, metadata=_metadata(generation))
        await self._troubles.written(collection, noted)
        self._known[name] = (collection, generation)

    async def room(self) -> Room:
        """Only the server knows its disk."""
        return Room(free=None, reserve=0)

    async def snapshots(self, now: datetime) -> Snapshots | None:
        """Take those of the serving generation and of pushed documents that are due, where any are wanted."""
        taker, serving, served = self.site.snapshots, await self.serving(), await self._served()
        if taker is None or serving is None or served is None:
            return None
        _, generation = await self._sealed(serving)
        overlay = await self.overlay()
        own, entries = await self._own(), entries_of(self._prefix)
        after = max(generation.notes.served_at or EVER, now - taker.every)
        pushed = [name for name in own if name == entries or name.startswith(f"{entries}-")]
        wanted = Wanted(collections=own, fixed={served: EVER}, growing=dict.fromkeys(pushed, after))
        return await taker.keep(wanted, now, overlay.still)

    async def size(self, name: str) -> int | None:  # noqa: ARG002 - as the interface has it
        """Only the server knows."""
        return None

    async def look(self) -> Look:
        """Ask for the version, read one passage, and see what optimizers and writes met."""
        version = (await answered(self._client.info())).version
        note = version_note(version)
        served = await self._served()
        if served is not None:
            await answered(self._client.scroll(served, limit=1, with_vectors=[DENSE], timeout=SEARCH_SECONDS))
        own = await self._own()
        ill = await self._troubles.still()
        for name in own:
            ill = ill or await self._optimizer_error(name)
        full = isinstance(ill, StoreFull)
        here = ServerLook(url=self.url, used=True, version=version, collections=tuple(own))
        return Look(servers=(here,), full=full, trouble=None if full else ill, note=note)

    async def close(self) -> None:
        """Close the connections."""
        await self.site.close()

    async def _alias(self, operations: list[models.AliasOperations]) -> None:
        changed = self._client.update_collection_aliases(operations)
        await self._troubles.written(entries_of(self._prefix), changed, field="kind")

    async def _optimizer_error(self, collection: str) -> StoreError | None:
        """Return what a collection's optimizer stopped at: the server notes it, and answers on."""
        try:
            told = (await answered(self._client.get_collection(collection))).optimizer_status
        except GenerationUnknown:
            return None
        if not isinstance(told, models.OptimizersStatusOneOf1):
            return None
        if is_full(told.error):
            return StoreFull(FULL)
        return StoreUnavailable(f"the Qdrant server can't optimize collection {collection}; see its log and disk")

    async def _own(self) -> list[str]:
        """Return all collections of the index."""
        listed = await answered(self._client.get_collections())
        return sorted(item.name for item in listed.collections if item.name.startswith(f"{self._prefix}-"))

    async def _served(self) -> str | None:
        aliases = await answered(self._client.get_aliases())
        return next((item.collection_name for item in aliases.aliases if item.alias_name == self.alias), None)

    async def _collections(self) -> list[tuple[str, Generation]]:
        listed = await answered(self._client.get_collections())
        names = [item.name for item in listed.collections if item.name.startswith(f"{self._prefix}-g")]
        return [(name, generation) for name in names if (generation := await self._manifest(name)) is not None]

    def _newest(self, collection: str, told: Generation) -> Generation:
        """Return what is known of a generation: a server may tell it as it was before we changed it on another."""
        known = self._known.get(told.name)
        if known is not None and known[0] == collection and known[1].revision > told.revision:
            return known[1]
        if told.sealed:
            self._known[told.name] = (collection, told)
        return told

    async def _sealed(self, name: str) -> tuple[str, Generation]:
        known = self._known.get(name)
        if known is not None:
            return known
        for collection, generation in await self._collections():
            if generation.name == name and generation.sealed:
                return collection, generation
        raise GenerationUnknown(f"generation {name} is not among the sealed ones")

    async def _manifest(self, collection: str) -> Generation | None:
        """Return a collection's manifest; None for one that is gone by now."""
        try:
            info = await answered(self._client.get_collection(collection))
        except GenerationUnknown:
            return None
        try:
            told = Generation.model_validate((info.config.metadata or {}).get(METADATA_KEY))
        except ValidationError as error:
            raise StoreError(
                f"collection {collection} bears no manifest of ours; remove it, or run a server of 1.16 or newer"
            ) from error
        return self._newest(collection, told)


class ServerBuild:
    """A build in a collection of its own."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        troubles: Troubles,
        collection: str,
        manifest: Manifest,
        *,
        known: dict[str, tuple[str, Generation]],
    ) -> None:
        """`known`: what the store knows of sealed ones."""
        self._client = client
        self._known = known
        self._troubles = troubles
        self._collection = collection
        self._manifest = manifest

    @property
    def manifest(self) -> Manifest:
        """What is built."""
        return self._manifest

    async def add(self, chunks: Sequence[Chunk]) -> None:
        """Keep a batch; the server's own write-ahead log makes it durable."""
        check_chunks(self._manifest, chunks)
        points = [point_of(chunk, language=self._manifest.language) for chunk in chunks]
        await self._here(self._troubles.put(self._collection, points))

    async def vectors(self, reuse_keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return vectors that it holds already."""
        return await self._here(_vectors(self._client, self._collection, reuse_keys))

    async def seal(self) -> Counts:
        """Count, and write the counts to the metadata: that is what makes it sealed."""
        counts = await self._here(_counts(self._client, self._collection))
        sealed = Generation(manifest=self._manifest, counts=counts, revision=1)
        changed = self._client.update_collection(self._collection, metadata=_metadata(sealed))
        await self._here(self._troubles.written(self._collection, changed))
        self._known[sealed.name] = (self._collection, sealed)
        return counts

    async def close(self) -> None:
        """Nothing is held: the collection stays."""

    async def _here(self, request: Awaitable[T]) -> T:
        try:
            return await request
        except GenerationUnknown as error:
            raise BuildFenced(f"another build of {self._manifest.name} took over; stop this indexer") from error


def _metadata(generation: Generation) -> dict[str, object]:
    return {METADATA_KEY: generation.model_dump(mode="json", by_alias=True)}


async def _counts(client: AsyncQdrantClient, collection: str) -> Counts:
    """Count documents and chunks by reading every point's document."""
    documents: set[str] = set()
    chunks = 0
    async for record in scroll(client, collection, fields=["document"], vectors=False):
        documents.add(str((record.payload or {}).get("document")))
        chunks += 1
    return Counts(documents=len(documents), chunks=chunks)


async def _vectors(
    client: AsyncQdrantClient, collection: str, reuse_keys: Sequence[str]
) -> dict[str, Sequence[float]]:
    if not reuse_keys:
        return {}
    wanted = models.Filter(must=[any_of("reuseKey", reuse_keys)])
    found = {}
    async for record in scroll(client, collection, fields=["reuseKey"], vectors=True, flt=wanted):
        held = record.vector
        if isinstance(held, dict):
            found[str((record.payload or {}).get("reuseKey"))] = cast("Sequence[float]", held[DENSE])
    return found
