# SPDX-License-Identifier: Apache-2.0
"""Orders what a search found by a reranking model. Sees only hits that the asker may see; keeps and logs no text.

A model that fails never fails the question: the search's own order stands, and the answer says so. After a failure
of its own it is left alone for a while, so that one that hangs costs its timeout once and not with every question.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from nimblet_retriever.config import RerankerConfig
from nimblet_retriever.store.chunk import Hit
from nimblet_retriever.watch import Watch

PAUSE_SECONDS: Final = 5.0
"""How long a model that failed is left alone."""
UNFIT: Final = frozenset({400, 413, 422, 500})
"""What servers answer to texts that are longer than their context: the next question's may fit, so no pause."""


class RerankFailed(Exception):  # noqa: N818 - what happened
    """The model gave no order; `reason` is one word for metrics. `pause`: the next question would fare alike."""

    def __init__(self, reason: str, *, pause: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.pause = reason, pause


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True)
    index: int
    relevance_score: float


class _Ranking(BaseModel):
    results: tuple[_Item, ...]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Hits, best first, and whether the model ordered them."""

    hits: tuple[Hit, ...]
    reranked: bool


class Reranker:
    """One reranking model."""

    def __init__(
        self, client: httpx.AsyncClient, config: RerankerConfig, *, clock: Callable[[], float], watch: Watch
    ) -> None:
        self._client = client
        self._config = config
        self._clock = clock
        self._watch = watch
        self._paused_until = -math.inf

    @property
    def candidates(self) -> int:
        """How many hits a search is to give it."""
        return self._config.candidates

    async def rank(self, question: str, hits: Sequence[Hit]) -> Ranked:
        """Return the same hits in the model's order, with its scores; as they came where it fails."""
        if not hits:
            return Ranked(hits=(), reranked=True)
        try:
            with self._watch.stage("rerank"):
                scores = await self._scores(question, [hit.text for hit in hits])
        except RerankFailed as error:
            self._watch.fell_back(error.reason)
            return Ranked(hits=tuple(hits), reranked=False)
        scored = [replace(hit, score=score) for hit, score in zip(hits, scores, strict=True)]
        return Ranked(hits=tuple(sorted(scored, key=lambda hit: -hit.score)), reranked=True)

    async def _scores(self, question: str, texts: Sequence[str]) -> list[float]:
        if self._clock() < self._paused_until:
            raise RerankFailed("Paused")
        try:
            return _scores_of(await self._post(question, texts), len(texts))
        except RerankFailed as error:
            if error.pause:
                self._paused_until = self._clock() + PAUSE_SECONDS
            raise

    async def _post(self, question: str, texts: Sequence[str]) -> bytes:
        body = {"model": self._config.model, "query": question, "documents": list(texts), "top_n": len(texts)}
        try:
            headers = {}
            if self._config.key_file is not None:  # read each time: a rotated key counts at once
                headers["Authorization"] = f"Bearer {self._config.key_file.read_text(encoding='ascii').strip()}"
            answer = await self._client.post(
                f"{self._config.url}/rerank",
                json=body,
                headers=headers,
                timeout=self._config.timeout_seconds,
                follow_redirects=False,
            )
        except httpx.TimeoutException as error:
            raise RerankFailed("Timeout") from error
        except httpx.HTTPError as error:
            raise RerankFailed("Unreachable") from error
        except (OSError, ValueError) as error:
            raise RerankFailed("KeyUnreadable") from error
        if answer.status_code in UNFIT:
            raise RerankFailed("RequestRefused", pause=False)
        if answer.status_code != httpx.codes.OK:
            raise RerankFailed("Refused")
        return answer.content


def _scores_of(body: bytes, count: int) -> list[float]:
    """Return a score for each text, in the order of the texts; an answer that leaves one out is none."""
    try:
        items = sorted(_Ranking.model_validate_json(body).results, key=lambda item: item.index)
    except ValidationError as error:
        raise RerankFailed("AnswerUnknown") from error
    if [item.index for item in items] != list(range(count)):
        raise RerankFailed("AnswerUnknown")
    scores = [item.relevance_score for item in items]
    if not all(map(math.isfinite, scores)):
        raise RerankFailed("AnswerUnknown")
    return scores
