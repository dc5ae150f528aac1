# SPDX-License-Identifier: Apache-2.0
"""Controls: answerers that know nothing, whose figures stand beside those of the product.

A measure that a control also reaches measures nothing. Those here need no model; `shuffled` and `closed_book` give
what the real model is asked with, and the caller asks it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

ANSWER_WORDS = 20
"""The most words of an answer that counts as short."""


class Control(StrEnum):
    ALWAYS_REFUSE = "always-refuse"
    ALWAYS_ANSWER = "always-answer"
    COSINE_ONLY = "cosine-only"
    """Refuse below a similarity, and nothing else."""
    PASTE_TOP_3 = "paste-top-3"
    """The three best passages as the answer: what containment alone would reward."""
    SHUFFLED_PASSAGES = "shuffled-passages"
    """The model with another question's passages: what it knows or guesses without evidence."""
    CLOSED_BOOK = "closed-book"
    """The model without any passage."""


@dataclass(frozen=True)
class Passage:
    document: str
    """The document's id."""
    text: str
    cosine: float
    """The similarity of the passage's embedding and the question's."""


@dataclass(frozen=True)
class Reply:
    text: str
    """Empty if refused."""

    @property
    def refused(self) -> bool:
        return not self.text


REFUSAL = Reply(text="")


def always_refuse(_: Sequence[Passage]) -> Reply:
    return REFUSAL


def always_answer(passages: Sequence[Passage]) -> Reply:
    """Answer with the beginning of the best passage; without a passage, with what anybody may say."""
    text = passages[0].text if passages else "Yes."
    sentence = re.split(r"(?<=[.!?])\s", text.strip(), maxsplit=1)[0]
    return Reply(text=" ".join(sentence.split()[:ANSWER_WORDS]))


def cosine_only(passages: Sequence[Passage], *, threshold: float) -> Reply:
    """Answer as `always_answer` does if any passage reaches the threshold."""
    if all(passage.cosine < threshold for passage in passages):
        return REFUSAL
    return always_answer(passages)


def paste_top(passages: Sequence[Passage], *, count: int = 3) -> Reply:
    return Reply(text="\n".join(passage.text for passage in passages[:count]))


def closed_book(_: Sequence[Passage]) -> tuple[Passage, ...]:
    return ()


def shuffled(
    found: Mapping[str, Sequence[Passage]], *, documents: Mapping[str, str]
) -> dict[str, tuple[Passage, ...]]:
    """Give each question the passages found for another, with none from its own document.

    `documents` names each question's document. The order is by id, so that every run shuffles alike.
    """
    ids = sorted(found)
    given: dict[str, tuple[Passage, ...]] = {}
    for position, question in enumerate(ids):
        others = (ids[(position + step) % len(ids)] for step in range(len(ids) // 2, len(ids) // 2 + len(ids)))
        foreign = (other for other in others if _is_foreign(found[other], to=documents[question]))
        lender = next(foreign, None)
        if lender is None:
            raise ValueError(
                f"{question}: every question's passages touch {documents[question]}; give more questions"
            )
        given[question] = tuple(found[lender])
    return given


def _is_foreign(passages: Sequence[Passage], *, to: str) -> bool:
    return bool(passages) and all(passage.document != to for passage in passages)
