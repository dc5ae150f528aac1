# SPDX-License-Identifier: Apache-2.0
"""Judges before generation whether passages can answer a question, and orders them for the prompt. Pure.

A passage counts by its likeness as the embedding model sees it and by the words of the question that it holds. One
number, the threshold, decides; `calibrate` finds it for an index from golden questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nimblet_gateway.grounding.passage import Passage
from nimblet_gateway.grounding.text import content

RANK_OFFSET: Final = 60
"""Reciprocal rank fusion's constant, as the retriever's."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """From which score on a question is answered."""

    threshold: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """Whether to ask the model, and how sure that is: the score of the best passage, 0 to 1."""

    answerable: bool
    score: float


def judge_relevance(question: str, passages: Sequence[Passage], operating_point: OperatingPoint) -> Relevance:
    """Judge by the best of the passages."""
    score = max((score_passage(question, passage) for passage in passages), default=0.0)
    return Relevance(answerable=bool(passages) and score >= operating_point.threshold, score=score)


def score_passage(question: str, passage: Passage) -> float:
    """Return how much of a question a passage is about: the mean of likeness and coverage."""
    share = coverage(question, passage)
    if passage.similarity is None:
        return share
    return (min(1.0, max(0.0, passage.similarity)) + share) / 2


def coverage(question: str, passage: Passage) -> float:
    """Return the share of the question's words that the passage or its headings hold."""
    asked = {word.form for word in content(question)}
    return len(asked & (passage.forms | passage.headings)) / len(asked) if asked else 0.0
