# SPDX-License-Identifier: Apache-2.0
"""What a server, and several that are one cluster, do that local mode does not: limits, parts, late answers.

The server is a make-believe one; what is believed of it stands in Qdrant's sources.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from nimblet_retriever.store.chunk import GenerationUnknown, Mode, StoreUnavailable
from nimblet_retriever.store.generation import Gate, Notes
from nimblet_retriever.store.moving import MovingStore
from nimblet_retriever.store.qdrant import REQUEST_BYTES
from nimblet_retriever.store.server import ServerStore
from retriever_testing.process import serving
from retriever_testing.restserver import RestServer
from retriever_testing.stores import (
    KEY,
    URL,
    answered,
    asked,
    chunk,
    document,
    found,
    manifest,
    on_rest,
    opened,
    sealed,
)

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
]
PUMP = chunk("pump", "The pump X200 runs at 45 bar.")
GATE = Gate(recall=0.5, mrr=0.4, ndcg=0.45, k=5, asked=2, passed=True, failed=(), serving=None)
LIMIT = REQUEST_BYTES + 2**10
FILLER = "words " * 16_000
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RestServer]:
    """A server without a key."""
    made = RestServer()
    yield made
    await made.local.close()


async def test_document_larger_than_a_request_is_pushed_and_moved(server: RestServer) -> None:
    # Given a document whose passages are more than a server takes at once
    server.max_bytes = LIMIT
    store = on_rest(server, None)
    name = await sealed(store, [PUMP])
    large = document("large", *(f"The crane lifts load {number}. {FILLER}" for number in range(100)))
    # When it is pushed, then all of it is kept
    await (await store.overlay()).put(replace(large, digest="1"))
    assert (await (await store.overlay()).totals()).passages == 100
    _, texts = await answered(store, name, asked("load 99", mode=Mode.LEXICAL, limit=1))
    assert texts[0].startswith("The crane lifts load 99.")
    # And so it is when it is taken to other servers
    other = RestServer(url="http://other", max_bytes=LIMIT)
    target = on_rest(other, None)
    moving = MovingStore(target, [store])
    await moving.serve(await sealed(target, [PUMP], number=2))
    (space,) = await (await target.overlay()).spaces()
    assert (await other.local.count(f"uid-push-{space.id}")).count == 100
    await moving.close()
    await other.local.close()


async def test_batch_larger_than_a_request_is_built(server: RestServer) -> None:
    server.max_bytes = LIMIT
    store = on_rest(server, None)
    build = await store.begin(manifest())
    await build.add([chunk(f"d{number}", FILLER) for number in range(100)])
    assert (await build.seal()).chunks == 100
    await store.close()


@pytest.mark.parametrize("lost", range(3))
async def test_erasure_that_a_part_did_not_take_is_made_again(server: RestServer, lost: int) -> None:
    # Given three servers, whose collections have three parts where nothing else is said
    server.servers = 3
    store = on_rest(server, None)
    name, overlay = await sealed(store, [PUMP, chunk("valve", "Close the valve.")]), await store.overlay()
    assert len((await answered(store, name, asked("pump valve")))[1]) == 2
    # When a document is erased while one part takes no write, and again when it does
    server.lost_part = lost
    try:
        await overlay.remove("pump", None)
    except StoreUnavailable:
        server.lost_part = None
        await overlay.remove("pump", None)
    # Then it is hidden from those that had looked before, and counted
    assert (await answered(store, name, asked("pump valve")))[1] == ["Close the valve."]
    assert (await overlay.totals()).tombstones == 1
    await store.close()


async def test_entries_of_pushes_have_one_part_and_passages_the_servers_number(server: RestServer) -> None:
    server.servers = 3
    store = on_rest(server, None)
    await (await store.overlay()).put(document("note", "A valve."))
    assert server.parts.pop("uid-push") == 1
    assert set(server.parts.values()) == {3}
    await store.close()


async def test_what_was_sealed_serves_at_once_though_a_server_tells_it_late(server: RestServer) -> None:
    server.late = 3
    store = on_rest(server, None)
    name = await sealed(store, [PUMP])
    assert [item.sealed for item in await store.generations()] == [True]
    await store.serve(name)
    assert await found(store, name, asked("pump")) == ["pump"]
    await store.close()


async def test_notes_are_not_lost_to_a_server_that_tells_them_late(server: RestServer) -> None:
    # Given a generation that was noted, and a server of the cluster that has not heard of it
    store = on_rest(server, None)
    name = await sealed(store, [PUMP])
    server.late = 2
    await store.note(name, Notes(gate=GATE))
    # When a note is added to what is told
    (told,) = await store.generations()
    await store.note(name, told.notes.model_copy(update={"served_at": NOON}))
    # Then both are there, for another retriever too
    server.former.clear()
    other = on_rest(server, None)
    for reader in (store, other):
        (told,) = await reader.generations()
        assert (told.notes.gate, told.notes.served_at) == (GATE, NOON)
    # and what that one notes is heard of here
    await other.note(name, Notes(gate=GATE))
    server.former.clear()
    assert (await store.generations())[0].notes.served_at is None
    await other.close()
    await store.close()


async def test_a_generation_that_was_dropped_is_known_no_more(server: RestServer) -> None:
    # Given a generation that serves, and one before it
    store = on_rest(server, None)
    first, second = await sealed(store, [PUMP]), await sealed(store, [PUMP], number=2)
    await store.serve(second)
    # When the older one is dropped, then it is refused before the alias is taken from the one that serves
    await store.drop(first)
    with pytest.raises(GenerationUnknown):
        await store.check_servable(first)
    assert await store.serving() == second
    await store.close()


@pytest.mark.parametrize("key", [None, "k3y"])
async def test_suite_leaves_a_named_server_as_it_was(
    server: RestServer, key: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a server that the environment names, with a collection and an alias of somebody else's
    server.key = key
    other = ServerStore(server.local, prefix="nimblet-test")
    await other.serve(await sealed(other, [PUMP]))
    with serving(server.app()) as url:
        monkeypatch.setenv(URL, url)
        monkeypatch.delenv(KEY, raising=False)
        if key is not None:
            monkeypatch.setenv(KEY, key)
        for _ in range(2):
            # When a store of the suite's own is used there and left
            async with opened("server", tmp_path) as store:
                name = await sealed(store, [PUMP])
                await store.serve(name)
                await (await store.overlay()).put(document("note", "A valve."))
                assert await found(store, name, asked("pump")) == ["pump"]
            # Then only theirs is there
            (left,) = (await server.local.get_collections()).collections
            assert left.name == "nimblet-test-g000001-a"
            (alias,) = (await server.local.get_aliases()).aliases
            assert alias.alias_name == "nimblet-test-serving"
