# SPDX-License-Identifier: Apache-2.0
"""What every store must do: one suite over the embedded engine, the client's local mode and a real server."""

import math
from datetime import UTC, datetime

import pytest

from nimblet_retriever.store.chunk import (
    BuildFenced,
    ChunkRefused,
    GenerationEmpty,
    GenerationSealed,
    GenerationServing,
    GenerationUnknown,
    Mode,
    Selection,
)
from nimblet_retriever.store.generation import Gate, Notes
from nimblet_retriever.store.interface import Store
from retriever_testing.stores import asked, chunk, found, manifest, sealed

pytestmark = [
    pytest.mark.asyncio,
    # the client's local mode says that it filters without an index: right, and nothing a store can change
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
]

PUMP = chunk("pump", "The pump X200 runs at 45 bar.", angle=0.0)
VALVE = chunk("valve", "Close the valve before you clean the filter.", angle=1.0)
WHALE = chunk("whale", "A whale sleeps near the surface.", angle=2.0)


async def test_each_half_and_their_fusion_find_the_right_passage(store: Store) -> None:
    # Given three passages with different words and directions
    name = await sealed(store, [PUMP, VALVE, WHALE])
    # When a question is near one by its vector, and holds the words of another
    near_whale, about_valves = 2.0, "cleaning filters"
    # Then each half ranks its own first, stems and all, and the fusion has both on top
    assert (await found(store, name, asked("", angle=near_whale, mode=Mode.DENSE)))[0] == "whale"
    assert await found(store, name, asked(about_valves, mode=Mode.LEXICAL)) == ["valve"]
    both = await found(store, name, asked(about_valves, angle=near_whale, limit=2))
    assert set(both) == {"whale", "valve"}


async def test_a_hit_carries_what_a_citation_needs(store: Store) -> None:
    # Given a passage with a place and labels
    named = chunk("manual", "Turn left.", labels={"team": "a=b"}, location="Chapter 2 > Steps")
    name = await sealed(store, [named])
    # When it is found
    (hit,) = await store.search(name, asked("turn"))
    # Then everything but the vector is there as it came
    assert (hit.id, hit.document, hit.position, hit.text) == (named.id, "manual", 0, "Turn left.")
    assert (hit.source, hit.title, hit.location) == ("handbook", "Manual", "Chapter 2 > Steps")
    assert hit.labels == {"team": "a=b"}


async def test_question_without_a_word_is_answered_by_its_vector(store: Store) -> None:
    name = await sealed(store, [PUMP, VALVE])
    assert await found(store, name, asked("?!", angle=1.0, limit=1)) == ["valve"]
    assert await found(store, name, asked("?!", mode=Mode.LEXICAL)) == []


async def test_passage_without_a_word_is_kept(store: Store) -> None:
    name = await sealed(store, [chunk("dots", "...", angle=1.0), PUMP])
    assert await found(store, name, asked("pump", angle=1.0, mode=Mode.DENSE, limit=1)) == ["dots"]


@pytest.mark.parametrize("mode", list(Mode))
async def test_nobody_finds_what_they_may_not_see(store: Store, mode: Mode) -> None:
    # Given the best passage for few eyes, one for nobody's, and a worse one for all
    secret = chunk("secret", "The pump X200 runs at 45 bar.", access=("board", "audit"))
    orphan = chunk("orphan", "The pump X200 runs at 45 bar.", access=())
    name = await sealed(store, [secret, orphan, chunk("open", "A pump.", angle=0.5)])
    question = "pump X200 bar"
    # Then everybody finds the public one alone, an auditor both, and a caller without labels nothing,
    # however few candidates are asked for
    everybody = asked(question, mode=mode, candidates=1)
    assert await found(store, name, everybody) == ["open"]
    auditor = Selection(access=frozenset({"public", "audit"}))
    assert set(await found(store, name, asked(question, mode=mode, selection=auditor))) == {"open", "secret"}
    nobody = Selection(access=frozenset())
    assert await found(store, name, asked(question, mode=mode, selection=nobody)) == []


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"sources": frozenset({"wiki"})}, {"b", "c"}),
        ({"sources": frozenset({"wiki", "handbook"})}, {"a", "b", "c"}),
        ({"documents": frozenset({"a", "c"})}, {"a", "c"}),
        ({"labels": {"team": "red"}}, {"a", "b"}),
        ({"labels": {"team": "red", "year": "2026"}}, {"b"}),
        ({"labels": {"team": "red"}, "sources": frozenset({"wiki"})}, {"b"}),
        ({"hidden": frozenset({"a", "b"})}, {"c"}),
        ({"labels": {"team": 'red"} or true'}}, set()),
    ],
)
async def test_selection_narrows(store: Store, selection: dict[str, object], expected: set[str]) -> None:
    name = await sealed(
        store,
        [
            chunk("a", "one", labels={"team": "red"}),
            chunk("b", "one", source="wiki", labels={"team": "red", "year": "2026"}),
            chunk("c", "one", source="wiki", labels={"team": "blue"}),
        ],
    )
    narrowed = Selection(access=frozenset({"public"}), **selection)  # type: ignore[arg-type]  # by the table above
    assert set(await found(store, name, asked("one", selection=narrowed))) == expected


