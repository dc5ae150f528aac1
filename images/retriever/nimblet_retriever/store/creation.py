# SPDX-License-Identifier: Apache-2.0
"""Making collections on a Qdrant server, laid out as collection.py says. Nothing else."""

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
    for field in INDEXED:
        await answered(
            client.create_payload_index(
                collection, field, field_schema=models.PayloadSchemaType.KEYWORD, wait=True
            )
        )


async def create_entries(client: AsyncQdrantClient, collection: str, config: CollectionConfig | None) -> None:
    """Make a collection without vectors, with as many copies as others have."""
    wanted = layout(config, dimension=1)
    await answered(
        client.create_collection(
            collection,
            vectors_config={},
            replication_factor=wanted.copies,
            write_consistency_factor=wanted.confirmed,
        )
    )
