# SPDX-License-Identifier: Apache-2.0
"""Judges before generation whether passages can answer a question, and orders them for the prompt. Pure.

A passage counts by its likeness as the embedding model sees it and by the words of the question that it holds. One
number, the threshold, decides; `calibrate` finds it for a generation from golden questions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from nimblet_relevance.text import content, words

ENOUGH: Final = 20
"""Golden questions below which a calibration would be chance."""
REFUSED: Final = 0.95
"""Share of the questions without their documents that a calibrated threshold refuses."""
DOUBT: Final = 1.0
"""Added to the number of a question's words: one word found of one asked proves less than eight of eight."""
PASSAGES: Final = 10
"""Passages of an index that a question is judged by: what a gateway asks for by default."""


class Scored(Protocol):
    """What of a passage counts."""

    @property
    def similarity(self) -> float | None:
        """Cosine of question and passage as embedded; None where the retriever can't tell."""

    @property
    def forms(self) -> frozenset[str]:
        """The words of its text, as they are compared."""

    @property
    def headings(self) -> frozenset[str]:
        """The words of title and location, as they are compared."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A passage, for who needs no more of it than its score."""

    forms: frozenset[str]
    headings: frozenset[str] = frozenset()
    similarity: float | None = None


def text_forms(text: str) -> frozenset[str]:
    """Return the words of a text, as they are compared."""
    return frozenset(word.form for word in words(text))


def heading_forms(title: str, location: str) -> frozenset[str]:
    """Return the words of title and location, as they are compared."""
    return frozenset(word.form for word in content(f"{title}\n{location}"))


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """From which score on a question is answered."""

    threshold: float = 0.38


class Basis(StrEnum):
    """What a threshold rests on."""

    CALIBRATED = "Calibrated"
    TOO_FEW_QUESTIONS = "TooFewQuestions"
    INSEPARABLE = "Inseparable"
    """Golden questions score without their documents as they do with them: the default is the better guess."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """An operating point, what it rests on, and what it does to the golden questions."""

    threshold: float
    basis: Basis
    asked: int
    answered: float
    """Share of the questions that is answered."""
    refused: float
    """Share that is refused where their own documents are left out."""


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """Whether to ask the model, and how sure that is: the score of the best passage, 0 to 1."""

    answerable: bool
    score: float


def judge_relevance(question: str, passages: Sequence[Scored], operating_point: OperatingPoint) -> Relevance:
    """Judge by the best of the passages."""
    score = best_score(question, passages)
    return Relevance(answerable=bool(passages) and score >= operating_point.threshold, score=score)


def best_score(question: str, passages: Sequence[Scored]) -> float:
    """Return the score of the best passage, 0 where there is none."""
    return max((score_passage(question, passage) for passage in passages), default=0.0)


def order_passages(question: str, passages: Sequence[Scored]) -> tuple[int, ...]:
    """Return the indexes of the passages, best first; equals stay in the retriever's order."""
    scores = [score_passage(question, passage) for passage in passages]
    return tuple(sorted(range(len(passages)), key=lambda index: -scores[index]))


def score_passage(question: str, passage: Scored) -> float:
    """Return how much of a question a passage is about: the mean of likeness and coverage."""
    share = coverage(question, passage)
    if passage.similarity is None:
        return share
    return (min(1.0, max(0.0, passage.similarity)) + share) / 2


def coverage(question: str, passage: Scored) -> float:
    """Return the share of the question's words that a passage or its headings hold; few words leave doubt."""
    asked = {word.form for word in content(question)}
    return len(asked & (passage.forms | passage.headings)) / (len(asked) + DOUBT)


def calibrate(
    answerable: Sequence[float], unanswerable: Sequence[float], *, refused: float = REFUSED
) -> Calibration:
    """Return the operating point of a generation from the scores of its golden questions.

    `answerable` are their scores as they are, `unanswerable` those with each question's own document left out. The
    threshold is the least that refuses the share `refused` of the latter, unless it also refuses more than half of
    the former: then the two can't be told apart, and the default is the better guess.
    """
    default = OperatingPoint().threshold
    if min(len(answerable), len(unanswerable)) < ENOUGH:
        return _seen(default, Basis.TOO_FEW_QUESTIONS, answerable, unanswerable)
    place = min(len(unanswerable) - 1, math.ceil(refused * len(unanswerable)))
    threshold = math.nextafter(sorted(unanswerable)[place - 1], math.inf)
    found = _seen(threshold, Basis.CALIBRATED, answerable, unanswerable)
    return found if found.answered >= 1 / 2 else _seen(default, Basis.INSEPARABLE, answerable, unanswerable)


def _seen(
    threshold: float, basis: Basis, answerable: Sequence[float], unanswerable: Sequence[float]
) -> Calibration:
    return Calibration(
        threshold=threshold,
        basis=basis,
        asked=len(answerable),
        answered=sum(score >= threshold for score in answerable) / max(1, len(answerable)),
        refused=sum(score < threshold for score in unanswerable) / max(1, len(unanswerable)),
    )
