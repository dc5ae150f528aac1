# SPDX-License-Identifier: Apache-2.0
"""What counts as stating an answer."""

import pytest

from e2e.data.corpus import Kind, Question, is_right, mentions


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("It takes twelve minutes.", "12 minutes"),
        ("The fine is 1,500 marks", "1500 marks"),
        ("about 4.2% a year", "4.2 percent"),
        ("4.2 per cent", "4.2 percent"),
        ("at 215 °C", "215 degrees"),
        ("at 215\u00b0", "215 degrees"),
        ("ask for LIESBET  ankerow", "Liesbet Ankerow"),
        ("the keeper\u2019s goat", "keeper's goat"),
    ],
)
def test_form_makes_no_difference(text: str, phrase: str) -> None:
    assert mentions(text, phrase)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("12.5 minutes", "5 minutes"),
        ("1,500", "500"),
        ("5.25", "5.2"),
        ("the graveyard", "grave"),
        ("K-40", "40"),
        ("minutes 12", "12 minutes"),
    ],
)
def test_part_of_a_number_or_word_is_no_answer(text: str, phrase: str) -> None:
    assert not mentions(text, phrase)


def test_list_is_right_with_all_its_parts_in_any_order() -> None:
    question = Question(
        id="a-1",
        document="a",
        kind=Kind.LIST,
        question="What?",
        quote="tar, hemp and salt",
        answer="tar, hemp and salt",
        parts=("tar", "hemp", "salt"),
        swap="tar, flax and salt",
    )
    assert is_right("Salt, then hemp; also tar.", question)
    assert not is_right("Salt and hemp.", question)
