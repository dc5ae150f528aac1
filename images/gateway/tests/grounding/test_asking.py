# SPDX-License-Identifier: Apache-2.0
"""What a question asks for: its sort, other names of the quality asked, numbers within ranges."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_gateway.grounding.asking import (
    Sort,
    is_of,
    named_sorts,
    numbers_of,
    other_names,
    ranges_in,
    sort_of,
)
from nimblet_relevance.text import fold, words


@pytest.mark.parametrize(
    ("question", "sort"),
    [
        ("Who runs it?", Sort.NAME),
        ("how many boats", Sort.NUMBER),
        ("How loud is the siren?", Sort.NUMBER),
        ("spin speed price", Sort.NUMBER),
        ("What is the weight limit of the lift?", Sort.NUMBER),
        ("Where do I pay the fee?", Sort.OTHER),
        ("Why does the price differ?", Sort.OTHER),
        ("How do I set the date?", Sort.OTHER),
        ("When is the fair?", Sort.TIME),
        ("Until when may guests stay?", Sort.TIME),
        ("What do I do when the lamp blinks?", Sort.OTHER),
        ("Why is it closed?", Sort.OTHER),
        ("", Sort.OTHER),
    ],
)
def test_question_tells_what_it_asks_for(question: str, sort: Sort) -> None:
    assert sort_of(question) is sort


@pytest.mark.parametrize(
    ("sort", "text", "fitting"),
    [
        (Sort.NUMBER, "Row nine has 4 seats", ["nine", "4"]),
        (Sort.TIME, "From the fourth day to Sunday", ["fourth", "Sunday"]),
        (Sort.NAME, "It was Ada", ["Ada"]),
        (Sort.OTHER, "It was Ada in row 4", []),
    ],
)
def test_words_of_a_sort_are_known(sort: Sort, text: str, fitting: list[str]) -> None:
    assert [word.raw for word in words(text) if is_of(sort, word)] == fitting


def test_sort_is_named_behind_which_alone() -> None:
    assert named_sorts("At what time does the last bus leave?") == {fold("time")}
    assert named_sorts("Is there time for a bus?") == frozenset()


def test_quality_asked_for_has_other_names() -> None:
    assert fold("weight") in other_names("How heavy is the crate?")[fold("heavy")]
    assert other_names("Is the heavy crate red?") == {}


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("2 to 5 years", [(2, 5)]),
        ("8\u201312 people", [(8, 12)]),
        ("from the third to the ninth floor", [(3, 9)]),
        ("2 years to 5 years", [(2, 5)]),
        ("$1,000 to $2,500", [(1000, 2500)]),
        ("12 to 5", []),
        ("2 towns, 5 villages", []),
        ("2 | 5", []),
        ("2.5 to 3.5", []),
        ("9" * 5000 + " to 2", []),
    ],
)
def test_ranges_are_read(text: str, ranges: list[tuple[int, int]]) -> None:
    assert list(ranges_in(text, words(text))) == ranges


def test_numbers_of_a_question_are_read_up_to_a_few() -> None:
    assert numbers_of("A child of seven in the third row?") == {"7": 7, fold("third"): 3}
    assert len(numbers_of(" ".join(map(str, range(1000))))) < 10


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", ["1 a" * 20_000, "1-" * 20_000, "1" + " " * 500_000 + "2", "to " * 20_000])
def test_hostile_text_is_read_in_time(text: str) -> None:
    # its cost may not grow with the square of its length: the test's own time-out tells
    said = words(text)
    assert all(one < other for one, other in ranges_in(text, said))


@settings(deadline=None)
@given(st.text(alphabet="how whatimefs1299-\u2013to "))
def test_any_question_is_read(question: str) -> None:
    assert sort_of(question) in Sort
    assert all(one < other for one, other in ranges_in(question, words(question)))
    assert named_sorts(question) <= {word.form for word in words(question)}
