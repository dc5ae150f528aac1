# SPDX-License-Identifier: Apache-2.0
"""Remembers what writes met that a server does not tell when it is asked: a full disk, a key that may not write.

Qdrant tells nobody how full its disk is: it refuses writes to a part of a collection whose server has less room
left than a write-ahead log takes.
"""

from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

from qdrant_client import AsyncQdrantClient, models

from nimblet_retriever.store.chunk import GenerationUnknown, StoreError, StoreFull, StoreRefused
from nimblet_retriever.store.qdrant import answered, any_of, requests_of

NOBODY: Final = ""
"""A value that no field has: what is selected by it is nothing."""

T = TypeVar("T")


class Troubles:
    """What the writes of one store met."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client
        self._met: dict[str, tuple[str, StoreError]] = {}
        """By collection: an indexed field of it, and what its last write met."""

    async def written(self, collection: str, request: Awaitable[T], *, field: str = "document") -> T:
        """Await a write to a collection with an index on `field`, and remember how it ended."""
        try:
            result = await answered(request)
        except (StoreFull, StoreRefused) as error:
            self._met[collection] = (field, error)
            raise
        self._met.pop(collection, None)
        return result

    async def put(self, collection: str, points: Sequence[models.PointStruct], *, field: str = "document") -> None:
        """Write points; more than a server takes at once go in several requests."""
        for batch in requests_of(points):
            await self.written(collection, self._client.upsert(collection, batch, wait=True), field=field)

    async def still(self) -> StoreError | None:
        """Return what writes meet now, where any met something: deleting nothing is a write to every part."""
        for collection, (field, _) in list(self._met.items()):
            nothing = models.FilterSelector(filter=models.Filter(must=[any_of(field, [NOBODY])]))
            try:
                await self.written(collection, self._client.delete(collection, nothing, wait=True), field=field)
            except GenerationUnknown:
                self._met.pop(collection, None)
            except (StoreFull, StoreRefused) as error:
                return error
        return None
