# SPDX-License-Identifier: Apache-2.0
"""What is remembered of deleted and hidden documents is bounded, and no bound brings back what was erased."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from nimblet_retriever.store.chunk import StoreFull
from nimblet_retriever.store.interface import Overlay
from nimblet_retriever.store.overlay import EmbeddedOverlay
from nimblet_retriever.store.pushed import VersionRefused
from nimblet_retriever.store.serveroverlay import ServerOverlay
from nimblet_retriever.store.site import Site
from nimblet_retriever.store.troubles import Troubles
from retriever_testing.stores import asked, document

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
]
LIMIT = 10


@asynccontextmanager
async def overlay(kind: str, folder: Path) -> AsyncIterator[Overlay]:
    """Open an overlay that remembers ten of each."""
    if kind == "embedded":
        made = EmbeddedOverlay.open(folder, check_space=lambda _: None, tombstones=LIMIT)
        yield made
        await made.close()
        return
    client = AsyncQdrantClient(":memory:")
    yield await ServerOverlay.open(Site(client=client, prefix="uid"), Troubles(client), tombstones=LIMIT)
    await client.close()


@pytest.mark.parametrize("kind", ["embedded", "server"])
async def test_oldest_deletions_of_pushed_documents_are_forgotten(kind: str, tmp_path: Path) -> None:
    async with overlay(kind, tmp_path / "pushes") as pushed:
        # Given one more deletion than is remembered
        for number in range(LIMIT + 1):
            await pushed.put(document(f"d{number}", "The crane.", version=5))
            await pushed.remove(f"push:app/d{number}", 5)
        # Then late retries of the last ones are refused, and of the first nothing is known
        with pytest.raises(VersionRefused):
            await pushed.put(document(f"d{LIMIT}", "The crane.", version=4))
        assert await pushed.entry("push:app/d0") is None
        assert await pushed.entry(f"push:app/d{LIMIT}") is not None
        # And numbers go on
        receipt = await pushed.put(document("new", "The crane."))
        assert receipt.sequence == 2 * (LIMIT + 1) + 1


@pytest.mark.parametrize("kind", ["embedded", "server"])
async def test_hidden_document_is_never_forgotten_and_one_too_many_is_refused(kind: str, tmp_path: Path) -> None:
    async with overlay(kind, tmp_path / "pushes") as pushed:
        # Given as many hidden documents as may be, and more deletions than are remembered
        for number in range(LIMIT):
            await pushed.remove(f"wiki/{number}", None)
        for number in range(LIMIT + 5):
            await pushed.put(document(f"d{number}", "The crane."))
            await pushed.remove(f"push:app/d{number}", None)
        # Then all are hidden still, again is no error, and one more is refused
        hidden = {f"wiki/{number}" for number in range(LIMIT)}
        assert (await pushed.search(asked("crane"), None)).hidden == hidden
        await pushed.remove("wiki/0", None)
        with pytest.raises(StoreFull, match="restore"):
            await pushed.remove("wiki/more", None)
        assert (await pushed.search(asked("crane"), None)).hidden == hidden
        # When one is restored, then there is room
        await pushed.restore("wiki/0")
        await pushed.remove("wiki/more", None)
        assert (await pushed.search(asked("crane"), None)).hidden == hidden - {"wiki/0"} | {"wiki/more"}


async def test_what_is_forgotten_and_hidden_is_the_same_after_a_restart(tmp_path: Path) -> None:
    async with overlay("embedded", tmp_path / "pushes") as pushed:
        await pushed.remove("wiki/pump", None)
        for number in range(LIMIT + 1):
            await pushed.put(document(f"d{number}", "The crane."))
            await pushed.remove(f"push:app/d{number}", None)
    for _ in range(2):
        async with overlay("embedded", tmp_path / "pushes") as pushed:
            assert await pushed.entry("push:app/d0") is None
            assert await pushed.entry(f"push:app/d{LIMIT}") is not None
            found = await pushed.search(asked("crane"), None)
            assert found.sequence == 2 * (LIMIT + 1) + 1
            assert found.hidden == {"wiki/pump"}
