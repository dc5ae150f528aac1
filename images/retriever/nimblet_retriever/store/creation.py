# SPDX-License-Identifier: Apache-2.0
"""Making collections on a Qdrant server, laid out as collection.py says. Nothing else."""

from collections.abc import Sequence

from qdrant_client import AsyncQdrantClient, models

from nimblet_retriever.config import CollectionConfig
from nimblet_retriever.store.collection import layout
from nimblet_retriever.store.payload import INDEXED
from nimblet_retriever.store.qdrant import answered


async def create(
    client: AsyncQdrantClient,
    collection: str,
    *,
    dimension: int,
    config: CollectionConfig | None,
    metadata: dict[str, object] | None = None,
) -> None:
    """Make a collection for chunks, with an index on every field that filters name."""
    wanted = layout(config, dimension=dimension)
    await answered(
        client.create_collection(
            collection,
            vectors_config=wanted.vectors,
            sparse_vectors_config=wanted.sparse,
            shard_number=wanted.shards,
            replication_factor=wanted.copies,
            write_consistency_factor=wanted.confirmed,
            quantization_config=wanted.quantization,
            metadata=metadata,
        )
    )
    await create_indexes(client, collection)


async def create_indexes(client: AsyncQdrantClient, collection: str) -> None:
    """Make the indexes of chunks' fields; again changes nothing."""
    await _index(client, collection, INDEXED)


async def create_passages(
    client: AsyncQdrantClient, collection: str, *, dimension: int, config: CollectionConfig | None
) -> None:
    """Make a collection for pushed passages, which are told apart by their number too."""
    await create(client, collection, dimension=dimension, config=config, metadata={})
    await _index(client, collection, ("sequence",), models.PayloadSchemaType.INTEGER)


async def create_entries(client: AsyncQdrantClient, collection: str, config: CollectionConfig | None) -> None:
    """Make the collection of a pushes' entries, without vectors, with as many copies as others have.

    One part, as each takes its points of a request alone: a cluster that is told no number makes one a server.
    """
    wanted = layout(config, dimension=1)
    await answered(
        client.create_collection(
            collection,
            vectors_config={},
            shard_number=1,
            replication_factor=wanted.copies,
            write_consistency_factor=wanted.confirmed,
        )
    )
    await _index(client, collection, ("kind", "space"))


async def _index(
    client: AsyncQdrantClient,
    collection: str,
    fields: Sequence[str],
    kind: models.PayloadSchemaType = models.PayloadSchemaType.KEYWORD,
) -> None:
    """Make indexes: a server in strict mode filters by no field that has none."""
    for field in fields:
        await answered(client.create_payload_index(collection, field, field_schema=kind, wait=True))
