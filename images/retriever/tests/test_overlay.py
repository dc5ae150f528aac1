# SPDX-License-Identifier: Apache-2.0
"""What every overlay must do: one suite over the embedded form, the client's local mode and a real server."""

import asyncio
from dataclasses import replace

import pytest

from nimblet_retriever.store.chunk import Mode, Selection
from nimblet_retriever.store.interface import Store
from nimblet_retriever.store.pushed import Totals, VersionRefused
from retriever_testing.stores import SPACE, answered, asked, chunk, direction, document, sealed

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
]

PUMP = chunk("wiki/pump", "The pump X200 runs at 45 bar.", angle=0.0)
VALVE = chunk("wiki/valve", "Close the valve before you clean the filter.", angle=1.0)
NEWS = "The crane lifts nine tons."


async def serving(store: Store) -> str:
    """Build and serve a generation of two documents."""
    name = await sealed(store, [PUMP, VALVE])
    await store.serve(name)
    return name


async def test_pushed_document_is_found_at_once_beside_the_generation(store: Store) -> None:
    # Given a serving generation
    name, overlay = await serving(store), await store.overlay()
    assert await answered(store, name, asked("crane", angle=2.0)) == (0, [VALVE.text, PUMP.text])
    # When a document is pushed
    receipt = await overlay.put(document("news", NEWS, angle=2.0))
    # Then the next search finds it on top, and names the push
    assert (receipt.sequence, receipt.version) == (1, 1)
    assert await answered(store, name, asked("crane tons", angle=2.0)) == (1, [NEWS, VALVE.text, PUMP.text])
    # And what is nearer in the generation stays on top for other questions
    assert (await answered(store, name, asked("pump bar", angle=0.0)))[1][0] == PUMP.text


@pytest.mark.parametrize("mode", list(Mode))
async def test_each_mode_ranks_pushed_passages(store: Store, mode: Mode) -> None:
    name, overlay = await serving(store), await store.overlay()
    await overlay.put(document("news", NEWS, "Unrelated words entirely.", angle=2.0))
    _, texts = await answered(store, name, asked("the cranes lift", angle=2.0, mode=mode, limit=2))
    assert texts[0] == NEWS


async def test_nobody_finds_a_pushed_passage_they_may_not_see(store: Store) -> None:
    name, overlay = await serving(store), await store.overlay()
    await overlay.put(document("plan", "The crane will be sold.", angle=2.0, access=("board",)))
    await overlay.put(document("orphan", "The crane is nobody's.", angle=2.0, access=()))
    question = asked("crane", angle=2.0, candidates=3)
    assert await answered(store, name, question) == (2, [VALVE.text, PUMP.text])
    board = replace(question, selection=Selection(access=frozenset({"board"})))
    assert (await answered(store, name, board))[1] == ["The crane will be sold."]
    nobody = replace(question, selection=Selection(access=frozenset()))
    assert (await answered(store, name, nobody))[1] == []


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"sources": frozenset({"push:app"})}, {"one", "two"}),
        ({"sources": frozenset({"handbook"})}, {PUMP.text, VALVE.text}),
        ({"documents": frozenset({"push:app/a", "wiki/pump"})}, {"one", PUMP.text}),
        ({"labels": {"team": "red"}}, {"two"}),
        ({"hidden": frozenset({"push:app/a"})}, {"two", PUMP.text, VALVE.text}),
    ],
)
async def test_selection_narrows_both(store: Store, selection: dict[str, object], expected: set[str]) -> None:
    name, overlay = await serving(store), await store.overlay()
    await overlay.put(document("a", "one"))
    await overlay.put(document("b", "two", labels={"team": "red"}))
    narrowed = Selection(access=frozenset({"public"}), **selection)  # type: ignore[arg-type]  # by the table above
    _, texts = await answered(store, name, asked("one two", selection=narrowed, limit=9))
    assert set(texts) == expected


