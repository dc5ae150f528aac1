# SPDX-License-Identifier: Apache-2.0
"""Takes, removes and restores snapshots on every server of a store. What is due, snapshot.py says.

Qdrant's snapshot of a collection is one server's own, so each server is asked by its own address. A collection
that is deleted leaves its snapshots behind, where nothing can delete them any more: they go before it does.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Final

from qdrant_client import AsyncQdrantClient, models

from nimblet_retriever.store.chunk import GenerationUnknown, StoreError, StoreFull
from nimblet_retriever.store.qdrant import answered
from nimblet_retriever.store.snapshot import EVER, Snapshot, Snapshots, Wanted, listed, newest, spare, taken_at

NO_ROOM: Final = "the volume for snapshots has no room left; raise store.size, or lower snapshots.retain"


class ServerSnapshots:
    """The snapshots on the servers of one index. `retain` of each collection are kept on each server."""

    def __init__(
        self, clients: Mapping[str, AsyncQdrantClient], *, retain: int, every: timedelta, folder: str
    ) -> None:
        """`clients`: by the address of their server; `folder`: where a server keeps them, in its own eyes."""
        self.every = every
        self._clients = clients
        self._retain = retain
        self._folder = folder
        self._taken: dict[tuple[str, str], datetime] = {}
        """When we took one last, by our own clock: a server's may be behind."""

    async def keep(
        self, wanted: Wanted, now: datetime, quiet: Callable[[], AbstractAsyncContextManager[None]]
    ) -> Snapshots:
        """Take what is due and remove what is too many. A server that fails keeps no other from its own.

        `quiet` holds back what would be written to growing collections.
        """
        failures: list[str] = []
        held = await self._listed(wanted.collections, failures)
        fixed, growing = self._due(held, wanted.fixed), self._due(held, wanted.growing)
        await self._take(fixed, now, failures)
        if growing:
            async with quiet():
                await self._take(growing, now, failures)
        if fixed or growing:
            held = await self._listed(wanted.collections, failures)
        gone = spare(held, retain=self._retain)
        for item in gone:
            await self._told(item.server, failures, self._remove(item))
        kept = [item for item in held if item not in gone]
        return Snapshots(held=listed(kept), failure=failures[0] if failures else "")

    async def clear(self, collection: str) -> None:
        """Remove all snapshots of a collection that is about to be deleted. StoreError where that fails."""
        for server in self._clients:
            for item in await self._of(server, collection):
                await self._remove(item)

    async def restore(self, held: Sequence[Snapshot]) -> AsyncIterator[Snapshot]:
        """Put the newest snapshot of each place in the place of what is there; yield each that was restored.

        KeyError for a server that is not one of this index's; StoreError where one does not take its snapshot.
        """
        for _, item in sorted(newest(held).items()):
            location = PurePosixPath(self._folder) / item.collection / item.name
            await answered(
                self._clients[item.server].recover_snapshot(
                    item.collection,
                    location=f"file://{location}",
                    # what is there is older or gone, whatever its own copies say
                    priority=models.SnapshotPriority.SNAPSHOT,
                    wait=True,
                )
            )
            yield item

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()

    def _due(self, held: Sequence[Snapshot], wanted: Mapping[str, datetime]) -> list[tuple[str, str]]:
        """Return the places whose newest snapshot is too old."""
        known = {place: item.age[0] for place, item in newest(held).items()}
        found = []
        for collection, after in wanted.items():
            for server in self._clients:
                place = (collection, server)
                if place not in known or max(known[place], self._taken.get(place, EVER)) < after:
                    found.append(place)
        return found

    async def _take(self, places: Sequence[tuple[str, str]], now: datetime, failures: list[str]) -> None:
        """Take snapshots, of one server one after another."""

        async def of_server(server: str) -> None:
            for collection, at in places:
                if at == server and await self._told(server, failures, self._create(server, collection)):
                    self._taken[collection, server] = now

        await asyncio.gather(*(of_server(server) for server in sorted({server for _, server in places})))

    async def _create(self, server: str, collection: str) -> None:
        await answered(self._clients[server].create_snapshot(collection, wait=True))

    async def _remove(self, item: Snapshot) -> None:
        await answered(self._clients[item.server].delete_snapshot(item.collection, item.name, wait=True))

    async def _listed(self, collections: Sequence[str], failures: list[str]) -> list[Snapshot]:
        found: list[Snapshot] = []

        async def of_server(server: str) -> None:
            for collection in collections:
                found.extend(await self._of(server, collection))

        await asyncio.gather(*(self._told(server, failures, of_server(server)) for server in self._clients))
        return found

    async def _of(self, server: str, collection: str) -> list[Snapshot]:
        """Return one server's snapshots of a collection; none of one that is gone."""
        try:
            told = await answered(self._clients[server].list_snapshots(collection))
        except GenerationUnknown:
            return []
        return [
            Snapshot(
                server=server,
                collection=collection,
                name=item.name,
                bytes=item.size,
                taken_at=taken_at(item.name, item.creation_time),
            )
            for item in told
        ]

    async def _told(self, server: str, failures: list[str], work: Awaitable[None]) -> bool:
        """Await what is done on a server, and note why it failed; tell whether it went well."""
        try:
            await work
        except GenerationUnknown:
            return False  # dropped meanwhile
        except StoreFull:
            failures.append(f"{server}: {NO_ROOM}")
            return False
        except StoreError as error:
            failures.append(f"{server}: {error}")
            return False
        return True
