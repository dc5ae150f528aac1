# SPDX-License-Identifier: Apache-2.0
"""Takes pushed documents from one place of servers to another, while only one of them is ever their home.

The home is where the state stands unmoved. It is marked as moved first, so that nothing is written there any
more; the new home's state is written last. Cut off between, the old home is the home again.
"""

from collections.abc import Sequence
from typing import Final, cast

from qdrant_client import AsyncQdrantClient, models

from nimblet_retriever.store.chunk import GenerationUnknown, StoreError, StoreUnavailable
from nimblet_retriever.store.creation import create_entries, create_passages
from nimblet_retriever.store.overlaypoints import (
    SPACE,
    STATE,
    State,
    entries_of,
    entry_point,
    id_of,
    passages_of,
    value_of,
)
from nimblet_retriever.store.pushed import Space
from nimblet_retriever.store.qdrant import answered, requests_of, scroll
from nimblet_retriever.store.site import Site

BATCH: Final = 256
"""Points that are held at once."""


async def home_of(sites: Sequence[Site]) -> int | None:
    """Return which of the places has the documents; None where none has. A move that was cut off is taken back."""
    marked, failure = None, None
    for at, site in enumerate(sites):
        try:
            state = await _state(site)
        except StoreError as error:
            failure = failure or error
            continue
        if state is not None and not state.moved:
            return at
        marked = at if state is not None else marked
    if failure is not None:
        raise failure
    if marked is not None:
        await _mark(sites[marked], moved=False)
    return marked


async def move(source: Site, target: Site) -> None:
    """Take the documents over. StoreUnavailable when something was written meanwhile: nothing has moved then."""
    marked = await _mark(source, moved=True)
    try:
        await clear(target)
        await create_entries(target.client, entries_of(target.prefix), target.config)
        for space in await _spaces(source):
            name = passages_of(target.prefix, space.id)
            await create_passages(target.client, name, dimension=space.dimension, config=target.config)
            await _copy(source.client, passages_of(source.prefix, space.id), target.client, name)
        await _copy(source.client, entries_of(source.prefix), target.client, entries_of(target.prefix))
        if await _state(source) != marked:
            raise StoreUnavailable("a document was pushed while all were taken to other servers; ask again")
    except StoreError:
        await _mark(source, moved=False)
        raise
    await _write(target, marked.model_copy(update={"moved": False}))


async def _state(site: Site) -> State | None:
    """Return the state at a place; None where no documents are, or not all of them yet."""
    try:
        wanted = [id_of(STATE, "")]
        found = await answered(site.client.retrieve(entries_of(site.prefix), wanted, with_payload=True))
    except GenerationUnknown:
        return None
    return value_of(found[0], State) if found else None


async def _mark(site: Site, *, moved: bool) -> State:
    state = await _state(site) or State()
    marked = state.model_copy(update={"moved": moved, "revision": state.revision + 1})
    await _write(site, marked)
    return marked


async def _write(site: Site, state: State) -> None:
    points = [entry_point(STATE, "", state)]
    await answered(site.client.upsert(entries_of(site.prefix), points, wait=True))


async def clear(site: Site) -> None:
    """Remove pushed documents from a place."""
    entries = entries_of(site.prefix)
    listed = await answered(site.client.get_collections())
    for item in listed.collections:
        if item.name == entries or item.name.startswith(f"{entries}-"):
            await site.delete(item.name)


async def _spaces(site: Site) -> list[Space]:
    kind = models.FieldCondition(key="kind", match=models.MatchValue(value=SPACE))
    only = models.Filter(must=[kind])
    found = scroll(site.client, entries_of(site.prefix), fields=True, vectors=False, flt=only)
    return [value_of(record, Space) async for record in found]


async def _copy(source: AsyncQdrantClient, name: str, target: AsyncQdrantClient, new_name: str) -> None:
    """Copy the points of a collection, all but the state."""
    batch: list[models.PointStruct] = []
    async for record in scroll(source, name, fields=True, vectors="all"):
        if (record.payload or {}).get("kind") == STATE:
            continue
        vector = cast("models.VectorStruct", record.vector or {})
        batch.append(models.PointStruct(id=record.id, vector=vector, payload=record.payload))
        if len(batch) == BATCH:
            await _put(target, new_name, batch)
            batch = []
    await _put(target, new_name, batch)


async def _put(client: AsyncQdrantClient, collection: str, points: Sequence[models.PointStruct]) -> None:
    for batch in requests_of(points):
        await answered(client.upsert(collection, batch, wait=True))
