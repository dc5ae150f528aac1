# SPDX-License-Identifier: Apache-2.0
"""What befalls a Qdrant server and its key, and what a status tells of it; the server is a make-believe one."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from nimblet_retriever.config import EmbeddingConfig, ServerConfig
from nimblet_retriever.embedding import Embedder
from nimblet_retriever.health import EmbeddingProbe, EmbeddingProbes
from nimblet_retriever.status import Observer, StoreStatus
from nimblet_retriever.store.chunk import StoreFull, StoreRefused, StoreUnavailable
from nimblet_retriever.store.connection import FileKey, FixedKey, connect
from nimblet_retriever.store.look import version_note
from nimblet_retriever.store.moving import MovingStore
from nimblet_retriever.store.opening import open_servers
from nimblet_retriever.store.server import ServerStore
from retriever_testing.embeddings import EmbeddingServer
from retriever_testing.restserver import FULL, RestServer
from retriever_testing.stores import asked, chunk, document, found, manifest, on_rest, sealed

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
]
PUMP = chunk("pump", "The pump X200 runs at 45 bar.")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RestServer]:
    """A server that wants a key."""
    made = RestServer(key="first", read_only_key="reader")
    yield made
    await made.local.close()


async def status(store: ServerStore) -> StoreStatus:
    """Return what the operator is told of a store."""
    config = EmbeddingConfig(url="http://model/v1", model="m", fingerprint="f")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=EmbeddingServer().app())) as upstream:
        probe = EmbeddingProbes(EmbeddingProbe(Embedder(upstream, config), clock=lambda: 0.0), {})
        told = await Observer(index="docs", store=store, embedding=probe).status()
        await probe.close()
    return told.store


async def serving(store: ServerStore) -> str:
    """Build, serve and push something."""
    name = await sealed(store, [PUMP])
    await store.serve(name)
    await (await store.overlay()).put(document("note", "A valve."))
    return name


async def test_status_tells_version_and_collections(server: RestServer) -> None:
    store = on_rest(server, FixedKey("first"))
    await serving(store)
    told = await status(store)
    assert (told.ok, told.full, told.trouble, told.note) == (True, False, None, "")
    (here,) = told.servers
    assert (here.url, here.used, here.version) == (server.url, True, "1.18.2")
    assert here.collections[:2] == ("uid-g000001-a", "uid-push")
    assert here.collections[2].startswith("uid-push-")
    await store.close()


async def test_key_that_changes_is_read_again(server: RestServer, tmp_path: Path) -> None:
    path = tmp_path / "api-key"
    path.write_text("first\n")
    store = on_rest(server, FileKey(path))
    name = await serving(store)
    # When the server's key changes, that is told by its reason
    server.key = "second"
    told = await status(store)
    assert (told.ok, told.reason) == (False, "StoreRefused")
    assert "HTTP 401" in told.message
    with pytest.raises(StoreRefused):
        await store.search(name, asked("pump"))
    # And when the file has it, all goes on
    path.write_text("second\n")
    assert (await status(store)).ok
    assert await found(store, name, asked("pump")) == ["pump"]
    # a file that is gone is told, and its coming back too
    path.unlink()
    told = await status(store)
    assert (told.ok, told.reason) == (False, "StoreRefused")
    assert "Secret" in told.message
    path.write_text("second\n")
    assert (await status(store)).ok
    await store.close()


async def test_key_that_may_only_read_is_told_while_searches_are_answered(
    server: RestServer, tmp_path: Path
) -> None:
    path = tmp_path / "api-key"
    path.write_text("first")
    store = on_rest(server, FileKey(path))
    name = await serving(store)
    path.write_text("reader")
    assert (await status(store)).trouble is None, "nobody has written anything yet"
    with pytest.raises(StoreRefused):
        await store.begin(manifest(2))
    told = await status(store)
    assert told.ok
    assert told.trouble is not None
    assert (told.trouble.reason, "HTTP 403" in told.trouble.message) == ("StoreRefused", True)
    assert await found(store, name, asked("pump")) == ["pump"]
    path.write_text("first")
    assert (await status(store)).trouble is None
    await store.close()


@pytest.mark.parametrize("answer", [(500, FULL), (507, "Insufficient storage: the disk is at its limit")])
async def test_full_disk_is_told_until_writes_go_through_again(
    server: RestServer, answer: tuple[int, str]
) -> None:
    server.full_answer = answer
    store = on_rest(server, FixedKey("first"))
    name = await serving(store)
    server.full = True
    assert not (await status(store)).full, "no server tells how full its disk is"
    with pytest.raises(StoreFull):
        await (await store.overlay()).put(document("more", "No room."))
    told = await status(store)
    assert (told.ok, told.full) == (True, True)
    assert await found(store, name, asked("pump")) == ["pump"]
    server.full = False
    assert not (await status(store)).full
    # and so for a build, whose collection may be gone by then
    build = await store.begin(manifest(2))
    server.full = True
    with pytest.raises(StoreFull):
        await build.add([PUMP])
    assert (await status(store)).full
    server.full = False
    await store.drop("g000002")
    assert not (await status(store)).full
    await store.close()


@pytest.mark.parametrize(
    ("error", "full", "reason"),
    [
        ("Not enough space available for optimization", True, None),
        ("Input/output error", False, "StoreUnavailable"),
    ],
)
async def test_optimizer_that_stopped_is_told(
    server: RestServer, error: str, full: bool, reason: str | None
) -> None:
    store = on_rest(server, FixedKey("first"))
    await serving(store)
    server.optimizer_error = error
    told = await status(store)
    assert (told.ok, told.full) == (True, full)
    assert (told.trouble.reason if told.trouble is not None else None) == reason
    await store.close()


async def test_server_that_is_too_old_is_refused_and_a_newer_one_is_noted(server: RestServer) -> None:
    store = on_rest(server, FixedKey("first"))
    server.version = "1.15.4"
    told = await status(store)
    assert (told.ok, told.reason) == (False, "StoreUnsupported")
    assert "1.16 or newer" in told.message
    server.version = "1.19.0"
    told = await status(store)
    assert told.ok
    assert "newer than 1.18" in told.note
    await store.close()
    assert version_note("v1.16.0-dev") == ""
    assert "can't be compared" in version_note("custom")


async def test_status_costs_few_requests(server: RestServer) -> None:
    store = on_rest(server, FixedKey("first"))
    await serving(store)
    before = server.requests
    await status(store)
    assert server.requests - before <= 12
    await store.close()


async def test_full_disk_of_servers_that_are_left_stops_no_build() -> None:
    old, new = RestServer(url="http://old"), RestServer(url="http://new")
    left = on_rest(old, None)
    await serving(left)
    store = MovingStore(on_rest(new, None), [left])
    old.full = True
    with pytest.raises(StoreFull):
        await (await store.overlay()).put(document("more", "No room."))
    look = await store.look()
    assert (look.full, type(look.trouble)) == (False, StoreFull)
    await sealed(store, [PUMP], number=2)
    old.full = False
    assert (await store.look()).trouble is None
    await store.close()


async def test_configuration_opens_one_place_or_all(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    one = ServerConfig(url="http://127.0.0.1:1", prefix="docs", key_file=tmp_path / "key")
    alone = open_servers(one)
    assert isinstance(alone, ServerStore)
    await alone.close()
    both = one.model_copy(update={"former": ("http://127.0.0.1:2",)})
    store = open_servers(both)
    assert isinstance(store, MovingStore)
    with pytest.raises(StoreUnavailable, match="ConnectError"):
        await store.serving()
    await store.close()


async def test_words_of_ours_go_through_the_client_unchanged() -> None:
    store = ServerStore(connect("http://127.0.0.1:1", FileKey(Path("/nowhere"))), prefix="docs")
    with pytest.raises(StoreRefused, match="can't be read"):
        await store.serving()
    await store.close()
