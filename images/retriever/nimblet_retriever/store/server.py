# SPDX-License-Identifier: Apache-2.0
"""The store on a Qdrant server, dedicated or external: one collection a build, one alias for the serving one.

Collections are named PREFIX-NAME-TOKEN, so that a zombie build writes to a collection of its own, which is gone
once it was fenced. What a generation was built from stands in the collection's metadata (Qdrant 1.16 and newer).
"""

from collections.abc import Awaitable, Mapping, Sequence
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
)
from nimblet_retriever.store.collection import search_params
from nimblet_retriever.store.creation import create
from nimblet_retriever.store.generation import Counts, Generation, Manifest, Notes
from nimblet_retriever.store.lexical import check_language
from nimblet_retriever.store.payload import DENSE, check_chunks, hit_of, similarity_of
from nimblet_retriever.store.qdrant import answered, any_of, filter_of, point_of, ranking, scroll
from nimblet_retriever.store.serveroverlay import ServerOverlay

METADATA_KEY: Final = "nimblet"

T = TypeVar("T")


class ServerStore:
    """A Store on a server. `prefix` is the index's own: the CR's uid, so that indexes share a server."""

    def __init__(
        self, client: AsyncQdrantClient, *, prefix: str, collection: CollectionConfig | None = None
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._collection = collection
        self._known: dict[str, tuple[str, Generation]] = {}
        """Sealed generations by name, with their collections: they never change, so they are looked up once."""
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
                await answered(self._client.delete_collection(collection))
        collection = f"{self._prefix}-{manifest.name}-{manifest.token}"
        if not resumed:
            await create(
                self._client,
                collection,
                dimension=manifest.dimension,
                metadata=_metadata(Generation(manifest=manifest)),
                config=self._collection,
            )
        return ServerBuild(self._client, collection, manifest)

    async def generations(self) -> tuple[Generation, ...]:
        """Return all generations."""
        found = [generation for _, generation in await self._collections()]
        return tuple(sorted(found, key=lambda item: (item.name, item.manifest.token)))

    async def serving(self) -> str | None:
        """Return the serving generation's name."""
        collection = await self._served()
        return collection.removeprefix(f"{self._prefix}-").rpartition("-")[0] if collection is not None else None

    async def serve(self, name: str) -> None:
        """Point the alias at a sealed generation: deletion and creation are one request, applied as one."""
        collection, generation = await self._sealed(name)
        if generation.counts is None or generation.counts.chunks == 0:
            raise GenerationEmpty(f"generation {name} has no chunk; the serving one stays")
        operations: list[models.AliasOperations] = []
        if await self._served() is not None:
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.alias)))
        operations.append(
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name=collection, alias_name=self.alias)
            )
        )
        await answered(self._client.update_collection_aliases(operations))

    async def drop(self, name: str) -> None:
        """Remove a generation's collections."""
        if await self.serving() == name:
            raise GenerationServing(f"generation {name} serves; swap to another before you drop it")
        self._known.pop(name, None)
        for collection, generation in await self._collections():
            if generation.name == name:
                await answered(self._client.delete_collection(collection))

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
            self._overlay = await ServerOverlay.open(self._client, prefix=self._prefix, config=self._collection)
        return self._overlay

    async def note(self, name: str, notes: Notes) -> None:
        """Replace a sealed generation's notes in the collection's metadata."""
        collection, known = await self._sealed(name)
        generation = known.model_copy(update={"notes": notes})
        await answered(self._client.update_collection(collection, metadata=_metadata(generation)))
        self._known[name] = (collection, generation)

    async def room(self) -> Room:
        """Only the server knows its disk."""
        return Room(free=None, reserve=0)

    async def size(self, name: str) -> int | None:  # noqa: ARG002 - as the interface has it
        """Only the server knows."""
        return None

    async def purge(self) -> None:
        """Remove everything of this index from the server: what is done when an index is deleted."""
        self._known.clear()
        for collection, _ in await self._collections():
            await answered(self._client.delete_collection(collection))
        await (await self.overlay()).purge()
        self._overlay = None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _served(self) -> str | None:
        aliases = await answered(self._client.get_aliases())
        return next((item.collection_name for item in aliases.aliases if item.alias_name == self.alias), None)

    async def _collections(self) -> list[tuple[str, Generation]]:
        listed = await answered(self._client.get_collections())
        names = [item.name for item in listed.collections if item.name.startswith(f"{self._prefix}-g")]
        return [(name, generation) for name in names if (generation := await self._manifest(name)) is not None]

    async def _sealed(self, name: str) -> tuple[str, Generation]:
        known = self._known.get(name)
        if known is not None:
            return known
        for collection, generation in await self._collections():
            if generation.name == name and generation.sealed:
                self._known[name] = (collection, generation)
                return collection, generation
        raise GenerationUnknown(f"generation {name} is not among the sealed ones")

    async def _manifest(self, collection: str) -> Generation | None:
        """Return a collection's manifest; None for one that is gone by now."""
        try:
            info = await answered(self._client.get_collection(collection))
        except GenerationUnknown:
            return None
        try:
            return Generation.model_validate((info.config.metadata or {}).get(METADATA_KEY))
        except ValidationError as error:
            raise StoreError(
                f"collection {collection} bears no manifest of ours; remove it, or run a server of 1.16 or newer"
            ) from error


class ServerBuild:
    """A build in a collection of its own."""

    def __init__(self, client: AsyncQdrantClient, collection: str, manifest: Manifest) -> None:
        self._client = client
        self._collection = collection
        self._manifest = manifest

    @property
    def manifest(self) -> Manifest:
        """What is built."""
        return self._manifest

    async def add(self, chunks: Sequence[Chunk]) -> None:
        """Keep a batch; the server's own write-ahead log makes it durable."""
        check_chunks(self._manifest, chunks)
        if not chunks:
            return
        points = [point_of(chunk, language=self._manifest.language) for chunk in chunks]
        await self._written(self._client.upsert(self._collection, points, wait=True))

    async def vectors(self, reuse_keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return vectors that it holds already."""
        return await self._written(_vectors(self._client, self._collection, reuse_keys))

    async def seal(self) -> Counts:
        """Count, and write the counts to the metadata: that is what makes it sealed."""
        counts = await self._written(_counts(self._client, self._collection))
        sealed = Generation(manifest=self._manifest, counts=counts)
        await self._written(self._client.update_collection(self._collection, metadata=_metadata(sealed)))
        return counts

    async def close(self) -> None:
        """Nothing is held: the collection stays."""

    async def _written(self, request: Awaitable[T]) -> T:
        try:
            return await answered(request)
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
