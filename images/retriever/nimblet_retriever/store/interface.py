# SPDX-License-Identifier: Apache-2.0
"""What every store does, whatever engine is behind it. No implementation here.

One suite of tests runs over all of them (tests/test_conformance.py); a rule that is not tested there is none.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from nimblet_retriever.store.chunk import Chunk, Hit, Room, Search
from nimblet_retriever.store.generation import Counts, Generation, Manifest, Notes


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

    async def note(self, name: str, notes: Notes) -> None:
        """Replace what was noted of a sealed generation; its chunks never change. GenerationUnknown."""

    async def room(self) -> Room:
        """Tell how much may still be written."""

    async def size(self, name: str) -> int | None:
        """Tell the bytes that a generation takes, None where only the server knows."""

    async def close(self) -> None:
        """Let go of everything."""
