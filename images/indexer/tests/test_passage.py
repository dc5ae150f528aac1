# SPDX-License-Identifier: Apache-2.0
"""Passages fit the budget, lose nothing, and stay within one place."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimblet_indexer.document import Parsed, Section
from nimblet_indexer.parse.text import clean
from nimblet_indexer.passage import Budget, plan_passages, sentences

BUDGET = Budget(tokens=20, overlap=5)


def words(texts: Sequence[str]) -> list[int]:
    """Count a token for each begun four characters of a word: long words have many, and joining adds none."""
    return [sum(-(-len(word) // 4) for word in text.split()) for text in texts]


def document(*sections: Section, title: str = "Pump") -> Parsed:
    return Parsed(title=title, sections=sections)


def test_short_section_is_one_passage_with_its_place() -> None:
    # Given a section under two headings on a page
    section = Section(text="It runs at 45 bar.", headings=("Care", "Values"), page=3)
    # Then the place stands in the location and in what is embedded, not in the text
    (passage,) = plan_passages(document(section), name="a.pdf", budget=BUDGET, count=words)
    assert (passage.text, passage.location) == ("It runs at 45 bar.", "Care > Values, page 3")
    assert passage.embedded == "Pump > Care > Values\nIt runs at 45 bar."


def test_document_without_a_title_is_called_by_its_name() -> None:
    (passage,) = plan_passages(document(Section(text="x"), title=""), name="a.txt", budget=BUDGET, count=words)
    assert passage.embedded == "a.txt\nx"


def test_long_section_is_cut_between_sentences_and_repeats_a_little() -> None:
    # Given ten sentences of five tokens where eighteen fit
    text = " ".join(f"Sentence number {number}." for number in range(10))
    passages = plan_passages(document(Section(text=text)), name="", budget=BUDGET, count=words)
    # Then each passage begins with the last sentence of the one before
    assert passages[0].text == "Sentence number 0. Sentence number 1. Sentence number 2."
    assert passages[1].text.startswith("Sentence number 2. Sentence number 3.")
    assert [passage.position for passage in passages] == list(range(len(passages)))


def test_table_rows_stay_lines() -> None:
    text = "Intro.\n\nModel | Bar\nX200 | 45"
    (passage,) = plan_passages(document(Section(text=text)), name="", budget=BUDGET, count=words)
    assert passage.text == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Brown paid approx. 5.50 to A. Smith.", ["Dr. Brown paid approx. 5.50 to A. Smith."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("See no. 5. It is red.", ["See no. 5.", "It is red."]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_overlap_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"chunking\.overlap"):
        Budget(tokens=20, overlap=10)


@given(
    text=st.text(alphabet="ab .!\nXé", min_size=1, max_size=400).map(clean).filter(bool),
    tokens=st.integers(min_value=4, max_value=40),
    title=st.text(alphabet="ab ", max_size=100),
)
def test_every_text_is_covered_and_fits(text: str, tokens: int, title: str) -> None:
    budget = Budget(tokens=tokens, overlap=(tokens // 2 - 1) // 2)
    passages = plan_passages(document(Section(text=text), title=title), name="n", budget=budget, count=words)
    # every passage occurs in the document, in order and up to its end, and none is too long to be embedded
    letters = "".join(text.split())
    at = 0
    for passage in passages:
        piece = "".join(passage.text.split())
        # where letters repeat it occurs often: the last place that leaves no gap is meant
        found = letters.rfind(piece, 0, at + len(piece))
        assert found >= 0
        at = max(at, found + len(piece))
        assert words([passage.text])[0] <= tokens
    assert at == len(letters)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "line",
    ["a" * 1_000_000 + " b. C", "no. A " * 100_000, "." * 1_000_000 + "x"],
    ids=["one word", "abbreviations", "dots"],
)
def test_lines_made_to_be_slow_are_not(line: str) -> None:
    # a retriever cuts what is pushed in a thread, and a regular expression lets no other one run meanwhile
    assert " ".join(sentences(line)) == line
