# SPDX-License-Identifier: Apache-2.0
"""Makes of a model's reply what may leave: supported sentences with quotes, else a passage's own words. Pure.

It composes the other modules for a whole reply, in the order in which a stream takes them sentence by sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nimblet_gateway.grounding.citation import plan_quote, strip_markers
from nimblet_gateway.grounding.extract import EXTRACT_WORDS, grown, holds_sort, plan_extract
from nimblet_gateway.grounding.passage import Passage, Span
from nimblet_gateway.grounding.sentence import take_sentences
from nimblet_gateway.grounding.support import Support, judge_sentence
from nimblet_relevance.text import content, words

SMALL_MODEL: Final = 1_000_000_000
"""Weights below which a model's first sentence must agree with the passages' own: docs/grounding.md."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A sentence that may leave, and the place in the passage that it is cited from."""

    text: str
    passage_index: int
    quote: Span
    extracted: bool = False
    """The passage's own words, not the model's."""


def plan_answer(
    reply: str, passages: Sequence[Passage], question: str, *, agreeing: bool
) -> tuple[Statement, ...]:
    """Return what of a reply is supported; without anything, the best sentence of the passages, if there is one.

    `passages` are those that the prompt showed. `agreeing`: the first sentence must agree with the extract. An
    empty answer is a refusal.
    """
    kept: list[Statement] = []
    for sentence in take_sentences(reply, ended=True).sentences:
        text = strip_markers(sentence).strip()
        verdict = judge_answer(text, passages, question, agreeing=agreeing and not kept)
        if verdict.supported and verdict.passage_index is not None and verdict.quote is not None:
            kept.append(Statement(text=text, passage_index=verdict.passage_index, quote=verdict.quote))
    if kept:
        return tuple(kept)
    extract = plan_statement(question, passages)
    return () if extract is None else (extract,)


def judge_answer(sentence: str, passages: Sequence[Passage], question: str, *, agreeing: bool) -> Support:
    """Judge a sentence of an answer; where it must agree, by what the passages' best sentence alone says.

    Two ways that lead to one place are seldom both wrong. A sentence without the number or date that was asked for
    is no answer either, nor one that is too long or leaves out what the passages' own words would tell.
    """
    verdict = judge_sentence(sentence, passages, question)
    if not (agreeing and verdict.supported):
        return verdict
    found = plan_extract(question, passages)
    if found is None:
        return verdict
    passage = passages[found.passage_index]
    alone = replace(passage, text=found.sentence.of(passage.text))
    if len(sentence.split()) > EXTRACT_WORDS:
        return Support(supported=False, missing=1)
    lost = _told(found.span.of(passage.text), question) - {word.form for word in words(sentence)}
    if not lost and holds_sort(question, sentence) and judge_sentence(sentence, [alone], question).supported:
        return verdict
    return Support(supported=False, missing=max(1, len(lost)))


def _told(text: str, question: str) -> frozenset[str]:
    """Return what a text tells beyond the question: numbers, names and codes, or other words if it has neither."""
    asked = {word.form for word in content(question)}
    new = [word for word in content(text) if word.form not in asked]
    facts = frozenset(word.form for word in new if word.number or word.name or word.code)
    return facts or frozenset(word.form for word in new)


def plan_statement(question: str, passages: Sequence[Passage]) -> Statement | None:
    """Return the passages' best sentence for a question, and what follows in its line if short, word for word."""
    found = plan_extract(question, passages)
    if found is None:
        return None
    passage = passages[found.passage_index]
    span = grown(passage, found)
    text = span.of(passage.text)
    weights = dict.fromkeys((word.form for word in content(question)), 1.0)
    weights |= dict.fromkeys((word.form for word in content(text)), 4.0)
    quote = plan_quote(passage, weights)
    if quote is None or not quote.start <= span.start < span.end <= quote.end:
        quote = span  # of a longer sentence, or where its words stand elsewhere too
    return Statement(text=" ".join(text.split()), passage_index=found.passage_index, quote=quote, extracted=True)
