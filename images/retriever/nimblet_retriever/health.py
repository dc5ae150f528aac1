# SPDX-License-Identifier: Apache-2.0
"""Whether the embedding model answers, and as the serving generation needs it: asked with a text of ours.

A model that is busy with a build may take its time: what was known stands until an answer is there,
or has been missing for too long.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from nimblet_retriever.config import ConfigModel
from nimblet_retriever.embedding import Embedder, Kind, cosine
from nimblet_retriever.errors import EmbeddingRefused, EmbeddingUnavailable
from nimblet_retriever.spaces import CANARY, SAME
from nimblet_retriever.store.generation import Manifest

PROBE_SECONDS: Final = 5.0
"""How long an answer holds: a failure is told within 15 seconds, by an operator that asks every five to ten."""
WAIT_SECONDS: Final = 1.0
"""How long one status waits for the model; a status is cheap, and asked again."""
PATIENCE_SECONDS: Final = 15.0
"""How long a question to the model may be under way before it counts as unanswered."""


class Health(ConfigModel):
    """Whether something works; reason and message are empty where it does."""

    ok: bool
    reason: str = ""
    message: str = ""


WELL: Final = Health(ok=True)
UNASKED: Final = Health(
    ok=False, reason="EmbeddingUnavailable", message="the embedding server has not answered yet; ask again"
)
SILENT: Final = Health(
    ok=False,
    reason="EmbeddingUnavailable",
    message=f"the embedding server did not answer a short text within {PATIENCE_SECONDS:.0f} s; is it overloaded?",
)


class EmbeddingProbes:
    """The model of new generations, and those of older ones that are kept."""

    def __init__(self, current: "EmbeddingProbe", former: Mapping[str, "EmbeddingProbe"]) -> None:
        self._current = current
        self._former = former

    async def look(self, serving: Manifest | None) -> Health:
        """Return how the model is that the serving generation needs."""
        probe = self._former.get(serving.embedding, self._current) if serving is not None else self._current
        return await probe.look(serving)

    async def close(self) -> None:
        """End what is under way."""
        for probe in (self._current, *self._former.values()):
            await probe.close()


class EmbeddingProbe:
    """Asks the model now and then, when somebody wants to know."""

    def __init__(self, embedder: Embedder, *, clock: Callable[[], float]) -> None:
        self._embedder = embedder
        self._clock = clock
        self._task: asyncio.Task[Health] | None = None
        self._began = -math.inf
        self._known = UNASKED
        self._vector: Sequence[float] = ()

    async def look(self, serving: Manifest | None) -> Health:
        """Return how the model is, as far as is known within a second."""
        if self._task is None and self._clock() - self._began >= PROBE_SECONDS:
            self._task, self._began = asyncio.create_task(self._ask()), self._clock()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=WAIT_SECONDS)
            if self._task.done():
                self._known, self._task = self._task.result(), None
            elif self._clock() - self._began >= PATIENCE_SECONDS:
                self._known = SILENT
        return self._compared(serving) if self._known.ok else self._known

    async def close(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _ask(self) -> Health:
        try:
            (self._vector,) = await self._embedder.embed([CANARY], Kind.PASSAGE)
        except (EmbeddingUnavailable, EmbeddingRefused) as error:
            return Health(ok=False, reason=type(error).__name__, message=str(error))
        return WELL

    def _compared(self, serving: Manifest | None) -> Health:
        if serving is None or cosine(self._vector, serving.canary) >= SAME:
            return WELL
        return Health(
            ok=False,
            reason="EmbeddingChanged",
            message=f"the embedding model is not the one that generation {serving.name} was built with; bring it "
            "back, or build a generation with this one",
        )