async def test_same_push_again_changes_nothing(store: Store) -> None:
    overlay = await store.overlay()
    first = await overlay.put(document("a", "one", version=3))
    assert await overlay.put(document("a", "one", version=3)) == first
    assert await overlay.put(document("a", "one")) == first
    assert (await overlay.totals()) == Totals(sequence=1, documents=1, passages=1, tombstones=0)


async def test_newer_version_replaces_the_whole_document(store: Store) -> None:
    # Given a document of three passages
    name, overlay = await serving(store), await store.overlay()
    await overlay.put(document("a", "crane one", "crane two", "crane three", version=1))
    # When a newer one has two
    await overlay.put(document("a", "crane four", "crane five", version=2))
    # Then nothing of the older one is found
    _, texts = await answered(store, name, asked("crane", limit=9))
    assert set(texts) == {"crane four", "crane five", PUMP.text, VALVE.text}
    assert (await overlay.totals()) == Totals(sequence=2, documents=1, passages=2, tombstones=0)


async def test_older_version_is_refused(store: Store) -> None:
    overlay = await store.overlay()
    await overlay.put(document("a", "one", version=2))
    with pytest.raises(VersionRefused, match="version 2 is here"):
        await overlay.put(document("a", "one", version=1))
    with pytest.raises(VersionRefused, match="other content"):
        await overlay.put(document("a", "two", version=2))
    with pytest.raises(VersionRefused, match="version 2 is here"):
        await overlay.remove("push:app/a", 1)
    assert (await overlay.totals()).sequence == 1


async def test_deleted_document_is_not_brought_back_by_a_late_retry(store: Store) -> None:
    # Given a document that was deleted
    name, overlay = await serving(store), await store.overlay()
    await overlay.put(document("a", "crane", version=1))
    gone = await overlay.remove("push:app/a", None)
    assert await overlay.remove("push:app/a", None) == gone
    assert "crane" not in (await answered(store, name, asked("crane", limit=9)))[1]
    # When its push comes again late, then it is refused; a newer one is welcome
    with pytest.raises(VersionRefused, match="was deleted"):
        await overlay.put(document("a", "crane", version=1))
    await overlay.put(document("a", "crane", version=2))
    assert "crane" in (await answered(store, name, asked("crane", limit=9)))[1]
    # And it hides nothing in generations
    assert (await overlay.totals()).tombstones == 0


async def test_erased_source_document_stays_hidden_over_swap_and_roll_back(store: Store) -> None:
    # Given two generations that hold a document
    old, new = await sealed(store, [PUMP, VALVE]), await sealed(store, [PUMP, VALVE], number=2)
    await store.serve(new)
    overlay = await store.overlay()
    # When it is erased
    await overlay.remove("wiki/pump", None)
    # Then it is found in neither, nor in a later one, whichever serves
    later = await sealed(store, [PUMP, VALVE], number=3)
    for name in (new, old, later):
        await store.serve(name)
        assert await answered(store, name, asked("pump", limit=9)) == (1, [VALVE.text])
    # When that is undone, then it is back
    assert (await overlay.restore("wiki/pump")).sequence == 2
    assert PUMP.text in (await answered(store, old, asked("pump", limit=9)))[1]
    assert (await overlay.totals()).tombstones == 0


async def test_pushes_outlast_swap_roll_back_and_drop(store: Store) -> None:
    old, new = await sealed(store, [PUMP]), await sealed(store, [PUMP, VALVE], number=2)
    overlay = await store.overlay()
    await overlay.put(document("news", NEWS, angle=2.0))
    for name in (old, new, old):
        await store.serve(name)
        assert (await answered(store, name, asked("crane", angle=2.0)))[1][0] == NEWS
    await store.drop(new)
    assert (await answered(store, old, asked("crane", angle=2.0)))[1][0] == NEWS


async def test_access_labels_of_a_document_in_all_generations(store: Store) -> None:
    await sealed(store, [PUMP, VALVE])
    await sealed(store, [replace(PUMP, access=("board", "audit"))], number=2)
    assert await store.access_of("wiki/pump") == {"public", "board", "audit"}
    assert await store.access_of("wiki/valve") == {"public"}
    assert await store.access_of("wiki/none") == frozenset()


