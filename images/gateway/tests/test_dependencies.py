# SPDX-License-Identifier: Apache-2.0
"""Guard, fallback, several indexes, self-test and traces: what is done while something behind is ill."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway_testing.corpus import PASSAGES
from gateway_testing.process import (
    KEY,
    OPERATOR,
    Json,
    Running,
    build,
    chat_body,
    eventually,
    gateway,
    gateway_config,
    index_config,
    retriever_keys,
    text_of,
)
from gateway_testing.upstream import ModelServer
from retriever_testing.embeddings import EmbeddingServer
from retriever_testing.process import free_port, retriever, serving, write_config

pytestmark = pytest.mark.timeout(240)

QUESTION = "At how many bar does the Halvorsen pump run?"
ANSWER = "The Halvorsen pump runs at 45 bar."


@dataclass(kw_only=True)
class Collector:
    """Receives traces as OTLP over HTTP."""

    spans: list[tuple[str, str]] = field(default_factory=list)
    """Trace id and name of each."""

    async def traces(self, request: Request) -> Response:
        """POST /v1/traces."""
        message = ExportTraceServiceRequest.FromString(await request.body())
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [(span.trace_id.hex(), span.name) for span in scope.spans]
        return Response()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A gateway with a guard, a fallback, two indexes and traces, and everything behind it."""

    running: Running
    model: ModelServer
    guard: ModelServer
    fallback: ModelServer
    collector: Collector
    second: Path
    second_port: int

    def status(self) -> Json:
        """Return what the operator is told."""
        told: Json = self.running.get("/v1/status", key=OPERATOR).json()
        return told

    def healthy(self) -> bool:
        """Whether all is well."""
        told = self.status()
        return bool(told["selfTest"]["ok"] and all(index["ok"] for index in told["indexes"]))


@pytest.fixture(scope="module")
def everything(index_url: str, folder: Path) -> Iterator[Bench]:
    """All of it, and the second index's retriever not started yet."""
    model, guard, fallback, collector = ModelServer(), ModelServer(), ModelServer(), Collector()
    second_port = free_port()
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(made.app())) for made in (model, guard, fallback)]
        traced = Starlette(routes=[Route("/v1/traces", collector.traces, methods=["POST"])])
        collector_url = stack.enter_context(serving(traced))
        embedding_url = stack.enter_context(serving(EmbeddingServer().app()))
        second = write_config(folder, embedding_url=embedding_url, keys=retriever_keys())
        changes: dict[str, Any] = {
            "grounding": "Required",
            "guard": {"url": f"{urls[1]}/v1", "name": "guard"},
            "fallback": {"url": f"{urls[2]}/v1", "name": "spare", "contextLength": 2048},
            "indexes": [
                index_config(folder, index_url),
                index_config(folder, f"http://127.0.0.1:{second_port}", name="more"),
            ],
            "retrieval": {"waitSeconds": 1.0},
            "tracing": {"endpoint": f"{collector_url}/v1/traces"},
        }
        guard.answers("safe")
        running = stack.enter_context(gateway(gateway_config(folder, model_url=urls[0], **changes)))
        yield Bench(
            running=running,
            model=model,
            guard=guard,
            fallback=fallback,
            collector=collector,
            second=second,
            second_port=second_port,
        )


@pytest.fixture
def bench(everything: Bench) -> Iterator[Bench]:
    """The same, with every stub as new."""
    everything.model.answers(ANSWER)
    everything.guard.answers("safe")
    everything.fallback.answers(ANSWER)
    yield everything
    for server in (everything.model, everything.guard, everything.fallback):
        server.renew()
    everything.guard.answers("safe")


def test_missing_index_is_said_and_the_other_answers(bench: Bench) -> None:
    # Given an index whose retriever was never there
    eventually(lambda: bool(bench.status()["selfTest"]["ok"]))
    body = bench.running.chat(QUESTION).json()
    # Then the other one answers, and the missing one is said to the client and to the operator
    assert body["citations"][0]["id"] == "docs/wiki/pump.md/0@g000001"
    told = {item["name"]: item for item in body["nimblet"]["indexes"]}
    assert (told["docs"]["ok"], told["more"]["ok"], told["more"]["reason"]) == (True, False, "Unreachable")
    indexes = {item["name"]: item for item in bench.status()["indexes"]}
    assert (indexes["docs"]["generation"], indexes["more"]["reason"]) == ("g000001", "Unreachable")


