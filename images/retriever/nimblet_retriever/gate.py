# SPDX-License-Identifier: Apache-2.0
"""The quality gate: whether golden questions find their passages, and how far up. Pure; asks nobody itself.

A golden question names a document and a quote, since ids of passages change with every way of cutting. Words alone
are compared: case, punctuation, table bars and line breaks make no difference.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from nimblet_relevance.relevance import (
    PASSAGES,
    Candidate,
    best_score,
    calibrate,
    heading_forms,
    text_forms,
)
from nimblet_retriever.config import ConfigModel, Id
from nimblet_retriever.store.chunk import Hit
from nimblet_retriever.store.generation import Gate, Point, Scores

MAX_FAILED: Final = 20
"""Failed questions that are named."""
_WORD: Final = re.compile(r"\w+")

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Golden(ConfigModel):
    """A question with the place of its answer."""

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    question: Annotated[str, StringConstraints(min_length=1, max_length=8000)]
    document: Id = Field(description="The document's id, or its path within its source.")
    quote: Annotated[str, StringConstraints(max_length=8000)] = Field(description="Words of the passage.")

    @field_validator("quote")
    @classmethod
    def _has_words(cls, quote: str) -> str:
        if not words_of(quote):
            raise ValueError("expected a quote with words; take some from the document")
        return quote


class GateRequest(ConfigModel):
    """POST /v1/generations/{name}/gate."""

    questions: tuple[Golden, ...] = Field(min_length=1, max_length=2000)
    k: int = Field(default=5, ge=1, le=50, description="Passages that a question may need.")
    min_recall: Share = Field(description="Share of questions that must find their passage.")
    min_mrr: Share | None = Field(default=None, alias="minMRR")
    min_ndcg: Share | None = Field(default=None, alias="minNDCG")

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        if len({golden.id for golden in self.questions}) < len(self.questions):
            raise ValueError("expected every question to have an id of its own; two share one")
        return self


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Where a question's passage came, from 1; None where it is not among the first k."""

    id: str
    rank: int | None


def rank_of(golden: Golden, hits: Sequence[Hit]) -> Rank:
    """Return the place of the first hit that is of the document and has the quote."""
    quote = words_of(golden.quote)
    places = (
        place
        for place, hit in enumerate(hits, start=1)
        if hit.document in (golden.document, f"{hit.source}/{golden.document}")
        and holds(words_of(hit.text), quote)
    )
    return Rank(id=golden.id, rank=next(places, None))


def scores_of(generation: str, ranks: Sequence[Rank]) -> Scores:
    """Return the means over all questions.

    With one right passage a question, the reciprocal rank is 1/rank and the normalised discounted cumulative gain
    1/log2(1 + rank), as the ideal order has it first (Järvelin and Kekäläinen, 2002).
    """
    found = [item.rank for item in ranks if item.rank is not None]
    return Scores(
        generation=generation,
        recall=len(found) / len(ranks),
        mrr=sum(1 / rank for rank in found) / len(ranks),
        ndcg=sum(1 / math.log2(1 + rank) for rank in found) / len(ranks),
    )


def documents_of(golden: Golden, sources: Collection[str]) -> frozenset[str]:
    """Return the ids that a question's document may have: its own, or its path within one of the sources."""
    return frozenset({golden.document, *(f"{source}/{golden.document}" for source in sources)})


def point_of(
    questions: Sequence[Golden], found: Sequence[Sequence[Hit]], without: Sequence[Sequence[Hit]]
) -> Point:
    """Return the operating point: questions as they are, beside the same where their documents are left out.

    One that finds nothing at all then proves nothing: of an index of one document none could be left out.
    """
    known: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    answerable = [_score(golden, hits, known) for golden, hits in zip(questions, found, strict=True)]
    unanswerable = [_score(golden, hits, known) for golden, hits in zip(questions, without, strict=True) if hits]
    return Point.model_validate(asdict(calibrate(answerable, unanswerable)))


def _score(golden: Golden, hits: Sequence[Hit], known: dict[str, tuple[frozenset[str], frozenset[str]]]) -> float:
    """Return a question's score; the words of a passage that many find are read once."""
    passages = []
    for hit in hits[:PASSAGES]:
        if hit.id not in known:
            known[hit.id] = text_forms(hit.text), heading_forms(hit.title, hit.location)
        forms, headings = known[hit.id]
        passages.append(Candidate(forms=forms, headings=headings, similarity=hit.similarity))
    return best_score(golden.question, passages)


def judge(request: GateRequest, name: str, ranks: Sequence[Rank], *, serving: Scores | None, point: Point) -> Gate:
    """Return the result: passed where every figure that has a bound reaches it."""
    scores = scores_of(name, ranks)
    reached = (
        scores.recall >= request.min_recall,
        request.min_mrr is None or scores.mrr >= request.min_mrr,
        request.min_ndcg is None or scores.ndcg >= request.min_ndcg,
    )
    return Gate(
        recall=scores.recall,
        mrr=scores.mrr,
        ndcg=scores.ndcg,
        k=request.k,
        asked=len(ranks),
        passed=all(reached),
        failed=tuple(item.id for item in ranks if item.rank is None)[:MAX_FAILED],
        serving=serving,
        point=point,
    )


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, folded."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def holds(text: Sequence[str], quote: Sequence[str]) -> bool:
    """Tell whether a passage has a quote, or the larger part of one that the end of the passage cut."""
    length = len(quote)
    starts = (start for start in range(len(text)) if text[start] == quote[0])
    if any(tuple(text[start : start + length]) == tuple(quote) for start in starts):
        return True
    parts = range(length // 2 + 1, length)
    return any(
        tuple(text[-part:]) == tuple(quote[:part]) or tuple(text[:part]) == tuple(quote[-part:]) for part in parts
    )
