# SPDX-License-Identifier: Apache-2.0
"""Asking pods, against a real HTTP server on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from aiohttp import web

from nimblet.cluster.key import Key
from nimblet.cluster.observe import Asking, Observer, Patience, answer_of, ask, pod_url, standing
from nimblet.cluster.question import Questions
from nimblet.plan.facts import Answer, Observation, PodFacts
from tests.loopback import served
from tests.unit.cluster_facts.builders import POD

Handler = Callable[[web.Request], Awaitable[web.Response]]
SMALL = Key("CompactModel", "team", "small")
TOKEN = {"choices": [{"message": {"content": "Hi"}}], "usage": {"completion_tokens": 1}}


@dataclass
class Stub:
    """A model server that answers `status` and `body`, after `release`; and a loader's progress."""

    status: int = 200
    body: object = field(default_factory=lambda: TOKEN)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    percent: object = 0
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def complete(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers["Authorization"])
        assert (await request.json())["max_tokens"] == 1
        await self.release.wait()
        return web.json_response(self.body, status=self.status, headers={"Location": "/elsewhere"})

    async def progress(self, _: web.Request) -> web.Response:
        return web.json_response({"percent": self.percent, "bytes": 1, "total": 2, "phase": "Downloading"})


@asynccontextmanager
async def stub_server(*, held: bool = False, embed: Handler | None = None) -> AsyncIterator[Stub]:
    stub = Stub()
    if not held:
        stub.release.set()
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", stub.complete), web.get("/progress", stub.progress)])
    if embed is not None:
        app.add_routes([web.post("/v1/embeddings", embed)])
    async with served(app) as stub.url:
        yield stub


@dataclass
class Bench:
    """An observer of the stub, with a clock moved by hand and a record of wake-ups."""

    observer: Observer
    clock: list[float]
    woken: asyncio.Queue[Key]

    async def look(self, *pods: PodFacts) -> tuple[PodFacts, ...]:
        return await self.observer.observe(SMALL, pods or (POD,), key_of=lambda _: "nk-1")


@asynccontextmanager
async def bench(stub: Stub, *, wait: float = 60.0) -> AsyncIterator[Bench]:
    clock, woken = [100.0], asyncio.Queue[Key]()
    async with aiohttp.ClientSession() as session:
        observer = Observer(
            session=session,
            patience=Patience(timeout=60.0, retry=5.0, wait=wait),
            wake=woken.put_nowait,
            clock=lambda: clock[0],
            url_of=lambda pod, port: stub.url,  # noqa: ARG005
        )
        try:
            yield Bench(observer=observer, clock=clock, woken=woken)
        finally:
            await observer.close()


def answers(pods: tuple[PodFacts, ...]) -> list[Answer | None]:
    return [pod.observation.answer if pod.observation is not None else None for pod in pods]


@pytest.mark.asyncio
async def test_a_pod_that_answered_is_not_asked_again() -> None:
    async with stub_server() as stub, bench(stub) as b:
        assert answers(await b.look()) == [Answer.ANSWERED]
        b.clock[0] += 1000
        assert answers(await b.look()) == [Answer.ANSWERED]
        assert stub.asked == ["Bearer nk-1"]


@pytest.mark.asyncio
async def test_what_a_pod_said_holds_while_it_is_drained() -> None:
    async with stub_server() as stub, bench(stub) as b:
        await b.look(POD)
        assert answers(await b.look(replace(POD, terminating=True))) == [Answer.ANSWERED]
        assert answers(await b.look(replace(POD, terminating=True, ready=False))) == [None]
        assert len(stub.asked) == 1


@pytest.mark.asyncio
async def test_a_restarted_container_is_asked_anew() -> None:
    async with stub_server() as stub, bench(stub) as b:
        await b.look()
        await b.look(replace(POD, container_id="c2"))
        assert len(stub.asked) == 2


@pytest.mark.asyncio
async def test_a_silent_pod_is_asked_again_after_a_while() -> None:
    async with stub_server() as stub, bench(stub) as b:
        stub.status = 500
        first = await b.look()
        assert answers(first) == [Answer.FAILED]
        assert b.observer.next_look(first) == 5.0
        stub.status = 200
        assert answers(await b.look()) == [Answer.FAILED]
        b.clock[0] += 6
        second = await b.look()
        assert answers(second) == [Answer.ANSWERED]
        assert b.observer.next_look(second) is None


@pytest.mark.asyncio
async def test_a_slow_answer_holds_nobody_and_wakes_the_resource() -> None:
    async with stub_server(held=True) as stub, bench(stub, wait=0.01) as b:
        assert answers(await b.look()) == [Answer.BUSY]
        stub.release.set()
        assert await asyncio.wait_for(b.woken.get(), 60) == SMALL
        assert answers(await b.look()) == [Answer.ANSWERED]
        assert len(stub.asked) == 1


@pytest.mark.asyncio
async def test_only_ready_pods_that_stay_are_asked() -> None:
    pods = (
        replace(POD, ready=False),
        replace(POD, uid="u2", terminating=True),
        replace(POD, uid="u3", ip=""),
    )
    async with stub_server() as stub, bench(stub) as b:
        assert answers(await b.look(*pods)) == [None, None, None]
        assert stub.asked == []


