# SPDX-License-Identifier: Apache-2.0
"""What every store does, whatever engine is behind it. No implementation here.

One suite of tests runs over all of them (tests/test_conformance.py); a rule that is not tested there is none.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from nimblet_retriever.store.chunk import Chunk, Hit, Room, Search
from nimblet_retriever.store.generation import Counts, Generation, Manifest, Notes
from nimblet_retriever.store.look import Look
from nimblet_retriever.store.pushed import Document, Entry, Found, Outdated, Receipt, Space, Totals
from nimblet_retriever.store.snapshot import Snapshots


class Build(Protocol):
    """A generation while it is made. Nobody can search it."""

    @property
    def manifest(self) -> Manifest:
        """What is built."""

    async def add(self, chunks: Sequence[Chunk]) -> None:
        """Keep a batch; when this returns the batch survives SIGKILL. The same chunk again replaces itself.

        ChunkRefused when a vector has another dimension, StoreFull when space runs out, BuildFenced when
        another build took over; of such a batch nothing counts.
        """

    async def vectors(self, reuse_keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return the vectors that this build holds already, by reuse key: what a resumed build need not embed."""

    async def seal(self) -> Counts:
        """Make it complete and immutable. From now on it can be served; BuildFenced as for add."""

    async def close(self) -> None:
        """Let go of it, sealed or not; what was added stays for a resumed build."""


class Overlay(Protocol):
    """Pushed documents and erased ones, beside the generations: no swap and no roll back touches them.

    Changes are numbered. What returned from here survives SIGKILL and is found by every later search.
    """

    async def put(self, document: Document) -> Receipt:
        """Keep a document in the place of what it was; the same again changes nothing.

        VersionRefused for an older version, StoreFull when space runs out; then nothing changed.
        """

    async def remove(self, document: str, version: int | None) -> Receipt:
        """Delete a pushed document, or hide a source's in every generation; again changes nothing. As for put."""

    async def restore(self, document: str) -> Receipt:
        """Show a source's document again; one that is not hidden is no error."""

    async def renew(self, entry: Entry, chunks: Sequence[Chunk], space: Space) -> None:
        """Put other vectors in the place of outdated ones, unless the document changed meanwhile."""

    async def entry(self, document: str) -> Entry | None:
        """Return what is known of a document, pushed or hidden, living or deleted."""

    async def spaces(self) -> tuple[Space, ...]:
        """Return the spaces that documents are in."""

    async def totals(self) -> Totals:
        """Count what is there."""

    async def search(self, search: Search, space: str | None) -> Found:
        """Return `search.candidates` passages of each half: by words all, by the vector those of one space."""

    async def outdated(self, space: str, limit: int, *, but: Collection[str] = ()) -> tuple[Outdated, ...]:
        """Return some of the living documents that are in another space, other than the named ones."""

    async def close(self) -> None:
        """Finish what is being written; let go."""


class Store(Protocol):
    """The generations of one index. One of them serves, or none yet."""

    async def begin(self, manifest: Manifest) -> Build:
        """Begin a build, or resume the one with the same token; one with another token is fenced and dropped.

        GenerationSealed when a sealed one has the name.
        """

    async def generations(self) -> tuple[Generation, ...]:
        """Return all generations by name, those under way too."""

    async def serving(self) -> str | None:
        """Return the serving generation's name. A query resolves it once and stays on it."""

    async def serve(self, name: str) -> None:
        """Swap to a sealed generation, forward or back, in one step. GenerationUnknown, GenerationEmpty."""

    async def drop(self, name: str) -> None:
        """Remove a generation; one that is gone is no error. GenerationServing for the one that serves."""

    async def search(self, name: str, search: Search) -> tuple[Hit, ...]:
        """Return the best chunks of one sealed generation, best first. GenerationUnknown."""

    async def vectors(self, name: str, reuse_keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return vectors of a sealed generation by reuse key; keys it does not have are left out."""

    async def access_of(self, document: str) -> frozenset[str]:
        """Return the access labels of a document's chunks in all sealed generations; none where it is in none."""

    async def overlay(self) -> Overlay:
        """Return the pushed documents; the first call reads them in. StoreError where they are damaged."""

    async def note(self, name: str, notes: Notes) -> None:
        """Replace what was noted of a sealed generation; its chunks never change. GenerationUnknown."""

    async def room(self) -> Room:
        """Tell how much may still be written."""

    async def look(self) -> Look:
        """Ask the servers behind it how they are; StoreError where they can't be used at all."""

    async def snapshots(self, now: datetime) -> Snapshots | None:
        """Take the snapshots that are due; None where none are wanted, or nothing serves yet."""

    async def size(self, name: str) -> int | None:
        """Tell the bytes that a generation takes, None where only the server knows."""

    async def close(self) -> None:
        """Let go of everything."""
