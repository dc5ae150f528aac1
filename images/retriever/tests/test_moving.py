# SPDX-License-Identifier: Apache-2.0
"""An index that moves from one set of servers to another: nothing is ever missing, wherever it is cut off."""

import asyncio

import pytest

from nimblet_retriever.store.chunk import (
    GenerationEmpty,
    GenerationSealed,
    GenerationUnknown,
    StoreMoved,
    StoreUnavailable,
)
from nimblet_retriever.store.connection import connect
from nimblet_retriever.store.interface import Store
from nimblet_retriever.store.moving import MovingStore
from nimblet_retriever.store.server import ServerStore
from retriever_testing.faulty import FaultyClient, Killed, heal, killed_after
from retriever_testing.process import free_port
from retriever_testing.stores import answered, asked, chunk, document, manifest, sealed

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
]
PUMP = chunk("pump", "The pump X200 runs at 45 bar.", angle=0.0)
NOTE = document("note", "The pump X200 was repaired.", "It is in hall 3.", angle=0.5)
QUESTION = asked("pump X200", angle=0.0)
OLD, NEW = "g000001", "g000002"


def plain(client: FaultyClient, name: str) -> ServerStore:
    """Return one place, as a process that knows no other opens it."""
    return ServerStore(client, prefix="docs", url=f"http://{name}")


def moving(old: FaultyClient, new: FaultyClient) -> MovingStore:
    """Return the store that leaves the old servers, as a new process opens it."""
    return MovingStore(plain(new, "new"), [plain(old, "old")])


async def filled() -> tuple[FaultyClient, FaultyClient]:
    """Return servers with a serving generation and pushed documents, and empty ones."""
    old, new = FaultyClient(), FaultyClient()
    store = plain(old, "old")
    await store.serve(await sealed(store, [PUMP]))
    overlay = await store.overlay()
    await overlay.put(NOTE)
    await overlay.remove("handbook/gone", None)
    return old, new


async def all_found(store: Store, *names: str) -> int:
    """Check that one of these generations serves, with all that was pushed; return the number of pushes."""
    serving = await store.serving()
    assert serving in names
    number, texts = await answered(store, str(serving), QUESTION)
    assert set(texts) == {PUMP.text, *(item.text for item in NOTE.chunks)}
    assert (await (await store.overlay()).entry("handbook/gone")) is not None
    return number


async def test_builds_go_to_the_new_servers_and_the_old_answer_until_the_swap() -> None:
    old, new = await filled()
    store = moving(old, new)
    await sealed(store, [PUMP], number=2)
    # Given a generation that was built on the new servers, the old one's answers, with vectors for the build
    assert await all_found(store, OLD) == 2
    assert [item.name for item in await store.generations()] == [OLD, NEW]
    assert list(await store.vectors(OLD, [PUMP.reuse_key])) == [PUMP.reuse_key]
    assert [(item.url, item.used) for item in (await store.look()).servers] == [
        ("http://old", True),
        ("http://new", False),
    ]
    # When it is served, questions and pushes are on the new servers alone
    await store.serve(NEW)
    assert await all_found(store, NEW) == 2
    assert [item.used for item in (await store.look()).servers] == [False, True]
    assert await all_found(plain(new, "new"), NEW) == 2
    # And pushes go on there with their numbers
    receipt = await (await store.overlay()).put(document("later", "A valve.", angle=2.0))
    assert receipt.sequence == 3


async def test_swap_goes_back_while_the_old_servers_are_there() -> None:
    old, new = await filled()
    store = moving(old, new)
    await store.serve(await sealed(store, [PUMP], number=2))
    await store.serve(OLD)
    assert await all_found(store, OLD) == 2
    assert [item.used for item in (await store.look()).servers] == [True, False]
    assert await all_found(plain(old, "old"), OLD) == 2


async def test_move_that_is_cut_off_anywhere_loses_nothing_and_is_made_again() -> None:
    cuts = 0
    while True:
        # Given a swap to the new servers of which so many writes are made
        old, new = await filled()
        store = moving(old, new)
        await sealed(store, [PUMP], number=2)
        killed_after(cuts, old, new)
        try:
            await store.serve(NEW)
            ended = True
        except Killed:
            ended = False
        heal(old, new)
        # Then the next process answers everything, and takes pushes
        again = moving(old, new)
        assert await all_found(again, OLD, NEW) == 2
        used = [item.url for item in (await again.look()).servers if item.used]
        if len(used) == 1:  # the operator lets go of the other place then
            client = new if used == ["http://new"] else old
            assert await all_found(plain(client, "one"), OLD, NEW) == 2
            await (await plain(client, "one").overlay()).put(document("x", "A crane.", angle=3.0))
        # And the same order ends as ever
        await again.serve(NEW)
        assert [item.used for item in (await again.look()).servers] == [False, True]
        assert await plain(old, "old").serving() is None
        if ended:
            break
        cuts += 1
    assert cuts > 10


async def test_questions_are_answered_all_through_a_move() -> None:
    old, new = await filled()
    store = moving(old, new)
    await sealed(store, [PUMP], number=2)
    done, seen = asyncio.Event(), set()

    async def ask() -> None:
        while not done.is_set():
            await all_found(store, OLD, NEW)
            seen.add(await store.serving())
            await asyncio.sleep(0)

    asking = asyncio.create_task(ask())
    for name in (NEW, OLD, NEW):
        await store.serve(name)
    done.set()
    await asking
    assert seen <= {OLD, NEW}


async def test_a_process_that_was_not_told_pushes_nowhere_and_finds_the_new_place() -> None:
    old, new = await filled()
    # Given a retriever of before, which drains, and one that moves the index
    before, store = plain(old, "old"), moving(old, new)
    kept, other = await before.overlay(), moving(old, new)
    seen = await other.overlay()
    await store.serve(await sealed(store, [PUMP], number=2))
    # Then the old one's pushes are refused, and another that knows both places finds the documents
    with pytest.raises(StoreMoved):
        await kept.put(document("late", "Too late.", angle=1.0))
    with pytest.raises(StoreMoved):
        await seen.put(document("late", "Once more.", angle=1.0))
    assert (await seen.put(document("late", "Once more.", angle=1.0))).sequence == 3


async def test_new_servers_that_are_away_cost_no_question() -> None:
    old, _ = await filled()
    away = ServerStore(connect(f"http://127.0.0.1:{free_port()}", None), prefix="docs", url="http://new")
    store = MovingStore(away, [plain(old, "old")])
    assert await all_found(store, OLD) == 2
    look = await store.look()
    assert [item.used for item in look.servers] == [True, False]
    assert isinstance(look.trouble, StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        await store.begin(manifest(2))
    # And old ones that are away are told: nobody else knows what served
    with pytest.raises(StoreUnavailable):
        await MovingStore(plain(FaultyClient(), "new"), [away]).serving()
    await store.close()


async def test_names_and_rules_hold_over_both_places() -> None:
    old, new = await filled()
    store = moving(old, new)
    with pytest.raises(GenerationSealed):
        await store.begin(manifest(1))
    with pytest.raises(GenerationUnknown):
        await store.serve("g000009")
    await sealed(store, [], number=2)
    with pytest.raises(GenerationEmpty):
        await store.serve(NEW)
    assert await all_found(store, OLD) == 2
    # a build that an edit left unfinished on the old servers gives its name to the new
    await plain(old, "old").begin(manifest(3, token="zombie"))
    build = await store.begin(manifest(3))
    await build.add([PUMP])
    await build.seal()
    await store.serve("g000003")
    await store.drop(OLD)
    assert [item.name for item in await store.generations()] == [NEW, "g000003"]
