# SPDX-License-Identifier: Apache-2.0
"""What of a reply may leave: supported sentences, else the passage's own words, else nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_gateway.grounding.answer import plan_answer, plan_statement
from nimblet_gateway.grounding.passage import Passage

TICKET = Passage(
    id="docs/t.md/0@g000001", text="A ticket costs 3 crowns. It is valid for 50 minutes.", similarity=0.6
)
QUESTION = "What does a ticket cost?"


def test_supported_sentences_stay_and_others_go() -> None:
    reply = "A ticket costs 3 crowns [7]. It was made in Oslo. Valid for 50 min."
    kept = plan_answer(reply, [TICKET], QUESTION, agreeing=False)
    assert [statement.text for statement in kept] == ["A ticket costs 3 crowns.", "Valid for 50 min."]
    assert not any(statement.extracted for statement in kept)


def test_reply_without_support_gives_way_to_the_passage() -> None:
    (statement,) = plan_answer("It costs 5 crowns.", [TICKET], QUESTION, agreeing=False)
    # what follows in the line comes along while the answer is short
    assert (statement.text, statement.extracted) == (TICKET.text, True)
    assert statement.text in statement.quote.of(TICKET.text)


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        # supported, yet by another sentence than the one that answers
        ("It is valid for 50 minutes.", QUESTION),
        # without the number that was asked for
        ("A ticket costs crowns.", QUESTION),
        # longer than an answer may be
        (f"A ticket {'ticket ' * 20}costs 3 crowns.", QUESTION),
    ],
)
def test_first_sentence_of_a_small_model_agrees_with_the_passage_or_gives_way(reply: str, question: str) -> None:
    (own,) = plan_answer(reply, [TICKET], question, agreeing=False)
    (instead,) = plan_answer(reply, [TICKET], question, agreeing=True)
    assert (own.extracted, instead.extracted) == (False, True)


@pytest.mark.parametrize(
    ("reply", "own"),
    [("The winner was Ada Holm in 1987.", True), ("The winner was Ada.", False), ("It was won in 1987.", False)],
)
def test_small_model_may_not_leave_out_what_the_passage_tells(reply: str, *, own: bool) -> None:
    passage = Passage(id="a", text="The race was won by Ada Holm in 1987.", similarity=0.6)
    (statement,) = plan_answer(reply, [passage], "Who was the winner of the race?", agreeing=True)
    assert statement.extracted is not own


def test_what_follows_a_sentence_that_agrees_needs_support_alone() -> None:
    reply = "It costs 3 crowns. It is valid for 50 minutes."
    assert plan_answer(reply, [TICKET], QUESTION, agreeing=True) == plan_answer(
        reply, [TICKET], QUESTION, agreeing=False
    )


def test_nothing_leaves_without_passages() -> None:
    assert plan_answer("It costs 3 crowns.", [], QUESTION, agreeing=True) == ()


@settings(deadline=None)
@given(st.text(alphabet="3 crowns.50ticket\nA[1]"), st.text(alphabet="ticket 3.\n"), st.booleans())
def test_every_statement_is_cited_from_its_passage(reply: str, text: str, agreeing: bool) -> None:
    passages = [TICKET, Passage(id="b", text=text)]
    for statement in plan_answer(reply, passages, QUESTION, agreeing=agreeing):
        assert "[1]" not in statement.text
        assert statement.quote.of(passages[statement.passage_index].text).strip()


def test_quote_holds_the_answer_that_stands_behind_its_cut() -> None:
    boats = ", ".join(f"boat{number} red" for number in range(50))
    passage = Passage(id="a", text=f"Boats: {boats}, harbour master Ada Lovelace runs it", similarity=0.8)
    statement = plan_statement("Who runs the harbour?", [passage])
    assert statement is not None
    assert statement.text in statement.quote.of(passage.text)
