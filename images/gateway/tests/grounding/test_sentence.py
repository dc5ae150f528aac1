# SPDX-License-Identifier: Apache-2.0
"""Sentences out of a stream: whole, in order, and the same however the stream was cut."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_gateway.grounding.sentence import MAX_SENTENCE, take_sentences

TEXTS = st.text(alphabet=st.sampled_from("aB1. !?\n\"'([*\u3002\u201d,"), max_size=60)


def streamed(pieces: list[str]) -> list[str]:
    """Feed pieces one by one and return all sentences."""
    found: list[str] = []
    rest = ""
    for piece in pieces:
        taken = take_sentences(rest + piece, ended=False)
        found += taken.sentences
        rest = taken.rest
    return [*found, *take_sentences(rest, ended=True).sentences]


@settings(deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_pieces_of_stream_make_no_difference(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[first:last] for first, last in pairwise(places)]
    assert streamed(pieces) == streamed([text])


@settings(deadline=None)
@given(text=TEXTS)
def test_nothing_is_lost_or_added(text: str) -> None:
    assert "".join(streamed(list(text))) == text


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It costs 3.50 crowns. Pay at the gate.", ["It costs 3.50 crowns. ", "Pay at the gate."]),
        ("Dr. Moor came at 5 p.m. on Monday. He left.", ["Dr. Moor came at 5 p.m. on Monday. ", "He left."]),
        ("See J. Harrow, e.g. on page 3.", ["See J. Harrow, e.g. on page 3."]),
        ('He said "No." Then he left.', ['He said "No." ', "Then he left."]),
        ("1. Close the tap.\n2. Wait!", ["1. Close the tap.\n", "2. Wait!"]),
        ("First line\n\nSecond line", ["First line\n\n", "Second line"]),
        ("\u4e00\u3002\u4e8c\u3002", ["\u4e00\u3002", "\u4e8c\u3002"]),
        ("Wait... then go. Done", ["Wait... then go. ", "Done"]),
        ("", []),
    ],
)
def test_sentences_end_where_readers_see_it(text: str, sentences: list[str]) -> None:
    assert streamed([text]) == sentences


def test_sentence_waits_until_its_end_is_seen() -> None:
    # "5." may go on as "5.30", and "etc. " with a small letter
    assert take_sentences("Open at 5.", ended=False).sentences == ()
    assert take_sentences("Open at 5. ", ended=False).sentences == ()
    assert take_sentences("Open at 5. T", ended=False).sentences == ("Open at 5. ",)


def test_endless_sentence_is_cut_between_words() -> None:
    taken = take_sentences("word " * MAX_SENTENCE, ended=False)
    assert all(len(sentence) <= MAX_SENTENCE and sentence.endswith("word ") for sentence in taken.sentences)
    assert len(taken.rest) <= MAX_SENTENCE


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    ["a" * 1000 + " no. A" * 160, "a." * 500 + " no. A" * 160, "." * 1990 + "x"],
    ids=["one word", "inner dots", "dots"],
)
def test_replies_made_to_be_slow_are_not(text: str) -> None:
    # a stream is looked at again with each token, and whoever else asked waits meanwhile
    for _ in range(1000):
        assert take_sentences(text, ended=False).rest == text
