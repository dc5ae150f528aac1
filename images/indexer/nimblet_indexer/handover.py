# SPDX-License-Identifier: Apache-2.0
"""Hands passages to the retriever in batches, several on their way at once, so that its model is never idle.

A retriever that was restarted has forgotten the build under way: it is begun again, which resumes it.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, Self

from nimblet_indexer.config import IndexerConfig
from nimblet_indexer.progress import BuildProgress
from nimblet_indexer.retriever import Added, Begun, RetrieverClient, RetrieverError

BATCH: Final = 64
"""Passages in one request: enough to keep an embedding server busy, little to do again after a failure."""
FORGOTTEN: Final = "GenerationUnknown"

Passage = dict[str, object]


@dataclass(kw_only=True)
class Counts:
    """Passages so far."""

    passages: int = 0
    embedded: int = 0
    reused: int = 0


class HandOver:
    """A build's way to the retriever; for one thread. Use it as a context manager."""

    def __init__(self, config: IndexerConfig, client: RetrieverClient, progress: BuildProgress) -> None:
        self.counts = Counts()
        self._config, self._client, self._progress = config, client, progress
        self._waiting: list[Passage] = []
        self._running: set[Future[Added]] = set()
        self._threads = ThreadPoolExecutor(max_workers=config.in_flight, thread_name_prefix="hand-over")
        self._beginning = threading.Lock()
        self._begun: Begun | None = None

    def __enter__(self) -> Self:
        """Threads start with the first batch."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give up what is not on its way yet, wait for the rest."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def begin(self) -> None:
        """Begin or resume the build."""
        self._begun = self._client.begin(self._config.generation, self._config.token)

    def put(self, passages: Sequence[Passage]) -> None:
        """Take passages; waits while enough are on their way. RetrieverError for any of those before."""
        self._waiting += passages
        while len(self._waiting) >= BATCH:
            self._send(self._waiting[:BATCH])
            del self._waiting[:BATCH]

    def finish(self) -> None:
        """Send the rest and wait for all."""
        if self._waiting:
            self._send(self._waiting)
            self._waiting = []
        while self._running:
            self._take()

    def seal(self) -> None:
        """Complete the build; one that a lost answer left complete is complete."""
        name = self._config.generation
        try:
            self._client.seal(self._now(), self._config.token)
        except RetrieverError as error:
            if error.reason not in (FORGOTTEN, "GenerationSealed"):
                raise
            if not any(item.name == name and item.sealed for item in self._client.generations().generations):
                self.begin()
                self._client.seal(self._now(), self._config.token)

    def _send(self, batch: list[Passage]) -> None:
        while len(self._running) >= self._config.in_flight:
            self._take()
        self._running.add(self._threads.submit(self._add, batch))

    def _take(self) -> None:
        """Wait for any of those on their way: the next one takes its place, whichever it was."""
        done, self._running = wait(self._running, return_when=FIRST_COMPLETED)
        for added in (future.result() for future in done):
            self.counts.passages += added.embedded + added.reused
            self.counts.embedded += added.embedded
            self.counts.reused += added.reused
            self._progress.passages(embedded=added.embedded, reused=added.reused)

    def _add(self, batch: list[Passage]) -> Added:
        begun = self._now()
        try:
            return self._client.add(begun, self._config.token, batch)
        except RetrieverError as error:
            if error.reason != FORGOTTEN:
                raise
        with self._beginning:  # once, for all batches that were on their way
            if self._begun is begun:
                self.begin()
        return self._client.add(self._now(), self._config.token, batch)

    def _now(self) -> Begun:
        if self._begun is None:
            raise RuntimeError("expected a build that was begun; call begin first")
        return self._begun
