# SPDX-License-Identifier: Apache-2.0
"""Clients that go, and limits of time and place: the model is free within a second, wherever the request was."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gateway_testing.process import KEY, Running, chat_body, eventually, gateway, gateway_config, index_config
from gateway_testing.upstream import STALL, ModelServer, words
from nimblet_gateway.selftest import QUESTION
from retriever_testing.process import serving

pytestmark = pytest.mark.timeout(180)

FREE_SECONDS = 3.0
"""A second is promised, and a busy machine may take longer; the request's own limit would free the model later."""
REQUEST_SECONDS = 5.0


@dataclass(kw_only=True)
class StallingIndex:
    """A retriever that answers the self-test alone, and notices who goes."""

    asked: list[str] = field(default_factory=list)
    left: int = 0
    stalls: bool = False

    async def retrieve(self, request: Request) -> Response:
        """POST /v1/retrieve."""
        query = (await request.json())["query"]
        if self.stalls and query != QUESTION:
            self.asked.append(query)
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.left += 1
        passage = {"id": "docs/a/0@g1", "document": "a", "chunk": 0, "text": "The sky is blue.", "score": 1.0}
        body = {"index": "docs", "generation": "g1", "passages": [passage]}
        return Response(json.dumps(body), media_type="application/json")


@pytest.fixture(scope="module")
def index() -> Iterator[tuple[StallingIndex, str]]:
    """The retriever and its address."""
    made = StallingIndex()
    with serving(Starlette(routes=[Route("/v1/retrieve", made.retrieve, methods=["POST"])])) as url:
        yield made, url


@pytest.fixture(scope="module")
def running(
    served_model: tuple[ModelServer, str], index: tuple[StallingIndex, str], folder: Path
) -> Iterator[Running]:
    """A gateway with one place and a queue of one."""
    limits = {"concurrency": 1, "queue": 1, "requestSeconds": REQUEST_SECONDS, "maxTokens": 100}
    indexes = [index_config(folder, index[1])]
    with gateway(gateway_config(folder, model_url=served_model[1], limits=limits, indexes=indexes)) as made:
        eventually(lambda: made.metric("nimblet_gateway_dependency_ok", dependency="model") == 1)
        yield made


