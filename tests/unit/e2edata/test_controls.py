# SPDX-License-Identifier: Apache-2.0
"""The controls do what their names say, and nothing cleverer."""

import pytest

from e2e.data.controls import Passage, always_answer, always_refuse, cosine_only, paste_top, shuffled


def passage(text: str, *, document: str = "a", cosine: float = 0.5) -> Passage:
    return Passage(document=document, text=text, cosine=cosine)


def test_always_refuse_refuses() -> None:
    assert always_refuse([passage("Something.")]).refused


def test_always_answer_answers_short_even_without_a_passage() -> None:
    assert always_answer([passage("First one. Second one.")]).text == "First one."
    assert len(always_answer([passage("word " * 50)]).text.split()) == 20
    assert not always_answer([]).refused


def test_cosine_only_answers_from_the_threshold_on() -> None:
    found = [passage("Low.", cosine=0.2), passage("High.", cosine=0.6)]
    assert not cosine_only(found, threshold=0.6).refused
    assert cosine_only(found, threshold=0.61).refused
    assert cosine_only([], threshold=0.0).refused


def test_paste_top_pastes_the_best_three() -> None:
    assert paste_top([passage(text) for text in "abcd"]).text == "a\nb\nc"


def test_shuffled_gives_nobody_a_passage_of_the_own_document() -> None:
    found = {name: (passage(name, document=f"doc-{name}"),) for name in "abcde"}
    documents = {name: f"doc-{name}" for name in "abcde"}
    given = shuffled(found, documents=documents)
    assert sorted(given) == sorted(found)
    assert all(p.document != documents[name] for name, passages in given.items() for p in passages)
    assert given == shuffled(found, documents=documents)


def test_shuffled_refuses_when_no_other_passage_exists() -> None:
    with pytest.raises(ValueError, match="give more questions"):
        shuffled({"q": (passage("x", document="d"),)}, documents={"q": "d"})
