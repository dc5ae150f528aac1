# SPDX-License-Identifier: Apache-2.0
"""Markers are the gateway's alone, and a quote is a piece of its passage."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_gateway.grounded import Checker
from nimblet_gateway.grounding.citation import QUOTE_WORDS, mark, plan_quote, strip_markers
from nimblet_gateway.grounding.passage import Passage

FERRY = Passage(
    id="docs/ferry.md/0@g000001",
    text="The ferry leaves at 5:07. A ticket costs 3 crowns.\nDogs pay half.\n\nIn fog it stays in the harbour.",
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("It costs 3 crowns [1].", "It costs 3 crowns."),
        ("Both [1][2] say so [1, 2] and [3-5].", "Both say so and."),
        ("As told [^4].", "As told."),
        ("Yes \u30102\u2020source\u3011.", "Yes."),
        ("Right (Source 2), and [source: 3].", "Right, and."),
        ("Hidden [[1]1].", "Hidden."),
        ("Wide \uff3b\uff11\uff3d and \u27e62\u27e7.", "Wide and."),
        ("Take 3 (three) eggs [optional], as of [2031].", "Take 3 (three) eggs [optional], as of [2031]."),
    ],
)
def test_foreign_markers_are_removed(text: str, left: str) -> None:
    assert strip_markers(text) == left


@settings(deadline=None)
@given(st.text(alphabet="[]^1,2 a()"))
def test_no_marker_is_left_however_it_was_made(text: str) -> None:
    left = strip_markers(text)
    assert strip_markers(left) == left
    assert "[1]" not in left


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", [" " * 1_000_000, "[1" * 250_000 + "]" * 250_000, "(source 1" * 100_000])
def test_texts_made_to_be_slow_are_not(text: str) -> None:
    assert "[1]" not in strip_markers(f"{text}x")


@pytest.mark.parametrize("hidden", ["\u200b", "\u2060", "\u00ad", "\U000e0031", "\ufe0f"])
def test_letters_that_nobody_sees_hide_no_marker(hidden: str) -> None:
    # Given an answer that is kept though no passage supports it, with a marker that a hidden letter breaks up
    checker = Checker(passages=(), question="Why?", keeps_unsupported=True)
    told = "".join(item.text for item in checker.feed(f"It is so [{hidden}1]. And [1{hidden}]", ended=True))
    # Then the marker does not come together once the letter is taken out
    assert told == "It is so. And"


@settings(deadline=None)
@given(st.text(alphabet="ab .\n"), st.integers(1, 99))
def test_marker_stands_where_it_says(sentence: str, number: int) -> None:
    marked = mark(sentence, number=number)
    assert marked.marker.of(marked.text) == f"[{number}]"
    assert marked.text.replace(f" [{number}]", "", 1) == sentence


def test_quote_is_the_sentence_with_the_words_where_no_more_fits() -> None:
    span = plan_quote(FERRY, {"ticket": 1.0, "3": 4.0}, most=5)
    assert span is not None
    assert span.of(FERRY.text) == "A ticket costs 3 crowns."


def test_quote_holds_all_the_words_it_can() -> None:
    span = plan_quote(FERRY, {"3": 1.0, "half": 1.0}, most=8)
    assert span is not None
    assert span.of(FERRY.text) == "A ticket costs 3 crowns.\nDogs pay half."


def test_quote_shows_its_neighbours() -> None:
    span = plan_quote(FERRY, {"ticket": 1.0})
    assert span is not None
    assert span.of(FERRY.text) == FERRY.text


@pytest.mark.timeout(30)
def test_quote_ends_where_nothing_parts_words() -> None:
    # Given sentences of a script without blanks, all of which would be one word
    passage = Passage(id="a", text="".join(f"{chr(0x4E00 + number)}\u3002" for number in range(3000)))
    # Then each counts as a word at least
    span = plan_quote(passage, {word.form: 1.0 for word in passage.words})
    assert span is not None
    assert len(span.of(passage.text)) == 2 * QUOTE_WORDS


def test_passage_without_the_words_has_no_quote() -> None:
    assert plan_quote(FERRY, {"balloon": 1.0}) is None


@settings(deadline=None)
@given(st.text(), st.lists(st.sampled_from(["the", "ferri", "5:07", "a"]), min_size=1))
def test_quote_is_always_a_short_piece_of_its_passage(text: str, forms: list[str]) -> None:
    passage = Passage(id="a", text=f"{text} The ferry leaves at 5:07. {text}")
    span = plan_quote(passage, dict.fromkeys(forms, 1.0))
    if span is not None:
        quote = span.of(passage.text)
        assert quote in passage.text
        assert 0 < len(quote.split()) <= QUOTE_WORDS
