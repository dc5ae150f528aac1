# SPDX-License-Identifier: Apache-2.0
"""Searching through an Assistant in a loop, and what the loop met: answers, requests to wait, failures."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import cycle
from typing import Final

import httpx

from e2e.support.answers import Passage
from e2e.support.asking import TIMEOUT_SECONDS, Endpoint

PAUSE_SECONDS: Final = 0.1


@dataclass
class Met:
    """What a looping client met; a 503 that says when to come back is no failure, all else that fails is."""

    answered: int = 0
    unavailable: int = 0
    longest_seconds: float = 0.0
    generations: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def take(self, answer: httpx.Response, *, seconds: float) -> None:
        """Count an answer."""
        self.longest_seconds = max(self.longest_seconds, seconds)
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE and "retry-after" in answer.headers:
            self.unavailable += 1
            return
        if answer.status_code != HTTPStatus.OK:
            self.failures.append(f"{time.strftime('%X')} HTTP {answer.status_code}")
            return
        passages = [Passage.model_validate(item) for item in answer.json()["passages"]]
        generations = {passage.id.rpartition("@")[2] for passage in passages}
        if len(generations) != 1:
            self.failures.append(f"{time.strftime('%X')} generations {sorted(generations)} in one answer")
        self.generations |= generations
        self.answered += 1


@contextmanager
def searches(endpoint: Endpoint, queries: Sequence[str]) -> Iterator[Met]:
    """Search in a loop while the block runs."""
    met, stop = Met(), threading.Event()

    def loop() -> None:
        headers = {"Authorization": f"Bearer {endpoint.api_key}"}
        with httpx.Client(base_url=endpoint.url, headers=headers, timeout=TIMEOUT_SECONDS) as client:
            for query in cycle(queries):
                if stop.wait(PAUSE_SECONDS):
                    return
                begin = time.monotonic()
                try:
                    answer = client.post("/v1/retrieve", json={"query": query})
                    met.take(answer, seconds=time.monotonic() - begin)
                except Exception as error:  # noqa: BLE001 - whatever it is, a user would have met it
                    met.failures.append(f"{time.strftime('%X')} {type(error).__name__}: {error}")

    thread = threading.Thread(target=loop, name="searches")
    thread.start()
    try:
        yield met
    finally:
        stop.set()
        thread.join()
