# SPDX-License-Identifier: Apache-2.0
"""Clients that go, and limits of time and place: the model is free within a second, wherever the request was."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
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

FREE_SECONDS = 20.0
"""A second is promised, and a busy machine may take longer; the request's own limit would free the model later."""
REQUEST_SECONDS = 5.0
PATIENT_SECONDS = 600.0
"""Of requests that must not end by themselves meanwhile."""


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


@contextmanager
def small_gateway(folder: Path, model_url: str, index_url: str, *, seconds: float) -> Iterator[Running]:
    """Run a gateway with one place and a queue of one. `seconds`: what a request may take."""
    limits = {"concurrency": 1, "queue": 1, "requestSeconds": seconds, "maxTokens": 100}
    indexes = [index_config(folder, index_url)]
    with gateway(gateway_config(folder, model_url=model_url, limits=limits, indexes=indexes)) as made:
        eventually(lambda: made.metric("nimblet_gateway_dependency_ok", dependency="model") == 1)
        yield made


@pytest.fixture(scope="module")
def running(
    served_model: tuple[ModelServer, str], index: tuple[StallingIndex, str], folder: Path
) -> Iterator[Running]:
    """A gateway whose requests end soon."""
    with small_gateway(folder, served_model[1], index[1], seconds=REQUEST_SECONDS) as made:
        yield made


@pytest.fixture(scope="module")
def patient(
    served_model: tuple[ModelServer, str],
    index: tuple[StallingIndex, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """A gateway whose requests end with their clients."""
    folder = tmp_path_factory.mktemp("patient")
    with small_gateway(folder, served_model[1], index[1], seconds=PATIENT_SECONDS) as made:
        yield made


def leave(running: Running, *, when: Callable[[], bool]) -> None:
    """Ask, and hang up when it has come about, whatever was answered until then."""
    headers, body = {"Authorization": f"Bearer {KEY}"}, chat_body("What colour?", stream=True)
    with closing(HTTPConnection(urlsplit(running.url).netloc)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        eventually(when)


def leave_after(running: Running, text: str) -> None:
    """Ask, read until a text has come, and hang up."""
    with held(running, until=text):
        pass


@contextmanager
def held(running: Running, *, until: str = "data") -> Iterator[None]:
    """Ask for a stream and read until a text has come; keep it open inside the block."""
    headers, body = {"Authorization": f"Bearer {KEY}"}, chat_body("What colour?", stream=True)
    url = f"{running.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
        lines = answer.iter_lines()  # while it is referred to, the connection is not closed
        next(line for line in lines if until in line)
        yield


def test_client_that_leaves_a_stream_frees_the_model(patient: Running, model: ModelServer) -> None:
    model.reply = lambda _: ["Blue", " sky", STALL]
    leave_after(patient, "sky")
    eventually(lambda: model.running == 0, seconds=FREE_SECONDS)
    # and what it cost is counted all the same
    eventually(lambda: used(patient, "completion") >= 2)
    eventually(lambda: patient.metric("nimblet_gateway_requests_total", outcome="gone") >= 1)


def test_client_that_leaves_before_the_first_token_frees_the_model(patient: Running, model: ModelServer) -> None:
    model.reply = lambda _: [STALL]
    leave(patient, when=lambda: len(model.requests) == model.running == 1)
    assert len(model.requests) == 1
    eventually(lambda: model.running == 0, seconds=FREE_SECONDS)


def test_client_that_leaves_the_queue_is_never_asked_for(patient: Running, model: ModelServer) -> None:
    # Given one that holds the only place
    model.reply = lambda _: ["Blue", STALL]
    with held(patient):
        # When another one leaves the queue, then its place there is free
        leave(patient, when=lambda: patient.metric("nimblet_gateway_waiting") == 1)
        eventually(lambda: patient.metric("nimblet_gateway_waiting") == 0, seconds=FREE_SECONDS)
    # And the model heard of the first one alone
    eventually(lambda: patient.metric("nimblet_gateway_running") == 0, seconds=FREE_SECONDS)
    assert len(model.requests) == 1


def test_client_that_leaves_during_retrieval_ends_it(
    patient: Running, model: ModelServer, index: tuple[StallingIndex, str]
) -> None:
    stalling = index[0]
    stalling.stalls = True
    leave(patient, when=lambda: len(stalling.asked) == 1)
    eventually(lambda: len(stalling.asked) == stalling.left == 1, seconds=FREE_SECONDS)
    stalling.stalls = False
    assert model.requests == []
    eventually(lambda: patient.metric("nimblet_gateway_running") == 0, seconds=FREE_SECONDS)


def test_full_queue_is_told_with_a_time_to_come_again(patient: Running, model: ModelServer) -> None:
    # Given one that holds the only place, and one that waits
    model.reply = lambda _: ["Blue", STALL]
    with ThreadPoolExecutor(1) as pool, held(patient):
        waiting = pool.submit(patient.chat, "Q")
        eventually(lambda: patient.metric("nimblet_gateway_waiting") == 1)
        # When a third one comes, then it is told at once
        answer = patient.chat("Q")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_full")
        assert int(answer.headers["retry-after"]) > 0
        # And the second one is answered when the first one leaves
        model.answers("Blue.")
    assert waiting.result().status_code == 200


def test_who_waits_is_told_in_time_too(running: Running, model: ModelServer) -> None:
    model.reply = lambda _: ["Blue", STALL]
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(running.chat, "Q") for _ in range(2)]
    assert [item.result().status_code for item in asked] == [504, 504]


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
