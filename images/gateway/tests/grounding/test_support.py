# SPDX-License-Identifier: Apache-2.0
"""Which sentences a passage supports: everything new must stand in one of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_gateway.grounding.passage import Passage
from nimblet_gateway.grounding.support import judge_sentence

STORE = Passage(
    id="docs/store.md/0@g000001",
    text="The keeper is Mrs Thirza Mould. The store opens at seven. It has 1,500 jars and isn't heated.",
    title="Village store of Sill",
)
FERRY = Passage(id="docs/ferry.md/0@g000001", text="A ticket costs 3 crowns and is valid for 50 minutes.")
PASSAGES = (STORE, FERRY)


@pytest.mark.parametrize(
    ("question", "sentence", "quote"),
    [
        ("Who is in charge?", "Mrs Thirza Mould is in charge.", "The keeper is Mrs Thirza Mould."),
        ("Who is in charge?", "Thirza Mould", "The keeper is Mrs Thirza Mould."),
        ("When does it open?", "It opens at 7.", "The store opens at seven."),
        (
            "How many jars are there?",
            "There are 1500 jars in Sill.",
            "It has 1,500 jars and isn't heated.",
        ),
        (
            "How long is a ticket valid?",
            "The ticket is valid for 50 min.",
            "A ticket costs 3 crowns and is valid for 50 minutes.",
        ),
    ],
)
def test_sentence_made_of_one_passage_is_supported(question: str, sentence: str, quote: str) -> None:
    verdict = judge_sentence(sentence, PASSAGES, question)
    assert verdict.supported
    assert verdict.passage_index is not None
    assert verdict.quote is not None
    assert quote in verdict.quote.of(PASSAGES[verdict.passage_index].text)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("Who runs the store?", "Mrs Thirza Gould runs the store."),
        ("When does it open?", "It opens at eight."),
        ("Who runs the store?", "Mrs Mould sells tickets for 3 crowns."),
        ("Who runs the store of Balmouth?", "Mrs Mould runs the store of Balmouth."),
        ("Who runs the store?", "The store is run."),
        ("What does a ticket cost?", "A ticket does not cost 3 crowns."),
        ("Who runs the store?", "I can't say."),
        ("Who runs the store?", ""),
    ],
)
def test_sentence_with_anything_else_is_not(question: str, sentence: str) -> None:
    verdict = judge_sentence(sentence, PASSAGES, question)
    assert (verdict.supported, verdict.passage_index, verdict.quote) == (False, None, None)


ERRORS = Passage(
    id="docs/e.md/0@g000001", text="E12: the key lacks a scope. Plan E is free for 41 days. CO\u2082 has 1."
)


@pytest.mark.parametrize(
    ("question", "sentence", "supported"),
    [
        ("What does the error mean?", "E12: the key lacks a scope.", True),
        ("What does the error mean?", "E41: the key lacks a scope.", False),
        ("What does E41 mean?", "E41 means that the key lacks a scope.", False),
        ("What has 1?", "CO2 has 1.", True),
    ],
    ids=["as it stands", "of parts elsewhere", "of the question", "lowered digit"],
)
def test_code_is_supported_as_a_whole_alone(question: str, sentence: str, *, supported: bool) -> None:
    assert judge_sentence(sentence, (ERRORS,), question).supported is supported


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        ("It costs 45 euros.", True),
        ("It costs $45.", False),
        ("It is kept at \u221218 degrees.", True),
        ("It is kept at 18 degrees.", False),
    ],
)
def test_amount_is_supported_with_its_currency_and_its_sign(sentence: str, *, supported: bool) -> None:
    passage = Passage(id="a", text="A box costs \u20ac45 and is kept at -18\u00b0.")
    assert judge_sentence(sentence, (passage,), "What of the box?").supported is supported


def test_nothing_is_supported_without_passages() -> None:
    assert not judge_sentence("Thirza Mould", (), "Who runs the store?").supported


@settings(deadline=None)
@given(st.text(min_size=1), st.text(), st.text())
def test_quote_stands_in_the_passage_named(text: str, sentence: str, question: str) -> None:
    verdict = judge_sentence(sentence, (FERRY, Passage(id="a", text=text)), question)
    assert verdict.supported == (verdict.passage_index is not None)
    if verdict.quote is not None and verdict.passage_index is not None:
        assert verdict.quote.of((FERRY.text, text)[verdict.passage_index])


@settings(deadline=None)
@given(st.sampled_from(PASSAGES), st.integers(0, 10**6).filter(lambda number: number not in {3, 50, 7, 1500, 1}))
def test_number_that_stands_nowhere_is_never_supported(passage: Passage, number: int) -> None:
    assert not judge_sentence(f"{passage.text} {number}", PASSAGES, f"Is it {number}?").supported
