# SPDX-License-Identifier: Apache-2.0
"""The store on a Qdrant server, dedicated or external: one collection a build, one alias for the serving one.

Collections are named PREFIX-NAME-TOKEN, so that a zombie build writes to a collection of its own, which is gone
once it was fenced. What a generation was built from stands in the collection's metadata (Qdrant 1.16 and newer).
"""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from nimblet_retriever.config import CollectionConfig
from nimblet_retriever.store.chunk import (
    BuildFenced,
    Chunk,
    GenerationEmpty,
    GenerationSealed,
    GenerationServing,
    GenerationUnknown,
    Hit,
    Mode,
    Search,
    Selection,
    StoreError,
    StoreUnavailable,
)
from nimblet_retriever.store.collection import layout, search_params
from nimblet_retriever.store.generation import Counts, Generation, Manifest
from nimblet_retriever.store.lexical import check_language, document_vector, query_vector
from nimblet_retriever.store.payload import (
    DENSE,
    INDEXED,
    LEXICAL,
    check_chunks,
    excluded,
    hit_of,
    json_of,
    payload_of,
    required,
)

METADATA_KEY: Final = "nimblet"
PAGE: Final = 1000
NOT_FOUND: Final = 404

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
                await _asked(self._client.delete_collection(collection))
        collection = f"{self._prefix}-{manifest.name}-{manifest.token}"
        if not resumed:
            await self._create(collection, Generation(manifest=manifest))
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
        await _asked(self._client.update_collection_aliases(operations))

    async def drop(self, name: str) -> None:
        """Remove a generation's collections."""
        if await self.serving() == name:
            raise GenerationServing(f"generation {name} serves; swap to another before you drop it")
        self._known.pop(name, None)
        for collection, generation in await self._collections():
            if generation.name == name:
                await _asked(self._client.delete_collection(collection))

    async def search(self, name: str, search: Search) -> tuple[Hit, ...]:
        """Search one generation."""
        collection, generation = await self._sealed(name)
        params = search_params(self._collection)
        ranking = _ranking(search, language=generation.manifest.language, params=params)
        if ranking is None:
            return ()
        found = await _asked(
            self._client.query_points(
                collection,
                query=ranking.query,
                using=ranking.using,
                prefetch=ranking.prefetch,
                search_params=ranking.params,
                query_filter=filter_of(search.selection),
                limit=search.limit,
                with_payload=True,
            )
        )
        return tuple(hit_of(str(point.id), point.score, point.payload or {}) for point in found.points)

    async def vectors(self, name: str, reuse_keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return vectors by reuse key."""
        collection, _ = await self._sealed(name)
        return await _vectors(self._client, collection, reuse_keys)

    async def purge(self) -> None:
        """Remove everything of this index from the server: what is done when an index is deleted."""
        self._known.clear()
        for collection, _ in await self._collections():
            await _asked(self._client.delete_collection(collection))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _served(self) -> str | None:
        aliases = await _asked(self._client.get_aliases())
        return next((item.collection_name for item in aliases.aliases if item.alias_name == self.alias), None)

    async def _collections(self) -> list[tuple[str, Generation]]:
        listed = await _asked(self._client.get_collections())
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
            info = await _asked(self._client.get_collection(collection))
        except GenerationUnknown:
            return None
        try:
            return Generation.model_validate((info.config.metadata or {}).get(METADATA_KEY))
        except ValidationError as error:
            raise StoreError(
                f"collection {collection} bears no manifest of ours; remove it, or run a server of 1.16 or newer"
            ) from error

    async def _create(self, collection: str, generation: Generation) -> None:
        wanted = layout(self._collection, dimension=generation.manifest.dimension)
        await _asked(
            self._client.create_collection(
                collection,
                vectors_config=wanted.vectors,
                sparse_vectors_config=wanted.sparse,
                shard_number=wanted.shards,
                replication_factor=wanted.copies,
                write_consistency_factor=wanted.confirmed,
                quantization_config=wanted.quantization,
                metadata=_metadata(generation),
            )
        )
        for field in INDEXED:
            await _asked(
                self._client.create_payload_index(
                    collection, field, field_schema=models.PayloadSchemaType.KEYWORD, wait=True
                )
            )


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
        points = [_point(chunk, language=self._manifest.language) for chunk in chunks]
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
            return await _asked(request)
        except GenerationUnknown as error:
            raise BuildFenced(f"another build of {self._manifest.name} took over; stop this indexer") from error


async def _asked(request: Awaitable[T]) -> T:
    """Await a request and put its errors in our words; GenerationUnknown for a collection that is not there."""
    try:
        return await request
    except UnexpectedResponse as error:
        if error.status_code == NOT_FOUND:
            raise GenerationUnknown("the collection is gone") from error
        raise StoreUnavailable(f"the Qdrant server answered HTTP {error.status_code}; see its log") from error
    except (ApiException, QdrantException, OSError) as error:
        raise StoreUnavailable(
            f"the Qdrant server did not answer ({type(error).__name__}); check its address"
        ) from error
    except ValueError as error:
        if "not found" in str(error):  # the client's local mode has no error of its own for it
            raise GenerationUnknown("the collection is gone") from error
        raise


def _metadata(generation: Generation) -> dict[str, object]:
    return {METADATA_KEY: generation.model_dump(mode="json", by_alias=True)}


def _point(chunk: Chunk, *, language: str) -> models.PointStruct:
    words = document_vector(chunk.text, language=language)
    vector: dict[str, models.Vector] = {
        DENSE: list(chunk.vector),
        LEXICAL: models.SparseVector(indices=words.indices, values=words.values),
    }
    return models.PointStruct(id=chunk.id, vector=vector, payload=json_of(payload_of(chunk)))


@dataclass(frozen=True, kw_only=True)
class _Ranking:
    """The parts of a query request that its mode decides."""

    query: models.Query | list[float] | models.SparseVector
    using: str | None = None
    prefetch: list[models.Prefetch] | None = None
    params: models.SearchParams | None = None


def _ranking(asked: Search, *, language: str, params: models.SearchParams | None) -> _Ranking | None:
    """Return how the engine ranks, None when there is nothing to rank by.

    The filter stands in each half's own request too, so that none sees more.
    """
    halves: list[tuple[list[float] | models.SparseVector, str]] = []
    if asked.mode is not Mode.LEXICAL:
        halves.append((list(asked.vector), DENSE))
    words = query_vector(asked.text, language=language) if asked.mode is not Mode.DENSE else None
    if words is not None and words.indices:
        halves.append((models.SparseVector(indices=words.indices, values=words.values), LEXICAL))
    if not halves:
        return None
    if len(halves) == 1:
        return _Ranking(query=halves[0][0], using=halves[0][1], params=_params_of(halves[0][1], params))
    flt = filter_of(asked.selection)
    prefetch = [
        models.Prefetch(
            query=vector, using=using, filter=flt, limit=asked.candidates, params=_params_of(using, params)
        )
        for vector, using in halves
    ]
    return _Ranking(query=models.FusionQuery(fusion=models.Fusion.RRF), prefetch=prefetch)


def _params_of(using: str, params: models.SearchParams | None) -> models.SearchParams | None:
    """Only the dense vectors have a compressed copy."""
    return params if using == DENSE else None


def filter_of(selection: Selection) -> models.Filter:
    """Return the selection in the client's terms; no access label at all matches nothing."""
    return models.Filter(
        must=[_any_of(field, values) for field, values in required(selection)],
        must_not=[_any_of(field, values) for field, values in excluded(selection)],
    )


def _any_of(field: str, values: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))