async def test_build_is_seen_by_nobody_until_it_is_sealed(store: Store) -> None:
    # Given a build with passages in it
    build = await store.begin(manifest())
    await build.add([PUMP])
    # Then it is listed as under way, and neither searched nor served
    (listed,) = await store.generations()
    assert (listed.name, listed.sealed) == ("g000001", False)
    with pytest.raises(GenerationUnknown):
        await store.search("g000001", asked("pump"))
    with pytest.raises(GenerationUnknown):
        await store.serve("g000001")
    assert await store.serving() is None
    # When it is sealed, then it is complete with its counts
    await build.add([chunk("pump", "It weighs 12 kg.", position=1), VALVE])
    counts = await build.seal()
    assert (counts.documents, counts.chunks) == (2, 3)
    (listed,) = await store.generations()
    assert listed.counts == counts


async def test_swap_forward_and_back(store: Store) -> None:
    # Given two generations of the same document
    first = await sealed(store, [chunk("pump", "It runs at 45 bar.")])
    second = await sealed(store, [chunk("pump", "It runs at 60 bar.")], number=2)
    # When one after the other serves
    await store.serve(first)
    before = await store.serving()
    await store.serve(second)
    after = await store.serving()
    # Then each name still answers from its own, and going back is the same step
    assert (before, after) == (first, second)
    texts = [(await store.search(name, asked("bar")))[0].text for name in (first, second)]
    assert texts == ["It runs at 45 bar.", "It runs at 60 bar."]
    await store.serve(first)
    assert await store.serving() == first


async def test_empty_generation_is_never_served(store: Store) -> None:
    serving = await sealed(store, [PUMP])
    await store.serve(serving)
    empty = await sealed(store, [], number=2)
    with pytest.raises(GenerationEmpty):
        await store.serve(empty)
    assert await store.serving() == serving


async def test_dropping(store: Store) -> None:
    # Given a serving generation, an older one and a build
    old, new = await sealed(store, [PUMP]), await sealed(store, [VALVE], number=2)
    await store.serve(new)
    build = await store.begin(manifest(3))
    # Then the serving one stays, the others go, and one that is gone is no error
    with pytest.raises(GenerationServing):
        await store.drop(new)
    await store.drop(old)
    await store.drop(old)
    await store.drop(build.manifest.name)
    assert [item.name for item in await store.generations()] == [new]
    with pytest.raises(GenerationUnknown):
        await store.search(old, asked("pump"))


async def test_the_same_chunk_again_replaces_itself(store: Store) -> None:
    build = await store.begin(manifest())
    await build.add([PUMP, VALVE])
    await build.add([PUMP])
    counts = await build.seal()
    assert counts.chunks == 2


async def test_vectors_are_reused_by_key(store: Store) -> None:
    # Given a sealed generation and a build with one passage each
    name = await sealed(store, [PUMP, VALVE])
    build = await store.begin(manifest(2))
    await build.add([WHALE])
    # Then each tells the vectors of the keys it has
    assert set(await store.vectors(name, [PUMP.reuse_key, "unknown"])) == {PUMP.reuse_key}
    held = await build.vectors([WHALE.reuse_key, PUMP.reuse_key])
    assert held[WHALE.reuse_key] == pytest.approx(list(WHALE.vector), abs=1e-6)
    assert set(held) == {WHALE.reuse_key}
    assert await store.vectors(name, []) == {}


