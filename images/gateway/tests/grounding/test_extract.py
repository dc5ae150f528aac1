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


def test_row_without_clauses_is_cut_to_the_words_asked_for() -> None:
    rows = " ".join(f"Cloth{number} 4 kg {number} min 71 l" for number in range(20, 30))
    extract = plan_extract("How long does cloth25 take?", [Passage(id="a", text=rows)])
    assert extract is not None
    said = extract.span.of(rows)
    assert ("Cloth25 4 kg 25 min" in said, len(said.split())) == (True, EXTRACT_WORDS)


def test_sentence_that_follows_the_words_asked_for_answers() -> None:
    text = "On 3 May we met.\nThe fair is held again.\nIt begins on 20 September.\nThe band plays at 8."
    extract = plan_extract("When is the autumn fair of Sill?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "It begins on 20 September."


def test_passage_that_is_about_it_by_its_heading_alone_answers() -> None:
    passage = Passage(id="a", text="The door was left open.", location="Porthole light")
    extract = plan_extract("Why is the porthole lit?", [passage])
    assert extract is not None
    assert extract.span.of(passage.text) == passage.text


def test_sentence_of_several_lines_is_one() -> None:
    text = "Pour it over the samphire when you\ncan bear to hold the pot.\n\n- one spoon\n- two jars"
    assert [span.of(text) for span in Passage(id="a", text=text).units] == [
        "Pour it over the samphire when you\ncan bear to hold the pot.",
        "- one spoon",
        "- two jars",
    ]


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
