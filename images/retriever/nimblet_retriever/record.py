# SPDX-License-Identifier: Apache-2.0
"""Notes what becomes of generations: sealed, gated, served, and when. Decides nothing.

Notes are replaced as a whole, so that they are made one after another.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from nimblet_retriever.errors import EmbeddingChanged
from nimblet_retriever.gate import GateRequest, Rank, judge, rank_of, scores_of
from nimblet_retriever.retrieval import Question, Retriever
from nimblet_retriever.store.chunk import GenerationUnknown, Selection
from nimblet_retriever.store.generation import Gate, Notes, Scores
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
        """Ask a sealed generation golden questions, and the serving one beside; keep the result."""
        ranks = await self._ranks(name, request)
        result = judge(request, name, ranks, serving=await self._serving_scores(name, request))
        await self._note(name, gate=result)
        return result

    async def _serving_scores(self, name: str, request: GateRequest) -> Scores | None:
        """Return how the serving generation fares; None where there is none to compare with."""
        serving = await self._store.serving()
        if serving in (None, name):
            return None
        try:
            return scores_of(serving, await self._ranks(serving, request))
        except (EmbeddingChanged, GenerationUnknown):
            return None  # another model embedded it, or it was dropped meanwhile

    async def _ranks(self, name: str, request: GateRequest) -> list[Rank]:
        questions = [
            Question(text=item.question, selection=EVERYTHING, top_k=request.k) for item in request.questions
        ]
        answers = [found async for found in self._retriever.try_out(name, questions)]
        return [rank_of(golden, found.hits) for golden, found in zip(request.questions, answers, strict=True)]

    async def _note(self, name: str, **changes: datetime | Gate) -> None:
        async with self._turn:
            notes = next((item.notes for item in await self._store.generations() if item.name == name), Notes())
            await self._store.note(name, notes.model_copy(update=changes))
