# SPDX-License-Identifier: Apache-2.0
"""One place of servers where an index is: how it is asked, and what its collections there are called."""

from dataclasses import dataclass

from qdrant_client import AsyncQdrantClient

from nimblet_retriever.config import CollectionConfig
from nimblet_retriever.store.qdrant import answered
from nimblet_retriever.store.serversnapshots import ServerSnapshots


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place. `snapshots`: None where none are taken."""

    client: AsyncQdrantClient
    prefix: str
    config: CollectionConfig | None = None
    snapshots: ServerSnapshots | None = None

    async def delete(self, collection: str) -> None:
        """Delete a collection, its snapshots first: afterwards nothing could. StoreError where one can't go."""
        if self.snapshots is not None:
            await self.snapshots.clear(collection)
        await answered(self.client.delete_collection(collection))

    async def close(self) -> None:
        """Close all connections."""
        if self.snapshots is not None:
            await self.snapshots.close()
        await self.client.close()
