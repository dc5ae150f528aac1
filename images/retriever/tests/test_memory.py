# SPDX-License-Identifier: Apache-2.0
"""The index in memory answers after any removals as one into which only the rest was put."""

import math
import random

from nimblet_retriever.store.chunk import Chunk, Mode, Search, Selection
from nimblet_retriever.store.lexical import document_vector
from nimblet_retriever.store.memory import FIRST_ROWS, MemoryIndex
from nimblet_retriever.store.pushed import Space

SPACE = Space(embedding="model@1", canary=(1.0, 0.0, 0.0, 0.0), language="english")
WORDS = ("pump", "valve", "crane", "meadow", "river", "engine", "yellow", "seven")


def chunk(document: str, position: int, draw: random.Random) -> Chunk:
    """Return a passage of a few words, seen by one of two groups."""
    vector = [draw.gauss(0.0, 1.0) for _ in range(4)]
    length = math.sqrt(sum(number * number for number in vector))
    return Chunk(
        document=document,
        position=position,
        text=" ".join(draw.choices(WORDS, k=5)),
        source="push:a",
        reuse_key=f"{document}/{position}",
        labels={"team": draw.choice(("red", "blue"))},
        access=(draw.choice(("public", "board")),),
        vector=[number / length for number in vector],
    )


def put(index: MemoryIndex, document: str, chunks: list[Chunk]) -> None:
    index.add(document, chunks, [document_vector(item.text, language="english") for item in chunks])


def searches() -> list[Search]:
    """Return questions of both halves, with and without filters."""
    public, both = frozenset({"public"}), frozenset({"public", "board"})
    selections = [
        Selection(access=both),
        Selection(access=public),
        Selection(access=both, labels={"team": "red"}),
        Selection(access=both, documents=frozenset({"d1", "d60", "d99"})),
        Selection(access=both, hidden=frozenset({"d70"})),
    ]
    return [
        Search(
            vector=[0.5, 0.5, 0.5, 0.5], text="yellow pump engine", selection=selection, candidates=500, mode=mode
        )
        for selection in selections
        for mode in (Mode.DENSE, Mode.LEXICAL)
    ]


def test_removed_documents_leave_nothing_behind() -> None:
    # Given an index of which most documents were removed or replaced, one after another
    draw = random.Random(3)  # noqa: S311 - the same passages each time
    documents = {f"d{number}": [chunk(f"d{number}", at, draw) for at in range(3)] for number in range(100)}
    index, fresh = MemoryIndex(SPACE), MemoryIndex(SPACE)
    for name, chunks in documents.items():
        put(index, name, chunks)
    kept = ("d1", "d60", "d70", "d99")
    for name in documents.keys() - set(kept):
        index.remove(name)
    put(index, "d70", documents["d70"][:1])
    documents["d70"] = documents["d70"][:1]
    # Then it is as one that never had them
    for name in kept:
        put(fresh, name, documents[name])
    assert len(index) == len(fresh) == 10 < FIRST_ROWS
    for search in searches():
        for found, expected in (
            (index.dense(search), fresh.dense(search)),
            (index.lexical(search), fresh.lexical(search)),
        ):
            assert [hit.id for hit in found] == [hit.id for hit in expected]
            assert all(math.isclose(a.score, b.score, abs_tol=1e-5) for a, b in zip(found, expected, strict=True))
    assert [item.text for item in index.chunks("d60")] == [item.text for item in documents["d60"]]
    # And it takes more
    put(index, "d1", [chunk("d1", at, draw) for at in range(FIRST_ROWS + 1)])
    assert len(index) == 7 + FIRST_ROWS + 1
