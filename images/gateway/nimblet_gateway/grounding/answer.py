# SPDX-License-Identifier: Apache-2.0
"""Makes of a model's reply what may leave: supported sentences with quotes, else a passage's own words. Pure.

It composes the other modules for a whole reply, in the order in which a stream takes them sentence by sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nimblet_gateway.grounding.citation import plan_quote, strip_markers
from nimblet_gateway.grounding.extract import plan_extract
from nimblet_gateway.grounding.passage import Passage, Span
from nimblet_gateway.grounding.sentence import take_sentences
from nimblet_gateway.grounding.support import judge_sentence
from nimblet_relevance.text import content


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A sentence that may leave, and the place in the passage that it is cited from."""

    text: str
    passage_index: int
    quote: Span
    extracted: bool = False
    """The passage's own words, not the model's."""


def plan_answer(reply: str, passages: Sequence[Passage], question: str) -> tuple[Statement, ...]:
    """Return what of a reply is supported; without anything, the best sentence of the passages, if there is one.

    `passages` are those that the prompt showed. An empty answer is a refusal.
    """
    kept = []
    for sentence in take_sentences(reply, ended=True).sentences:
        text = strip_markers(sentence).strip()
        verdict = judge_sentence(text, passages, question)
        if verdict.supported and verdict.passage_index is not None and verdict.quote is not None:
            kept.append(Statement(text=text, passage_index=verdict.passage_index, quote=verdict.quote))
    if kept:
        return tuple(kept)
    extract = plan_statement(question, passages)
    return () if extract is None else (extract,)


def plan_statement(question: str, passages: Sequence[Passage]) -> Statement | None:
    """Return the passages' best sentence for a question as a statement, word for word."""
    found = plan_extract(question, passages)
    if found is None:
        return None
    passage = passages[found.passage_index]
    text = found.span.of(passage.text)
    weights = dict.fromkeys((word.form for word in content(question)), 1.0)
    weights |= dict.fromkeys((word.form for word in content(text)), 4.0)
    quote = plan_quote(passage, weights) or found.span
    return Statement(text=" ".join(text.split()), passage_index=found.passage_index, quote=quote, extracted=True)
