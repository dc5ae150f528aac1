# SPDX-License-Identifier: Apache-2.0
"""Embeds many passages: keeps the model busy, and leaves questions a short wait. Knows no store; keeps no text.

A model's server answers in the order of arrival, so that a question waits for all that was sent before. Requests
are therefore few at once, over all builds and pushes, and as large as the server answers within about a second.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

AT_ONCE: Final = 2
"""Requests: one is computed while the next one waits, so that the server is never idle."""
FIRST_SIZE: Final = 8
"""Texts in a request before anything is known."""
LEAST_SIZE: Final = 4
AIM_SECONDS: Final = 1.0
"""From a request to its answer, the wait behind the other one included: what a question may have to wait for."""

Vector = Sequence[float]
Embed = Callable[[Sequence[str]], Awaitable[Sequence[Vector]]]


def next_size(size: int, *, seconds: float, most: int) -> int:
    """Return how many texts go into the next request, after a full one that took so long. Pure."""
    if seconds > 2 * AIM_SECONDS:
        return max(min(LEAST_SIZE, most), size // 2)
    if seconds < AIM_SECONDS / 2:
        return min(most, size * 2)
    return size


class Bulk:
    """One model's requests for passages. `most` bounds the texts in one of them."""

    def __init__(self, embed: Embed, *, most: int, clock: Callable[[], float]) -> None:
        self._embed = embed
        self._most = most
        self._clock = clock
        self._size = min(FIRST_SIZE, most)
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return a vector for each text. The errors of one request end all of this call's, and no other's."""
        job = _Job(texts)
        workers = [asyncio.create_task(self._work(job)) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return job.vectors

    async def _work(self, job: "_Job") -> None:
        """Send what nobody has sent yet; each request waits for its turn anew, so that calls take turns."""
        while job.is_left():
            async with self._turns:
                size = self._size
                start, texts = job.take(size)
                if not texts:
                    return
                began = self._clock()
                job.vectors[start : start + len(texts)] = await self._embed(texts)
                if len(texts) == size == self._size:
                    self._size = next_size(size, seconds=self._clock() - began, most=self._most)


class _Job:
    """The texts of one call, handed out in order."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.vectors: list[Vector] = [()] * len(texts)
        self._texts = texts
        self._next = 0

    def is_left(self) -> bool:
        """Tell whether there is a text that nobody took."""
        return self._next < len(self._texts)

    def take(self, size: int) -> tuple[int, Sequence[str]]:
        """Return the next texts and where they stand."""
        start, self._next = self._next, min(self._next + size, len(self._texts))
        return start, self._texts[start : self._next]
