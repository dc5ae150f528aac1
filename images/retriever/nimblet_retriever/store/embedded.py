# SPDX-License-Identifier: Apache-2.0
"""The embedded store: Qdrant's engine in this process for searches, in a process of its own for builds.

A search runs on one opened, closed-for-writing shard; a swap is the rename of a pointer file. Folder work that
may take long (opening a shard, removing a generation) runs in a thread.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from qdrant_edge import EdgeShard

from nimblet_retriever.store import shard as shards
from nimblet_retriever.store.ballast import Ballast
from nimblet_retriever.store.chunk import (
    BuildFenced,
    Chunk,
    GenerationEmpty,
    GenerationSealed,
    GenerationServing,
    Hit,
    Room,
    Search,
    StoreError,
    StoreFull,
)
from nimblet_retriever.store.frames import AddRequest, SealRequest, VectorsRequest, point_of, unpack_vectors
from nimblet_retriever.store.generation import Counts, Generation, Manifest, Notes
from nimblet_retriever.store.layout import SHARD, Layout, read_manifest, size_of
from nimblet_retriever.store.lexical import check_language
from nimblet_retriever.store.look import ALONE, Look
from nimblet_retriever.store.overlay import PASSAGES, EmbeddedOverlay
from nimblet_retriever.store.payload import check_chunks
from nimblet_retriever.store.process import BUILDER_MEMORY, BuilderProcess
from nimblet_retriever.store.snapshot import Snapshots

RESERVE_BYTES: Final = 256 * 2**20
"""Space that builds leave free: a full disk ends the engine by SIGBUS, and again at each start."""
NO_SPACE: Final = "No space left"
"""How the engine tells a full disk: in the words of the system's own error."""


def free_bytes(folder: Path) -> int:
    """Return what an unprivileged writer may still write."""
    return shutil.disk_usage(folder).free


@dataclass(kw_only=True)
class _Open:
    """An opened shard and how many searches run on it."""

    shard: EdgeShard
    language: str
    users: int = 0
    dropped: bool = False


