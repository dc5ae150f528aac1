# SPDX-License-Identifier: Apache-2.0
"""What of a reply may leave: supported sentences, else the passage's own words, else nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_gateway.grounding.answer import plan_answer
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
    assert (statement.text, statement.extracted) == ("A ticket costs 3 crowns.", True)
    assert statement.text in statement.quote.of(TICKET.text)


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        # supported, yet by another sentence than the one that answers
        ("It is valid for 50 minutes.", QUESTION),
        # without the number that was asked for
        ("A ticket costs crowns.", QUESTION),
    ],
)
def test_first_sentence_of_a_small_model_agrees_with_the_passage_or_gives_way(reply: str, question: str) -> None:
    (own,) = plan_answer(reply, [TICKET], question, agreeing=False)
    (instead,) = plan_answer(reply, [TICKET], question, agreeing=True)
    assert (own.extracted, instead.extracted) == (False, True)


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