async def test_resumed_build_holds_what_it_held(store: Store) -> None:
    # Given a build that was left
    build = await store.begin(manifest(token="one"))
    await build.add([PUMP])
    await build.close()
    # When the same build begins again
    again = await store.begin(manifest(token="one"))
    # Then it goes on where it was
    assert set(await again.vectors([PUMP.reuse_key])) == {PUMP.reuse_key}
    await again.add([VALVE])
    assert (await again.seal()).chunks == 2


async def test_zombie_build_is_fenced(store: Store) -> None:
    # Given a build, and another one of the same generation that takes over
    zombie = await store.begin(manifest(token="old"))
    await zombie.add([PUMP])
    build = await store.begin(manifest(token="new"))
    await build.add([VALVE])
    # Then the older one can't write, seal or read any more, and nothing of it is left
    with pytest.raises(BuildFenced):
        await zombie.add([WHALE])
    with pytest.raises(BuildFenced):
        await zombie.vectors([PUMP.reuse_key])
    with pytest.raises(BuildFenced):
        await zombie.seal()
    await build.seal()
    assert await found(store, "g000001", asked("pump valve whale", limit=9)) == ["valve"]


async def test_sealed_name_is_not_built_again(store: Store) -> None:
    await sealed(store, [PUMP])
    with pytest.raises(GenerationSealed, match="build the next one"):
        await store.begin(manifest(token="other"))


async def test_vector_of_another_length_is_refused_with_its_whole_batch(store: Store) -> None:
    build = await store.begin(manifest())
    with pytest.raises(ChunkRefused, match="expected a vector of 8 numbers"):
        await build.add([PUMP, chunk("short", "x", vector=[1.0, 0.0])])
    assert (await build.seal()).chunks == 0


async def test_language_without_a_stemmer_is_refused(store: Store) -> None:
    unknown = manifest().model_copy(update={"language": "klingon"})
    with pytest.raises(ValueError, match="klingon"):
        await store.begin(unknown)
    assert await store.generations() == ()


@pytest.mark.parametrize("text", ["", "\x00", "Ünïcode ✓ \U0001f40b", "a" * 20_000, '{"$ne": 1}', "--; drop"])
async def test_any_text_is_kept_as_it_is(store: Store, text: str) -> None:
    name = await sealed(store, [chunk(f"doc {text[:30]}", text)])
    (hit,) = await store.search(name, asked("", mode=Mode.DENSE))
    assert (hit.text, hit.document) == (text, f"doc {text[:30]}")


@pytest.mark.parametrize("mode", list(Mode))
async def test_similarity_is_the_cosine_whatever_the_ranking(store: Store, mode: Mode) -> None:
    # Given two passages, one as the question and one at a right angle to it
    name = await sealed(store, [chunk("same", "A pump."), chunk("other", "A pump.", angle=math.pi / 2)])
    # When both are found, then each has its cosine, though the scores of words and of fusion say otherwise
    hits = await store.search(name, asked("pump", mode=mode, limit=2))
    found_ = {hit.document: hit.similarity for hit in hits}
    assert found_ == {"same": pytest.approx(1.0, abs=1e-5), "other": pytest.approx(0.0, abs=1e-5)}


async def test_the_gate_alone_sees_everything(store: Store) -> None:
    # Given passages for few and for nobody
    name = await sealed(
        store, [chunk("secret", "A pump.", access=("board",)), chunk("orphan", "A pump.", access=())]
    )
    # Then a search for everything finds them, and filters hold all the same
    everything = Selection(access=frozenset(), everything=True)
    assert set(await found(store, name, asked("pump", selection=everything))) == {"secret", "orphan"}
    one = Selection(access=frozenset(), everything=True, documents=frozenset({"orphan"}))
    assert await found(store, name, asked("pump", selection=one)) == ["orphan"]


async def test_notes_are_kept_with_a_sealed_generation(store: Store) -> None:
    # Given a sealed generation
    name = await sealed(store, [PUMP])
    # When it is noted of it how it fared
    gate = Gate(recall=0.5, mrr=0.4, ndcg=0.45, k=5, asked=2, passed=False, failed=("q2",), serving=None)
    notes = Notes(gate=gate, served_at=datetime(2026, 1, 1, tzinfo=UTC))
    await store.note(name, notes)
    # Then that is told, it serves and answers as before, and one that is not there can't be noted
    (generation,) = await store.generations()
    assert (generation.notes, generation.sealed) == (notes, True)
    await store.serve(name)
    assert await found(store, name, asked("pump")) == ["pump"]
    with pytest.raises(GenerationUnknown):
        await store.note("g000009", notes)