class EmbeddedStore:
    """A Store in a folder. `free` tells the bytes left on its volume, `limit` bounds the pushed passages.

    `memory` bounds what a builder process may hold.
    """

    def __init__(
        self,
        root: Path,
        *,
        reserve: int = RESERVE_BYTES,
        free: Callable[[Path], int] = free_bytes,
        limit: int = PASSAGES,
        memory: int = BUILDER_MEMORY,
    ) -> None:
        self._limit = limit
        self._memory = memory
        self._layout = Layout(root)
        self._ballast = Ballast(root)
        self._reserve = reserve
        self._free = free
        self._open: dict[str, _Open] = {}
        self._opening = asyncio.Lock()
        self._builds: dict[str, EmbeddedBuild] = {}
        self._overlay: EmbeddedOverlay | None = None
        self._sizes: dict[str, int] = {}
        """Of sealed generations, which never grow."""

    async def begin(self, manifest: Manifest) -> "EmbeddedBuild":
        """Begin or resume a build."""
        check_language(manifest.language)
        if self._layout.sealed(manifest.name).exists():
            raise GenerationSealed(f"generation {manifest.name} is sealed; build the next one")
        for other in self._layout.generations():
            if other.name == manifest.name and other.manifest.token != manifest.token:
                await self._fence(other)
        running = self._builds.pop(manifest.name, None)
        if running is not None:
            await running.close()
        self.check_space()
        generation = Generation(manifest=manifest)
        folder = self._layout.start(generation)
        process = await BuilderProcess.start(folder / SHARD, manifest, memory=self._memory)
        build = EmbeddedBuild(self, self._layout, generation, process)
        self._builds[manifest.name] = build
        return build

    async def generations(self) -> tuple[Generation, ...]:
        """Return all generations."""
        return self._layout.generations()

    async def serving(self) -> str | None:
        """Return the serving generation's name."""
        return self._layout.serving()

    async def serve(self, name: str) -> None:
        """Open the shard first, so that a damaged one is found before the swap."""
        found = read_manifest(self._layout.shard(name).parent)
        if found.counts is None or found.counts.chunks == 0:
            raise GenerationEmpty(f"generation {name} has no chunk; the serving one stays")
        async with self._opened(name):
            self._layout.point_to(name)

    async def drop(self, name: str) -> None:
        """Remove a generation once no search runs on it."""
        if self._layout.serving() == name:
            raise GenerationServing(f"generation {name} serves; swap to another before you drop it")
        for generation in self._layout.generations():
            if generation.name == name and not generation.sealed:
                await self._fence(generation)
        folder = self._layout.sealed(name)
        self._sizes.pop(name, None)
        async with self._opening:
            opened = self._open.pop(name, None)
            if opened is not None:
                opened.dropped = True
                _close_unused(opened)
            await asyncio.to_thread(self._layout.discard, folder)

    async def search(self, name: str, search: Search) -> tuple[Hit, ...]:
        """Search one generation."""
        async with self._opened(name) as opened:
            # not in a thread: the engine keeps the interpreter's lock while it searches, so that a thread would
            # free nobody and cost two hand-overs; but others get their turn between two searches
            await asyncio.sleep(0)
            return shards.search(opened.shard, search, language=opened.language)

    async def vectors(self, name: str, reuse_keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return vectors by reuse key."""
        async with self._opened(name) as opened:
            return await asyncio.to_thread(shards.vectors, opened.shard, reuse_keys)

    async def access_of(self, document: str) -> frozenset[str]:
        """Return a document's access labels in all sealed generations."""
        labels: frozenset[str] = frozenset()
        for generation in self._layout.generations():
            if generation.sealed:
                async with self._opened(generation.name) as opened:
                    labels |= await asyncio.to_thread(shards.access_of, opened.shard, document)
        return labels

    async def overlay(self) -> EmbeddedOverlay:
        """Return the pushed documents."""
        async with self._opening:
            if self._overlay is None:
                folder = self._layout.root / "pushes"
                self._overlay = await asyncio.to_thread(
                    EmbeddedOverlay.open, folder, check_space=self.check_space, limit=self._limit
                )
            return self._overlay

    async def note(self, name: str, notes: Notes) -> None:
        """Replace a sealed generation's notes, in its manifest."""
        generation = read_manifest(self._layout.shard(name).parent)
        self._layout.rewrite(generation.model_copy(update={"notes": notes}))

    async def room(self) -> Room:
        """Tell what the volume has left."""
        return Room(free=self._free(self._layout.root), reserve=self._reserve)

    async def look(self) -> Look:
        """No server is behind it."""
        return ALONE

    async def snapshots(self, now: datetime) -> Snapshots | None:  # noqa: ARG002 - as the interface has it
        """A volume has snapshots of its own, if any: this store takes none."""
        return None

    async def size(self, name: str) -> int | None:
        """Tell what a sealed generation's files take; nothing yet for one that is built."""
        if name not in self._sizes:
            folder = self._layout.sealed(name)
            if not folder.exists():
                return 0
            self._sizes[name] = await asyncio.to_thread(size_of, folder)
        return self._sizes[name]

    async def close(self) -> None:
        """End builds and close shards."""
        for build in tuple(self._builds.values()):
            await build.close()
        if self._overlay is not None:
            await self._overlay.close()
        for opened in self._open.values():
            opened.dropped = True
            _close_unused(opened)
        self._open.clear()
        self._layout.release()

    def check_space(self, more: int = 0) -> None:
        """Raise StoreFull when the reserve is touched, or would be by so many bytes."""
        left = self._free(self._layout.root)
        if left - more < self._reserve:
            raise StoreFull(
                f"{left // 2**20} MiB are free, {self._reserve // 2**20} MiB are kept as a reserve; "
                "enlarge the volume or drop old generations"
            )

    def ended(self, build: "EmbeddedBuild") -> None:
        """Forget a build that was closed."""
        if self._builds.get(build.manifest.name) is build:
            del self._builds[build.manifest.name]

    async def _fence(self, generation: Generation) -> None:
        running = self._builds.pop(generation.name, None)
        if running is not None:
            await running.fence()
        await asyncio.to_thread(self._layout.discard, self._layout.building(generation))

    def _load(self, name: str) -> _Open:
        """Open a generation's shard. Blocks; on a full volume the ballast makes the little room that it takes."""
        folder = self._layout.shard(name)
        manifest = read_manifest(folder.parent).manifest
        try:
            shard = _shard(folder, name)
        except StoreFull:
            with self._ballast.given_up():
                shard = _shard(folder, name)
        shards.warm(shard, folder, manifest)
        return _Open(shard=shard, language=manifest.language)

    @asynccontextmanager
    async def _opened(self, name: str) -> AsyncIterator[_Open]:
        """Hold a generation's shard open. It is opened once, in a thread: that reads the disk."""
        opened = self._open.get(name)
        if opened is None:
            async with self._opening:
                opened = self._open.get(name)
                if opened is None:
                    opened = await asyncio.to_thread(self._load, name)
                    self._open[name] = opened
        opened.users += 1
        try:
            yield opened
        finally:
            opened.users -= 1
            if opened.dropped:
                _close_unused(opened)


def _shard(folder: Path, name: str) -> EdgeShard:
    try:
        return EdgeShard.load(str(folder))
    except Exception as error:  # the engine raises nothing narrower
        if NO_SPACE in str(error):
            raise StoreFull(f"generation {name} can't be opened on a full volume; enlarge it") from error
        raise StoreError(f"generation {name} can't be opened: {error}; drop it and build it anew") from error


def _close_unused(opened: _Open) -> None:
    """Close a dropped shard when the last search on it is over: its files stay readable until then."""
    if opened.users == 0:
        opened.shard.close()


class EmbeddedBuild:
    """A build, its folder and its process."""

    def __init__(
        self, store: EmbeddedStore, layout: Layout, generation: Generation, process: BuilderProcess
    ) -> None:
        self._store = store
        self._layout = layout
        self._generation = generation
        self._process = process
        self._fenced = False

    @property
    def manifest(self) -> Manifest:
        """What is built."""
        return self._generation.manifest

    @property
    def pid(self) -> int:
        """The builder process's id."""
        return self._process.pid

    async def add(self, chunks: Sequence[Chunk]) -> None:
        """Keep a batch durably."""
        self._check_fence()
        check_chunks(self.manifest, chunks)
        self._store.check_space()
        if chunks:
            await self._process.ask(AddRequest(points=tuple(point_of(chunk) for chunk in chunks)))

    async def vectors(self, reuse_keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return vectors that it holds already."""
        self._check_fence()
        answer = await self._process.ask(VectorsRequest(reuse_keys=tuple(reuse_keys)))
        return unpack_vectors(answer.vectors)

    async def seal(self) -> Counts:
        """Optimize, close, and move among the sealed ones."""
        self._check_fence()
        answer = await self._process.ask(SealRequest())
        await self.close()
        self._check_fence()
        if answer.counts is None:
            raise StoreError("expected counts from the builder, found none; begin the build again")
        self._layout.seal(self._generation.model_copy(update={"counts": answer.counts}))
        return answer.counts

    async def close(self) -> None:
        """End the process; the folder stays."""
        self._store.ended(self)
        await self._process.close()

    async def fence(self) -> None:
        """Make every later call fail: another build has the name now."""
        self._fenced = True
        await self.close()

    def _check_fence(self) -> None:
        if self._fenced:
            raise BuildFenced(f"another build of {self.manifest.name} took over; stop this indexer")