async def test_equal_text_is_answered_once(store: Store) -> None:
    name, overlay = await serving(store), await store.overlay()
    await overlay.put(document("copy", f"  {PUMP.text.upper()} "))
    _, texts = await answered(store, name, asked("pump bar", limit=9))
    assert sorted(text.strip().casefold() for text in texts) == sorted(
        [PUMP.text.casefold(), VALVE.text.casefold()]
    )


async def test_document_of_another_model_is_found_by_its_words_until_it_is_renewed(store: Store) -> None:
    # Given a document that was embedded by another model, with vectors of another length
    name, overlay = await serving(store), await store.overlay()
    other = SPACE.model_copy(update={"embedding": "model@0", "canary": (1.0, 0.0, 0.0)})
    old = document("news", NEWS, "It is yellow.")
    short = tuple(replace(item, vector=[0.0, 1.0, 0.0]) for item in old.chunks)
    await overlay.put(replace(old, space=other, chunks=short))
    # Then its words find it, its vector does not
    assert NEWS in (await answered(store, name, asked("crane", angle=2.0)))[1]
    assert NEWS not in (await answered(store, name, asked("crane", angle=2.0, mode=Mode.DENSE, limit=9)))[1]
    # When it is embedded anew
    (outdated,) = await overlay.outdated(SPACE.id, 10)
    assert [item.text for item in outdated.chunks] == [NEWS, "It is yellow."]
    renewed = tuple(replace(item, vector=direction(2.0)) for item in outdated.chunks)
    await overlay.renew(outdated.entry, renewed, SPACE)
    # Then its vector finds it too, and nothing is left to do; the push is the same one
    _, texts = await answered(store, name, asked("crane", angle=2.0, mode=Mode.DENSE, limit=2))
    assert set(texts) == {NEWS, "It is yellow."}
    assert await overlay.outdated(SPACE.id, 10) == ()
    assert (await overlay.totals()) == Totals(sequence=1, documents=1, passages=2, tombstones=0)


async def test_renewal_of_a_document_that_changed_meanwhile_is_dropped(store: Store) -> None:
    overlay = await store.overlay()
    other = SPACE.model_copy(update={"embedding": "model@0"})
    await overlay.put(replace(document("a", "one"), space=other))
    (outdated,) = await overlay.outdated(SPACE.id, 10)
    await overlay.put(replace(document("a", "two"), space=other))
    await overlay.renew(outdated.entry, document("a", "one").chunks, SPACE)
    (still,) = await overlay.outdated(SPACE.id, 10)
    assert [item.text for item in still.chunks] == ["two"]


async def test_pushes_at_the_same_time_all_count(store: Store) -> None:
    name, overlay = await serving(store), await store.overlay()
    receipts = await asyncio.gather(*(overlay.put(document(f"d{n}", f"crane {n}", angle=2.0)) for n in range(20)))
    assert sorted(item.sequence for item in receipts) == list(range(1, 21))
    push, texts = await answered(store, name, asked("crane", angle=2.0, limit=20))
    assert (push, set(texts)) == (20, {f"crane {n}" for n in range(20)})


async def test_search_meanwhile_sees_a_document_whole_or_not(store: Store) -> None:
    # Given a document that is replaced again and again by another number of passages
    name, overlay = await serving(store), await store.overlay()
    await overlay.put(document("a", *["crane 0"], angle=2.0, labels={"v": "0"}))
    seen = []

    async def replace_it() -> None:
        for version in range(1, 15):
            texts = [f"crane {version} {part}" for part in range(1 + version % 3)]
            await overlay.put(document("a", *texts, angle=2.0))

    writing = asyncio.create_task(replace_it())
    # When it is searched all the while
    while not writing.done():
        _, texts = await answered(store, name, asked("crane", angle=2.0, limit=9))
        seen.append({text.split()[1] for text in texts if text.startswith("crane")})
        await asyncio.sleep(0)
    await writing
    # Then every answer had exactly one of its versions
    assert all(len(versions) == 1 for versions in seen)