def test_index_that_is_killed_and_comes_back(bench: Bench) -> None:
    url = f"http://127.0.0.1:{bench.second_port}"
    with retriever(bench.second, port=bench.second_port) as process:
        # Given two indexes with equal passages: each is found once
        build(url, PASSAGES[:1], generation="g000007")
        eventually(bench.healthy)
        found = bench.running.post("/v1/retrieve", {"query": QUESTION}).json()
        assert [item["document"] for item in found["passages"]].count("wiki/pump.md") == 1
        # When one is killed, then the other one answers
        process.send_signal(signal.SIGKILL)
        process.wait()
        body = bench.running.chat(QUESTION).json()
        assert (body["citations"][0]["index"], body["nimblet"]["indexes"][1]["ok"]) == ("docs", False)
        eventually(lambda: not bench.healthy())
    # And it comes back by itself
    with retriever(bench.second, port=bench.second_port):
        eventually(bench.healthy)
        body = bench.running.chat(QUESTION).json()
        told = {item["name"]: item.get("generation") for item in body["nimblet"]["indexes"]}
        assert told == {"docs": "g000001", "more": "g000007"}


@pytest.mark.parametrize(
    ("verdicts", "refusal"),
    [(["unsafe\nS1"], "BlockedQuestion"), (["safe", "Safety: Unsafe\nCategories: Violent"], "BlockedAnswer")],
)
def test_guard_blocks_question_and_answer(bench: Bench, verdicts: list[str], refusal: str) -> None:
    def verdict(request: dict[str, Any]) -> list[str]:
        judged = request["messages"][-1]
        return [verdicts[-1] if judged["role"] == "assistant" or len(verdicts) == 1 else verdicts[0]]

    bench.guard.reply = verdict
    body = bench.running.chat(QUESTION).json()
    assert (body["nimblet"]["refusal"], body["choices"][0]["finish_reason"]) == (refusal, "content_filter")
    assert ("45 bar" in json.dumps(body), body["citations"]) == (False, [])
    assert len(bench.model.requests) == len(verdicts) - 1
    assert "45 bar" not in text_of(bench.running.stream(QUESTION))


@pytest.mark.parametrize("fault", [Response(status_code=503), Response(status_code=401), Response("{}")])
def test_guard_without_a_verdict_lets_nothing_through(bench: Bench, fault: Response) -> None:
    bench.guard.fault = fault
    answer = bench.running.chat(QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "guard_unavailable")
    assert bench.model.requests == []


def test_text_that_the_guard_can_not_take_is_its_senders_to_shorten(bench: Bench) -> None:
    told = {
        "error": {"code": 500, "message": "input (900 tokens) is too large to process", "type": "server_error"}
    }
    bench.guard.fault = JSONResponse(told, status_code=500)
    answer = bench.running.chat(QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert bench.model.requests == []


def test_guard_that_chats_instead_lets_nothing_through(bench: Bench) -> None:
    bench.guard.answers("Sure, here is how")
    assert bench.running.chat(QUESTION).status_code == 503


@pytest.mark.parametrize("fault", [Response(status_code=503), Response(status_code=401)])
def test_fallback_answers_while_the_model_does_not(bench: Bench, fault: Response) -> None:
    bench.model.fault = fault
    body = bench.running.chat(QUESTION).json()
    assert (body["nimblet"]["model"], body["nimblet"]["fallback"]) == ("spare", True)
    assert body["citations"]
    # And when neither does, that is told
    bench.fallback.fault = Response(status_code=503)
    assert bench.running.chat(QUESTION).status_code == 503


def test_self_test_fails_and_runs_again_when_the_model_is_back(bench: Bench) -> None:
    eventually(lambda: bool(bench.status()["selfTest"]["ok"]))
    bench.model.fault = Response(status_code=401)
    eventually(lambda: bench.status()["selfTest"]["reason"] == "ModelUnavailable")
    assert bench.status()["model"]["reason"] == "KeyRefused"
    bench.model.fault = None
    eventually(lambda: bool(bench.status()["selfTest"]["ok"]))
    told = bench.status()
    assert (told["configuration"], told["selfTest"]["passages"] > 0, told["selfTest"]["tokens"] > 0) == (
        "c1",
        True,
        True,
    )


def test_traces_go_through_the_whole_path(bench: Bench) -> None:
    eventually(lambda: bool(bench.status()["selfTest"]["ok"]))
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"Authorization": f"Bearer {KEY}", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    url = f"{bench.running.url}/v1/chat/completions"
    httpx.post(url, json=chat_body(QUESTION), headers=headers, timeout=60).raise_for_status()
    # the model and the guard are told the trace, the collector all its parts
    assert bench.model.headers[-1]["traceparent"].split("-")[1] == trace
    assert bench.guard.headers[-1]["traceparent"].split("-")[1] == trace
    wanted = {"/v1/chat/completions", "queue", "retrieve", "guard", "generate"}
    eventually(lambda: wanted <= {name for id_, name in bench.collector.spans if id_ == trace})