@pytest.mark.asyncio
async def test_a_download_is_told_in_steps_of_ten() -> None:
    loading = replace(POD, ready=False, loading=True)
    async with stub_server() as stub, bench(stub) as b:
        stub.percent = 47
        pods = await b.look(loading)
        assert [pod.download_percent for pod in pods] == [40]
        assert b.observer.next_look(pods) == 5.0
        stub.percent = "nonsense"
        assert [pod.download_percent for pod in await b.look(loading)] == [40]


@pytest.mark.asyncio
async def test_what_is_forgotten_is_asked_again() -> None:
    async with stub_server() as stub, bench(stub) as b:
        await b.look()
        b.observer.forget(SMALL)
        await b.look()
        assert len(stub.asked) == 2


@pytest.mark.asyncio
async def test_no_server_is_a_failed_answer() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and never listens: a port that was left may be somebody else's by now
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        async with aiohttp.ClientSession() as session:
            observation = await ask(session, Asking(url=url, api_key="nk-1", timeout=60))
    assert observation.answer is Answer.FAILED
    assert "connection" in observation.detail


@pytest.mark.asyncio
async def test_no_answer_in_time_is_busy() -> None:
    async with stub_server(held=True) as stub, aiohttp.ClientSession() as session:
        observation = await ask(session, Asking(url=stub.url, api_key="nk-1", timeout=0.05))
    assert observation == Observation(answer=Answer.BUSY, detail="no token within 0.05 seconds")


@pytest.mark.asyncio
async def test_a_redirect_is_not_followed() -> None:
    async with stub_server() as stub, aiohttp.ClientSession() as session:
        stub.status = 307
        observation = await ask(session, Asking(url=stub.url, api_key="nk-1", timeout=60))
    assert observation == Observation(answer=Answer.FAILED, detail="HTTP 307")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"choices":[{}],"usage":{"completion_tokens":1}}', Observation(answer=Answer.ANSWERED)),
        (
            200,
            b'{"choices":[{}],"usage":{"completion_tokens":0}}',
            Observation(answer=Answer.FAILED, detail="HTTP 200 without a token"),
        ),
        (
            200,
            b'{"error":"secret prompt"}',
            Observation(answer=Answer.FAILED, detail="HTTP 200 without a chat completion"),
        ),
        (200, b"<html>", Observation(answer=Answer.FAILED, detail="HTTP 200 without a chat completion")),
        (401, b"secret", Observation(answer=Answer.FAILED, detail="HTTP 401")),
        (503, b"", Observation(answer=Answer.BUSY, detail="HTTP 503")),
        (429, b"", Observation(answer=Answer.BUSY, detail="HTTP 429")),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, expected: Observation) -> None:
    assert answer_of(status, body, asking=Asking(url="", api_key="", timeout=1)) == expected


ANSWERED = Observation(answer=Answer.ANSWERED, text="well")
PARTLY = Observation(answer=Answer.PARTLY, reason="AdapterNotLoaded", detail="it has not loaded legal")
FAILED = Observation(answer=Answer.FAILED, detail="HTTP 500")
BUSY = Observation(answer=Answer.BUSY, detail="HTTP 503")


@pytest.mark.parametrize(
    ("before", "seen", "stands"),
    [
        (None, BUSY, BUSY),
        (ANSWERED, BUSY, replace(BUSY, text="well", answered=True)),
        (replace(BUSY, text="well", answered=True), BUSY, replace(BUSY, text="well", answered=True)),
        (PARTLY, BUSY, PARTLY),
        (FAILED, BUSY, BUSY),
        (replace(BUSY, answered=True), FAILED, FAILED),
        (PARTLY, ANSWERED, ANSWERED),
    ],
)
def test_a_busy_server_takes_back_nothing(
    before: Observation | None, seen: Observation, stands: Observation
) -> None:
    assert standing(before, seen) == stands


def test_the_address_of_a_pod() -> None:
    assert pod_url(POD, 8080) == "http://10.0.0.1:8080"
    assert pod_url(replace(POD, ip="fd00::1"), 8081) == "http://[fd00::1]:8081"


@pytest.mark.asyncio
async def test_an_embedding_model_is_asked_for_a_vector() -> None:
    async def embed(request: web.Request) -> web.Response:
        assert (await request.json()) == {"input": "Hello", "encoding_format": "base64"}
        return web.json_response({"data": [{"embedding": "AACAPwAAAAA="}]})

    questions = Questions(task="Embedding", widths={"s": 2})
    async with stub_server(embed=embed) as stub, bench(stub) as b:
        pods = await b.observer.observe(SMALL, (POD,), key_of=lambda _: "nk-1", questions=questions)
        assert answers(pods) == [Answer.ANSWERED]
        wider = replace(questions, widths={"s": 3})
        b.observer.forget(SMALL)
        [pod] = await b.observer.observe(SMALL, (POD,), key_of=lambda _: "nk-1", questions=wider)
    failed = Observation(answer=Answer.FAILED, detail="HTTP 200 with 2 numbers where 3 were expected")
    assert pod.observation == failed
