# SPDX-License-Identifier: Apache-2.0
"""What a gateway costs: its first token against model and retriever asked by hand, and many streams at once.

All are processes on loopback; the model and the embeddings are stubs, so that what is measured is the gateway. By
hand and through the gateway take turns, so that a busy machine slows both. A stream that fails breaks a must.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil

from gateway_testing.process import (
    KEY,
    OPERATOR,
    SEARCHER,
    Running,
    build,
    chat_body,
    eventually,
    gateway,
    gateway_config,
    index_config,
    retriever_keys,
)
from retriever_testing.embeddings import EmbeddingServer
from retriever_testing.process import free_port, retriever, serving, wait_for, write_config

ROUNDS: Final = 200
WARM_ROUNDS: Final = 20
CLIENTS: Final = 200
WORDS: Final = 50
PAUSE_SECONDS: Final = 0.05
AIM_MS: Final = 5.0
QUESTION: Final = "At how many bar does the Halvorsen pump run?"
ANSWER: Final = "The Halvorsen pump runs at 45 bar."
PASSAGES: Final = 200
MEBIBYTE: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class Streams:
    """How many streams at once ended how."""

    ended: int
    failures: tuple[str, ...]
    seconds: float
    before_bytes: int
    peak_bytes: int


def main() -> int:
    """Take the figures and print them; 1 where a stream failed."""
    with tempfile.TemporaryDirectory() as place:
        by_hand, off, required = _first_tokens(Path(place))
        added = statistics.median(off) - statistics.median(by_hand)
        print(f"first token, p50 of {ROUNDS}, milliseconds")
        print(f"  model and retriever by hand      {statistics.median(by_hand):7.2f}")
        print(f"  through a gateway, Off           {statistics.median(off):7.2f}")
        print(f"  added                            {added:7.2f}   aim: at most {AIM_MS:g}")
        print(f"  Required: first checked sentence {statistics.median(required):7.2f}")
    with tempfile.TemporaryDirectory() as place:
        streams = asyncio.run(_many(Path(place)))
    print(f"{CLIENTS} clients streaming {WORDS} words at once: {streams.ended} ended in {streams.seconds:.1f} s")
    print(
        f"  the gateway's memory: {streams.before_bytes / MEBIBYTE:.0f} MiB before, "
        f"{streams.peak_bytes / MEBIBYTE:.0f} MiB at most"
    )
    for failure in streams.failures[:5]:
        print(f"  failed: {failure}")
    return 1 if streams.failures else 0


def _first_tokens(place: Path) -> tuple[list[float], list[float], list[float]]:
    with ExitStack() as stack:
        embedding_url = stack.enter_context(serving(EmbeddingServer().app()))
        port = free_port()
        config = write_config(place, embedding_url=embedding_url, keys=retriever_keys())
        stack.enter_context(retriever(config, port=port))
        index = f"http://127.0.0.1:{port}"
        build(index, _passages())
        model = stack.enter_context(_model(ANSWER, pause=0.0))
        ways: list[Callable[[], float]] = [_by_hand(stack, index=index, model=model)]
        for grounding in ("Off", "Required"):
            folder = place / grounding
            folder.mkdir()
            indexes = [index_config(folder, index)]
            settings = {"grounding": grounding, "indexes": indexes, "retrieval": {"topK": 5}}
            running = stack.enter_context(gateway(gateway_config(folder, model_url=model, **settings)))
            _await_self_test(running)
            ways.append(_through(stack, running))
        taken: list[list[float]] = [[] for _ in ways]
        for number in range(WARM_ROUNDS + ROUNDS):
            for way, times in zip(ways, taken, strict=True):
                seconds = way()
                if number >= WARM_ROUNDS:
                    times.append(seconds * 1000)
    return taken[0], taken[1], taken[2]


def _by_hand(stack: ExitStack, *, index: str, model: str) -> Callable[[], float]:
    client = stack.enter_context(httpx.Client(timeout=30))

    def ask() -> float:
        begun = time.perf_counter()
        headers = {"Authorization": f"Bearer {SEARCHER}"}
        found = client.post(f"{index}/v1/retrieve", json={"query": QUESTION, "topK": 5}, headers=headers)
        texts = "\n\n".join(item["text"] for item in found.raise_for_status().json()["passages"][:3])
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": f"{texts}\n\n{QUESTION}"}],
            "stream": True,
        }
        return _first_text(client, f"{model}/v1/chat/completions", body, {}) - begun

    return ask


def _through(stack: ExitStack, running: Running) -> Callable[[], float]:
    client = stack.enter_context(httpx.Client(timeout=30))
    headers = {"Authorization": f"Bearer {KEY}"}

    def ask() -> float:
        begun = time.perf_counter()
        url, body = f"{running.url}/v1/chat/completions", chat_body(QUESTION, stream=True)
        return _first_text(client, url, body, headers) - begun

    return ask


def _first_text(client: httpx.Client, url: str, body: object, headers: dict[str, str]) -> float:
    """Return when the first text came; the rest is read, so that the connection is used again."""
    came = None
    with client.stream("POST", url, json=body, headers=headers) as answer:
        for line in answer.raise_for_status().iter_lines():
            if came is None and line.startswith("data: {") and _has_text(line):
                came = time.perf_counter()
    if came is None:
        raise ValueError("expected an answer with text, found none")
    return came


def _has_text(line: str) -> bool:
    choices = json.loads(line.removeprefix("data: "))["choices"]
    return bool(choices and choices[0]["delta"].get("content"))


async def _many(place: Path) -> Streams:
    text = " ".join(["word"] * WORDS)
    with ExitStack() as stack:
        model = stack.enter_context(_model(text, pause=PAUSE_SECONDS))
        limits = {"concurrency": CLIENTS, "queue": CLIENTS}
        running = stack.enter_context(gateway(gateway_config(place, model_url=model, limits=limits)))
        _await_self_test(running)
        process = psutil.Process(running.process.pid)
        before = peak = process.memory_info().rss
        begun = time.perf_counter()
        bounds = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(timeout=120, limits=bounds, base_url=running.url) as client:
            asked = [asyncio.ensure_future(_stream(client)) for _ in range(CLIENTS)]
            while not all(task.done() for task in asked):
                await asyncio.wait(asked, timeout=0.2)
                peak = max(peak, process.memory_info().rss)
            told = await asyncio.gather(*asked)
    failures = tuple(item for item in told if item is not None)
    return Streams(
        ended=CLIENTS - len(failures),
        failures=failures,
        seconds=time.perf_counter() - begun,
        before_bytes=before,
        peak_bytes=peak,
    )


async def _stream(client: httpx.AsyncClient) -> str | None:
    """Return what went wrong with a stream."""
    words = 0
    body, headers = chat_body("Count.", stream=True), {"Authorization": f"Bearer {KEY}"}
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                return f"HTTP {answer.status_code}"
            async for line in answer.aiter_lines():
                words += line.startswith("data: {") and _has_text(line)
    except httpx.HTTPError as error:
        return type(error).__name__
    return None if words == WORDS else f"{words} of {WORDS} words"


def _await_self_test(running: Running) -> None:
    eventually(lambda: bool(running.get("/v1/status", key=OPERATOR).json()["selfTest"]["ok"]), seconds=60)


def _passages() -> Sequence[dict[str, object]]:
    filler = [
        f"Part {number} of the plant is checked every {number} days by the crew." for number in range(PASSAGES)
    ]
    return [{"document": f"wiki/{number}.md", "text": text} for number, text in enumerate([ANSWER, *filler])]


@contextmanager
def _model(text: str, *, pause: float) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "gateway_testing.upstream", "--port", str(port)]
    with subprocess.Popen([*command, "--text", text, "--pause", str(pause)]) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/v1/models")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
