# SPDX-License-Identifier: Apache-2.0
"""Sentences labelled as supported or not, made mechanically of the frozen labels. Pure.

Supported are a question's quote, its answer, and both put together; not supported are the same with the changed
fact, and another document's quote. Since they repeat their source word for word, they measure whether the checker
lets foreign facts through rather than how it takes paraphrases; for these see the model's own sentences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from e2e.data.canonical import normalise
from e2e.data.matching import mentions
from e2e.data.records import Question
from nimblet_gateway.grounding.passage import Passage
from tests.bench.grounded.asked import Asked


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence said in answer to a question, over the passages that were shown."""

    question: str
    sentence: str
    passages: tuple[Passage, ...]
    supported: bool
    kind: str


def claims(asked: Sequence[Asked], shown: Sequence[tuple[Passage, ...]]) -> Iterator[Claim]:
    """Yield the claims of all questions whose quote stands in one of the passages shown."""
    for place, (item, passages) in enumerate(zip(asked, shown, strict=True)):
        question = item.label
        if question is None or not any(holds(passage, question) for passage in passages):
            continue
        other = next(
            later.label
            for later in [*asked[place + 1 :], *asked[:place]]
            if later.label is not None and later.label.document != question.document
        )
        yield from _of(question, passages, other=other)


def holds(passage: Passage, question: Question) -> bool:
    """Tell whether a passage holds a question's quote."""
    return _letters(question.quote) in _letters(passage.text)


def _of(question: Question, passages: tuple[Passage, ...], *, other: Question) -> Iterator[Claim]:
    quote = normalise(question.quote)
    said = {
        "quote": (quote, True),
        "answer": (f"It is {question.answer}.", True),
        "changed answer": (f"It is {question.swap}.", False),
        "another document's quote": (normalise(other.quote), False),
    }
    if question.answer in quote:
        said["changed quote"] = (quote.replace(question.answer, question.swap), False)
    text = " ".join(f"{passage.title} {passage.location} {passage.text}" for passage in passages)
    for kind, (sentence, supported) in said.items():
        if not supported and mentions(text, question.swap if "changed" in kind else normalise(other.quote)):
            continue  # the changed value stands there for something else: no label
        yield Claim(
            question=question.question, sentence=sentence, passages=passages, supported=supported, kind=kind
        )


def _letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())
