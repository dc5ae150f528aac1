# SPDX-License-Identifier: Apache-2.0
"""The store while an index moves from one set of servers to another: one store over both, and no gap between.

Builds go to the target. The others answer until a generation of the target's is served: then pushed documents are
taken along, the target's alias is set, and the others' are taken away, which is the swap. Each of these leaves a
state in which all is found, and is made again when it is cut off.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from nimblet_retriever.store.chunk import (
    Chunk,
    GenerationSealed,
    GenerationUnknown,
    Hit,
    Room,
    Search,
    StoreError,
    StoreFull,
    StoreMoved,
    StoreUnavailable,
)
from nimblet_retriever.store.generation import Generation, Manifest, Notes
from nimblet_retriever.store.look import Look, ServerLook, joined
from nimblet_retriever.store.overlaymove import home_of, move
from nimblet_retriever.store.pushed import Document, Entry, Found, Outdated, Receipt, Space, Totals
from nimblet_retriever.store.qdrant import FULL
from nimblet_retriever.store.server import ServerBuild, ServerStore
from nimblet_retriever.store.serveroverlay import ServerOverlay
from nimblet_retriever.store.snapshot import Snapshots

log = logging.getLogger(__name__)


class MovingStore:
    """A Store over several places. `former` are those that an index leaves, `target` the one it goes to."""

    def __init__(self, target: ServerStore, former: Sequence[ServerStore]) -> None:
        self._target = target
        self._places = (*former, target)
        """In the order they are asked: where two serve, the swap is not complete yet."""
        self._holders: dict[str, ServerStore] = {}
        """Where sealed generations are."""
        self._overlay: MovingOverlay | None = None

    async def begin(self, manifest: Manifest) -> ServerBuild:
        """Begin or resume a build on the target; one of the same name elsewhere is fenced by being dropped."""
        for place in self._places[:-1]:
            for known in await place.generations():
                if known.name != manifest.name:
                    continue
                if known.sealed:
                    raise GenerationSealed(f"generation {manifest.name} is sealed; build the next one")
                await place.drop(manifest.name)
        return await self._target.begin(manifest)

    async def generations(self) -> tuple[Generation, ...]:
        """Return all generations; those of a place that is away and does not serve are left out."""
        serving = await self._server()
        found: list[Generation] = []
        for place in self._places:
            try:
                found += await place.generations()
            except StoreUnavailable as error:
                if serving is None or place is serving[0]:
                    raise
                log.warning("servers that serve no question now are away: %s", error)
        return tuple(sorted(found, key=lambda item: (item.name, item.manifest.token)))

    async def serving(self) -> str | None:
        """Return the serving generation's name."""
        found = await self._server()
        return found[1] if found is not None else None

    async def serve(self, name: str) -> None:
        """Swap to a generation, wherever it is: pushed documents first, then its alias, then the others'."""
        holder = await self._holder(name)
        await holder.check_servable(name)
        await (await self.overlay()).take_to(holder)
        await holder.serve(name)
        for place in self._places:
            if place is not holder:
                await place.withdraw()

    async def drop(self, name: str) -> None:
        """Remove a generation."""
        self._holders.pop(name, None)
        for place in self._places:
            if any(known.name == name for known in await place.generations()):
                await place.drop(name)

    async def search(self, name: str, search: Search) -> tuple[Hit, ...]:
        """Search one generation."""
        return await (await self._holder(name)).search(name, search)

    async def vectors(self, name: str, reuse_keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return vectors by reuse key."""
        return await (await self._holder(name)).vectors(name, reuse_keys)

    async def access_of(self, document: str) -> frozenset[str]:
        """Return a document's access labels in all sealed generations."""
        labels = [await place.access_of(document) for place in self._places]
        return frozenset().union(*labels)

    async def overlay(self) -> "MovingOverlay":
        """Return the pushed documents; where there are none yet they are kept where questions are answered."""
        if self._overlay is None:
            at = await home_of([place.site for place in self._places])
            serving = await self._server() if at is None else None
            place = serving[0] if serving is not None else self._target if at is None else self._places[at]
            self._overlay = MovingOverlay(self._places, place, await place.overlay())
        return self._overlay

    async def note(self, name: str, notes: Notes) -> None:
        """Replace a sealed generation's notes."""
        await (await self._holder(name)).note(name, notes)

    async def room(self) -> Room:
        """Only the servers know their disks."""
        return Room(free=None, reserve=0)

    async def snapshots(self, now: datetime) -> Snapshots | None:  # noqa: ARG002 - as the interface has it
        """They wait until one place has all."""
        return None

    async def size(self, name: str) -> int | None:  # noqa: ARG002 - as the interface has it
        """Only the servers know."""
        return None

    async def look(self) -> Look:
        """Look at every place; what is wrong with one that answers no question is no more than a trouble."""
        serving = await self._server()
        home = (await self.overlay()).home
        looks = []
        for place in self._places:
            used = place is home or (serving is not None and place is serving[0])
            look = await _looked_at(place, used=used)
            if look.full and place is not self._target:  # builds have room all the same
                look = replace(look, full=False, trouble=StoreFull(FULL))
            looks.append(look)
        return joined(looks)

    async def close(self) -> None:
        """Close all connections."""
        for place in self._places:
            await place.close()

    async def _server(self) -> tuple[ServerStore, str] | None:
        """Return the place that serves and what; one that is away may be passed over if another serves."""
        failure: StoreError | None = None
        for place in self._places:
            try:
                name = await place.serving()
            except StoreUnavailable as error:
                failure = failure or error
                continue
            if name is not None:
                return place, name
        if failure is not None:
            raise failure
        return None

    async def _holder(self, name: str) -> ServerStore:
        """Return the place that has a sealed generation. GenerationUnknown."""
        known = self._holders.get(name)
        if known is not None:
            return known
        failure: StoreError | None = None
        for place in self._places:
            try:
                sealed = any(item.name == name and item.sealed for item in await place.generations())
            except StoreUnavailable as error:
                failure = failure or error
                continue
            if sealed:
                self._holders[name] = place
                return place
        raise failure or GenerationUnknown(f"generation {name} is not among the sealed ones")


async def _looked_at(place: ServerStore, *, used: bool) -> Look:
    try:
        look = await place.look()
    except StoreUnavailable as error:
        if used:
            raise
        return Look(servers=(ServerLook(url=place.url, used=False),), trouble=error)
    return replace(look, servers=tuple(replace(item, used=used) for item in look.servers))


class MovingOverlay:
    """An Overlay that moves between places. What is written waits while it moves; what is asked does not."""

    def __init__(self, places: Sequence[ServerStore], home: ServerStore, overlay: ServerOverlay) -> None:
        self._places = places
        self._home = home
        self._overlay = overlay
        self._turn = asyncio.Lock()

    @property
    def home(self) -> ServerStore:
        """The place that has the documents."""
        return self._home

    async def take_to(self, place: ServerStore) -> None:
        """Move all documents to a place, if they are not there."""
        async with self._turn:
            await self._find_home()
            if place is self._home:
                return
            await move(self._home.site, place.site)
            self._home, self._overlay = place, await place.overlay()

    async def put(self, document: Document) -> Receipt:
        """Keep a document."""
        async with self._writing() as overlay:
            return await overlay.put(document)

    async def remove(self, document: str, version: int | None) -> Receipt:
        """Delete or hide a document."""
        async with self._writing() as overlay:
            return await overlay.remove(document, version)

    async def restore(self, document: str) -> Receipt:
        """Show a source's document again."""
        async with self._writing() as overlay:
            return await overlay.restore(document)

    async def renew(self, entry: Entry, chunks: Sequence[Chunk], space: Space) -> None:
        """Put other vectors in the place of outdated ones."""
        async with self._writing() as overlay:
            await overlay.renew(entry, chunks, space)

    async def entry(self, document: str) -> Entry | None:
        """Return what is known of a document."""
        return await self._overlay.entry(document)

    async def spaces(self) -> tuple[Space, ...]:
        """Return the spaces that documents are in."""
        return await self._overlay.spaces()

    async def totals(self) -> Totals:
        """Count what is there."""
        return await self._overlay.totals()

    async def search(self, search: Search, space: str | None) -> Found:
        """Search the pushed documents."""
        return await self._overlay.search(search, space)

    async def outdated(self, space: str, limit: int, *, but: Collection[str] = ()) -> tuple[Outdated, ...]:
        """Return some of the documents that are in another space."""
        return await self._overlay.outdated(space, limit, but=but)

    async def close(self) -> None:
        """Nothing is held: the store closes the clients."""

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[ServerOverlay]:
        """Yield the overlay for one write. Where another retriever has moved it, the next write finds it."""
        async with self._turn:
            try:
                yield self._overlay
            except StoreMoved:
                await self._find_home()
                raise

    async def _find_home(self) -> None:
        at = await home_of([place.site for place in self._places])
        if at is not None and self._places[at] is not self._home:
            self._home = self._places[at]
            self._overlay = await self._home.overlay()