def leave(running: Running, *, when: Callable[[], bool]) -> None:
    """Ask, and hang up when it has come about, whatever was answered until then."""
    headers, body = {"Authorization": f"Bearer {KEY}"}, chat_body("What colour?", stream=True)
    with closing(HTTPConnection(urlsplit(running.url).netloc)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        eventually(when)


def leave_after(running: Running, text: str) -> None:
    """Ask, read until a text has come, and hang up."""
    headers, body = {"Authorization": f"Bearer {KEY}"}, chat_body("What colour?", stream=True)
    url = f"{running.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
        next(line for line in answer.iter_lines() if text in line)


def test_client_that_leaves_a_stream_frees_the_model(running: Running, model: ModelServer) -> None:
    model.reply = lambda _: ["Blue", " sky", STALL]
    leave_after(running, "sky")
    eventually(lambda: model.running == 0, seconds=FREE_SECONDS)
    # and what it cost is counted all the same
    eventually(lambda: running.metric("nimblet_gateway_tokens_total", caller="client", kind="completion") >= 2)
    assert running.metric("nimblet_gateway_requests_total", outcome="gone") >= 1


def test_client_that_leaves_before_the_first_token_frees_the_model(running: Running, model: ModelServer) -> None:
    model.reply = lambda _: [STALL]
    leave(running, when=lambda: len(model.requests) == model.running == 1)
    assert len(model.requests) == 1
    eventually(lambda: model.running == 0, seconds=FREE_SECONDS)


def test_client_that_leaves_the_queue_is_never_asked_for(running: Running, model: ModelServer) -> None:
    # Given one that holds the only place
    model.reply = lambda _: ["Blue", STALL]
    headers, body = {"Authorization": f"Bearer {KEY}"}, chat_body("First", stream=True)
    url = f"{running.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as first:
        lines = first.iter_lines()
        next(lines)
        # When another one leaves the queue, then its place there is free
        leave(running, when=lambda: running.metric("nimblet_gateway_waiting") == 1)
        eventually(lambda: running.metric("nimblet_gateway_waiting") == 0, seconds=FREE_SECONDS)
    # And the model heard of the first one alone
    eventually(lambda: running.metric("nimblet_gateway_running") == 0, seconds=FREE_SECONDS)
    assert len(model.requests) == 1


def test_client_that_leaves_during_retrieval_ends_it(
    running: Running, model: ModelServer, index: tuple[StallingIndex, str]
) -> None:
    stalling = index[0]
    stalling.stalls = True
    leave(running, when=lambda: len(stalling.asked) == 1)
    eventually(lambda: len(stalling.asked) == stalling.left == 1, seconds=FREE_SECONDS)
    stalling.stalls = False
    assert model.requests == []
    eventually(lambda: running.metric("nimblet_gateway_running") == 0, seconds=FREE_SECONDS)


def test_full_queue_is_told_with_a_time_to_come_again(running: Running, model: ModelServer) -> None:
    # Given one that holds the only place, and one that waits
    model.reply = lambda _: ["Blue", STALL]
    headers, url = {"Authorization": f"Bearer {KEY}"}, f"{running.url}/v1/chat/completions"
    with (
        httpx.stream("POST", url, json=chat_body("Q", stream=True), headers=headers, timeout=60) as first,
        ThreadPoolExecutor(1) as pool,
    ):
        lines = first.iter_lines()
        next(lines)
        waiting = pool.submit(running.chat, "Q")
        eventually(lambda: running.metric("nimblet_gateway_waiting") == 1)
        # When a third one comes, then it is told at once
        answer = running.chat("Q")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_full")
        assert int(answer.headers["retry-after"]) > 0
        # And the second one ends in time, too
        assert waiting.result().status_code == 504


def test_answer_without_end_is_cut_off_in_time(running: Running, model: ModelServer) -> None:
    model.reply = lambda _: ["Blue", STALL]
    events = running.stream("What colour?")
    assert events[-1]["error"]["code"] == "timeout"
    assert running.chat("What colour?").status_code == 504
    eventually(lambda: model.running == 0, seconds=FREE_SECONDS)


def used(running: Running, kind: str) -> float:
    """Return what a key was charged."""
    return running.metric("nimblet_gateway_tokens_total", caller="client", kind=kind)


def test_prompt_that_nobody_waited_for_is_charged(running: Running, model: ModelServer) -> None:
    # Given a model that reads a prompt for long, and says nothing yet
    async def silent() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    words_, before = "colour " * 90, used(running, "prompt")
    model.refuses = ("colour", StreamingResponse(silent(), media_type="text/event-stream"))
    # When the request ends before its first token, then the key pays for what was read
    assert running.chat(words_).status_code == 504
    eventually(lambda: used(running, "prompt") >= before + 90)
    # And nothing where the model was never asked anything it took
    model.refuses = ("colour", Response(status_code=503))
    before = used(running, "prompt")
    assert running.chat(words_).status_code == 503
    assert used(running, "prompt") == before


@pytest.mark.parametrize(
    "delta", [{"reasoning_content": "So"}, {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}]
)
def test_thoughts_and_calls_that_nobody_waited_for_are_charged(
    running: Running, model: ModelServer, delta: dict[str, Any]
) -> None:
    before = used(running, "completion")
    model.deltas = [delta, delta, delta, {"content": STALL}]
    assert running.chat("What colour?").status_code == 504
    eventually(lambda: used(running, "completion") == before + 3)


def test_rate_of_a_key_is_told(running: Running, model: ModelServer) -> None:
    (running.folder / "keys" / "slow").write_text('{"key": "slow-key", "requestsPerMinute": 1}')
    eventually(lambda: running.chat("Q", key="slow-key").status_code == 200)
    answer = running.chat("Q", key="slow-key")
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert running.chat("Q").status_code == 200


def test_many_words_stream_through(running: Running, model: ModelServer) -> None:
    model.reply = lambda _: words("blue " * 3000)
    events: list[Any] = running.stream("What colour?")
    assert len(events) > 3000