async def _counts(client: AsyncQdrantClient, collection: str) -> Counts:
    """Count documents and chunks by reading every point's document."""
    documents: set[str] = set()
    chunks = 0
    async for record in _scroll(client, collection, fields=["document"], vectors=False):
        documents.add(str((record.payload or {}).get("document")))
        chunks += 1
    return Counts(documents=len(documents), chunks=chunks)


async def _vectors(
    client: AsyncQdrantClient, collection: str, reuse_keys: Sequence[str]
) -> dict[str, Sequence[float]]:
    if not reuse_keys:
        return {}
    wanted = models.Filter(must=[_any_of("reuseKey", reuse_keys)])
    found = {}
    async for record in _scroll(client, collection, fields=["reuseKey"], vectors=True, flt=wanted):
        held = record.vector
        if isinstance(held, dict):
            found[str((record.payload or {}).get("reuseKey"))] = cast("Sequence[float]", held[DENSE])
    return found


async def _scroll(
    client: AsyncQdrantClient,
    collection: str,
    *,
    fields: list[str],
    vectors: bool,
    flt: models.Filter | None = None,
) -> AsyncIterator[models.Record]:
    offset = None
    while True:
        records, offset = await _asked(
            client.scroll(
                collection,
                scroll_filter=flt,
                limit=PAGE,
                offset=offset,
                with_payload=fields,
                with_vectors=[DENSE] if vectors else False,
            )
        )
        for record in records:
            yield record
        if offset is None:
            return
