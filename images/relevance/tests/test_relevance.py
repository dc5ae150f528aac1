# SPDX-License-Identifier: Apache-2.0
"""Whether passages can answer: likeness and words, one threshold, calibrated where golden questions allow."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_relevance.relevance import (
    ENOUGH,
    Basis,
    Candidate,
    OperatingPoint,
    calibrate,
    judge_relevance,
    order_passages,
    text_forms,
)

QUESTION = "What does a ticket for the ferry cost?"
SCORES = st.lists(st.floats(0, 1), max_size=80)


def passage(text: str, similarity: float | None = 0.3) -> Candidate:
    """Return a passage with a likeness."""
    return Candidate(forms=text_forms(text), similarity=similarity)


def test_passage_with_the_words_and_the_sense_answers() -> None:
    found = [passage("A ticket for the ferry costs 3 crowns.", 0.7)]
    assert judge_relevance(QUESTION, found, OperatingPoint()).answerable


@pytest.mark.parametrize(
    "found",
    [[], [passage("Bog cotton grows on peat.", 0.1)], [passage("The cost of peat.", 0.2)], [passage("", None)]],
)
def test_passages_about_something_else_do_not(found: list[Candidate]) -> None:
    assert not judge_relevance(QUESTION, found, OperatingPoint()).answerable


def test_words_alone_decide_where_no_likeness_is_known() -> None:
    assert judge_relevance(QUESTION, [passage("A ferry ticket costs 3.", None)], OperatingPoint()).answerable


def test_one_word_found_of_one_proves_less_than_all_of_many() -> None:
    few = judge_relevance("Love?", [passage("I love you", 0.3)], OperatingPoint())
    many = judge_relevance(QUESTION, [passage("ticket ferry cost", 0.3)], OperatingPoint())
    assert few.score < many.score


def test_best_passage_comes_first_and_equals_keep_their_order() -> None:
    found = [passage("Peat."), passage("Peat."), passage("A ferry ticket.")]
    assert order_passages(QUESTION, found) == (2, 0, 1)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_calibration_refuses_what_it_promises_or_keeps_the_default(yes: list[float], no: list[float]) -> None:
    point = calibrate(yes, no)
    if point.basis is not Basis.CALIBRATED:
        assert point.threshold == OperatingPoint().threshold
        return
    assert min(len(yes), len(no)) >= ENOUGH
    assert sum(score < point.threshold for score in no) >= 0.95 * len(no)
    assert 2 * sum(score >= point.threshold for score in yes) >= len(yes)


def test_calibration_finds_the_gap() -> None:
    point = calibrate([0.6] * ENOUGH, [0.5] * ENOUGH)
    assert 0.5 < point.threshold <= 0.6
    assert (point.basis, point.asked, point.answered, point.refused) == (Basis.CALIBRATED, ENOUGH, 1.0, 1.0)


def test_what_can_not_be_told_apart_keeps_the_default_and_says_so() -> None:
    point = calibrate([0.4] * ENOUGH, [0.5] * ENOUGH)
    assert (point.threshold, point.basis) == (OperatingPoint().threshold, Basis.INSEPARABLE)


def test_few_questions_keep_the_default_and_say_so() -> None:
    point = calibrate([0.6] * ENOUGH, [0.5] * (ENOUGH - 1))
    assert (point.threshold, point.basis) == (OperatingPoint().threshold, Basis.TOO_FEW_QUESTIONS)
