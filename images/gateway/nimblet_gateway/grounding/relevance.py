# SPDX-License-Identifier: Apache-2.0
"""Judges before generation whether passages can answer a question, and orders them for the prompt. Pure.

A passage counts by its likeness as the embedding model sees it and by the words of the question that it holds. One
number, the threshold, decides; `calibrate` finds it for an index from golden questions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nimblet_gateway.grounding.passage import Passage
from nimblet_gateway.grounding.text import content

ENOUGH: Final = 20
"""Golden questions below which a calibration would be chance."""
DOUBT: Final = 1.0
"""Added to the number of a question's words: one word found of one asked proves less than eight of eight."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """From which score on a question is answered."""

    threshold: float = 0.38


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """Whether to ask the model, and how sure that is: the score of the best passage, 0 to 1."""

    answerable: bool
    score: float


def judge_relevance(question: str, passages: Sequence[Passage], operating_point: OperatingPoint) -> Relevance:
    """Judge by the best of the passages."""
    score = max((score_passage(question, passage) for passage in passages), default=0.0)
    return Relevance(answerable=bool(passages) and score >= operating_point.threshold, score=score)


def order_passages(question: str, passages: Sequence[Passage]) -> tuple[int, ...]:
    """Return the indexes of the passages, best first; equals stay in the retriever's order."""
    scores = [score_passage(question, passage) for passage in passages]
    return tuple(sorted(range(len(passages)), key=lambda index: -scores[index]))


def score_passage(question: str, passage: Passage) -> float:
    """Return how much of a question a passage is about: the mean of likeness and coverage."""
    share = coverage(question, passage)
    if passage.similarity is None:
        return share
    return (min(1.0, max(0.0, passage.similarity)) + share) / 2


def coverage(question: str, passage: Passage) -> float:
    """Return the share of the question's words that a passage or its headings hold; few words leave doubt."""
    asked = {word.form for word in content(question)}
    return len(asked & (passage.forms | passage.headings)) / (len(asked) + DOUBT)


def calibrate(
    answerable: Sequence[float], unanswerable: Sequence[float], *, refused: float = 0.95
) -> OperatingPoint:
    """Return the operating point of an index from the scores of its golden questions.

    `answerable` are their scores as they are, `unanswerable` those with each question's own document left out. The
    threshold is the least that refuses the share `refused` of the latter, unless it also refuses more than half of
    the former: then the two can't be told apart, and the default is the better guess.
    """
    if len(answerable) < ENOUGH or len(unanswerable) < ENOUGH:
        return OperatingPoint()
    place = min(len(unanswerable) - 1, math.ceil(refused * len(unanswerable)))
    threshold = math.nextafter(sorted(unanswerable)[place - 1], math.inf)
    kept = sum(score >= threshold for score in answerable)
    return OperatingPoint(threshold=threshold) if 2 * kept >= len(answerable) else OperatingPoint()
