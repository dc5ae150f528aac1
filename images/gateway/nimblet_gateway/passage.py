# SPDX-License-Identifier: Apache-2.0
"""Passages, and how those of several questions and indexes become one list. Pure.

Scores of two indexes can't be compared: ranks are, by reciprocal rank fusion.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

RANK_CONSTANT: Final = 60
"""Of reciprocal rank fusion, as in Cormack, Clarke and Büttcher (SIGIR 2009)."""


class Passage(BaseModel):
    """A passage as a retriever answers it. `id` is the citation's: index/document/chunk@generation."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    id: str
    document: str
    chunk: int
    text: str
    source: str = ""
    title: str = ""
    location: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    score: float = 0.0
    similarity: float | None = None

    @property
    def index(self) -> str:
        """The name of the index that it is of."""
        return self.id.partition("/")[0]


def fuse(rankings: Sequence[Sequence[Passage]]) -> tuple[Passage, ...]:
    """Return the passages of all rankings, best first, each once.

    Ties go to the ranking named first. Of equal texts, as two indexes over one folder have them, the best stays;
    their ranks don't add up, or copies would outvote the rest.
    """
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking):
            scores[passage.id] = scores.get(passage.id, 0.0) + 1.0 / (RANK_CONSTANT + rank + 1)
            known = passages.get(passage.id)
            passages[passage.id] = passage if known is None else _closer(known, passage)
    return _distinct(sorted(passages.values(), key=lambda passage: -scores[passage.id]))


def _closer(one: Passage, other: Passage) -> Passage:
    """Return a passage found twice with the higher of its similarities."""
    return one if (other.similarity or -1.0) <= (one.similarity or -1.0) else other


def _distinct(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    firsts: Mapping[str, Passage] = {
        " ".join(passage.text.split()).casefold(): passage for passage in reversed(passages)
    }
    return tuple(passage for passage in passages if firsts[" ".join(passage.text.split()).casefold()] is passage)
