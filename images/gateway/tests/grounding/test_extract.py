# SPDX-License-Identifier: Apache-2.0
"""A passage's own sentence as the answer: word for word, short, of the sort that was asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_gateway.grounding.extract import EXTRACT_WORDS, Sort, plan_extract, sort_of
from nimblet_gateway.grounding.passage import Passage

MANUAL = Passage(
    id="docs/wm7.pdf/3@g000001",
    text="The service desk is open on weekdays.\nA visit of the service costs 42 crowns.\n"
    "Wilbur Toft heads the service.",
    title="Ildren washing machine",
    similarity=0.6,
)
OTHER = Passage(id="docs/bog.txt/0@g000001", text="Bog cotton grows on peat.", similarity=0.1)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("How much is a visit of the service?", "A visit of the service costs 42 crowns."),
        ("Who is in the service of Ildren?", "Wilbur Toft heads the service."),
        ("On what weekdays is the desk open?", "The service desk is open on weekdays."),
    ],
)
def test_sentence_of_the_sort_asked_for_is_chosen(question: str, sentence: str) -> None:
    extract = plan_extract(question, [OTHER, MANUAL])
    assert extract is not None
    assert (extract.passage_index, extract.span.of(MANUAL.text)) == (1, sentence)


@pytest.mark.parametrize(
    ("question", "sort"),
    [
        ("Who runs it?", Sort.NAME),
        ("how many boats", Sort.NUMBER),
        ("spin speed price", Sort.NUMBER),
        ("When is the fair?", Sort.TIME),
        ("Why is it closed?", Sort.OTHER),
        ("", Sort.OTHER),
    ],
)
def test_question_tells_what_it_asks_for(question: str, sort: Sort) -> None:
    assert sort_of(question) is sort


def test_long_sentence_is_cut_at_its_clauses() -> None:
    text = f"The mill {'very ' * 20}old, since the flood, was closed by Kezia Holm in autumn, they say."
    extract = plan_extract("Who closed the mill?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "since the flood, was closed by Kezia Holm in autumn, they say."


@pytest.mark.parametrize("passages", [[], [Passage(id="a", text="Peat.")], [Passage(id="a", text="")]])
def test_nothing_is_chosen_where_nothing_fits(passages: list[Passage]) -> None:
    assert plan_extract("What opens the vault?", passages) is None


@settings(deadline=None)
@given(st.text(alphabet="ab ,.A1\n|"), st.text(alphabet="ab1 "))
def test_extract_is_a_piece_of_its_passage(text: str, question: str) -> None:
    extract = plan_extract(f"who {question}", [Passage(id="a", text=text)])
    if extract is not None:
        piece = extract.span.of(text)
        assert piece.strip()
        assert piece in text


def test_extract_limit_is_that_of_a_short_answer() -> None:
    assert EXTRACT_WORDS == 20
