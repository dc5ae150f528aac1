# SPDX-License-Identifier: Apache-2.0
"""Notes what becomes of generations: sealed, gated, served, and when. Decides nothing.

Notes are replaced as a whole, so that they are made one after another.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from nimblet_relevance.relevance import ENOUGH, PASSAGES
from nimblet_retriever.errors import EmbeddingChanged
from nimblet_retriever.gate import GateRequest, Rank, documents_of, judge, point_of, rank_of, scores_of
from nimblet_retriever.retrieval import Question, Retriever
from nimblet_retriever.store.chunk import GenerationUnknown, Hit, Selection
from nimblet_retriever.store.generation import Gate, Notes, Point, Scores
from nimblet_retriever.store.interface import Store

EVERYTHING = Selection(access=frozenset(), everything=True)


class Record:
    """The notes of one index's generations."""

    def __init__(self, store: Store, retriever: Retriever, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._retriever = retriever
        self._now = now
        self._turn = asyncio.Lock()

    async def seal(self, name: str, token: str) -> None:
        """Complete a build and note when."""
        await self._retriever.seal(name, token)
        await self._note(name, sealed_at=self._now())

    async def serve(self, name: str) -> None:
        """Note when, then swap: of a generation that does not serve in the end the time is not looked at."""
        await self._note(name, served_at=self._now())
        await self._retriever.serve(name)

    async def gate(self, name: str, request: GateRequest) -> Gate:
        """Ask a sealed generation golden questions, and the serving one beside; keep the result.

        The operating point is found by the same questions, and kept with it.
        """
        found = await self._found(name, request)
        point = await self._point(name, request, found)
        serving = await self._serving_scores(name, request)
        result = judge(request, name, _ranks(request, found), serving=serving, point=point)
        await self._note(name, gate=result)
        self._retriever.recalibrated(name)
        return result

    async def _point(self, name: str, request: GateRequest, found: Sequence[Sequence[Hit]]) -> Point:
        """Return from which score on is answered, by the questions with and without their documents."""
        sources = {hit.source for hits in found for hit in hits}
        without: list[Sequence[Hit]] = [() for _ in request.questions]
        if len(request.questions) >= ENOUGH:
            questions = [
                Question(
                    text=item.question,
                    selection=replace(EVERYTHING, hidden=documents_of(item, sources)),
                    top_k=PASSAGES,
                )
                for item in request.questions
            ]
            without = [item.hits async for item in self._retriever.try_out(name, questions)]
        # thousands of passages are read: searches go on meanwhile
        return await asyncio.to_thread(point_of, request.questions, found, without)

    async def _serving_scores(self, name: str, request: GateRequest) -> Scores | None:
        """Return how the serving generation fares; None where there is none to compare with."""
        serving = await self._store.serving()
        if serving in (None, name):
            return None
        try:
            return scores_of(serving, _ranks(request, await self._found(serving, request)))
        except (EmbeddingChanged, GenerationUnknown):
            return None  # another model embedded it, or it was dropped meanwhile

    async def _found(self, name: str, request: GateRequest) -> list[Sequence[Hit]]:
        most = max(request.k, PASSAGES)
        questions = [Question(text=item.question, selection=EVERYTHING, top_k=most) for item in request.questions]
        return [found.hits async for found in self._retriever.try_out(name, questions)]

    async def _note(self, name: str, **changes: datetime | Gate) -> None:
        async with self._turn:
            notes = next((item.notes for item in await self._store.generations() if item.name == name), Notes())
            await self._store.note(name, notes.model_copy(update=changes))


def _ranks(request: GateRequest, found: Sequence[Sequence[Hit]]) -> list[Rank]:
    return [rank_of(golden, hits[: request.k]) for golden, hits in zip(request.questions, found, strict=True)]
