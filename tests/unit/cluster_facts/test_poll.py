# SPDX-License-Identifier: Apache-2.0
"""Asking servers again and again, against a real HTTP server on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from aiohttp import web

from nimblet.cluster.key import Key
from nimblet.cluster.podstatus import StatusQuestion
from nimblet.cluster.poll import FIRST_SECONDS, Polled, Poller, Ways
from nimblet.plan.facts import Answer, Observation, PodFacts
from tests.loopback import served
from tests.unit.cluster_facts.builders import POD
from tests.unit.shell.virtual import dice

pytestmark = pytest.mark.asyncio
DOCS = Key("RetrievalIndex", "team", "docs")
LATE = 60.0
"""Seconds after which something that must happen has not."""


@dataclass(frozen=True, kw_only=True)
class Inquiry(StatusQuestion):
    """Asks for any text."""

    every: float = 0.01
    proof: str = "status"

    def judge(self, body: bytes, *, source_hash: str) -> Observation:
        """Return the text."""
        return Observation(answer=Answer.ANSWERED, text=body.decode() + source_hash[:0])


@dataclass
class Stub:
    """Says `words` to whoever asks, once it may."""

    words: str = "well"
    status: int = 200
    release: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    heard: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    url: str = ""

    async def tell(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers["Authorization"])
        self.heard.put_nowait(None)
        await self.release.wait()
        return web.Response(text=self.words, status=self.status)

    async def is_asked(self, times: int) -> None:
        """Return once it was asked so many times more."""
        for _ in range(times):
            await asyncio.wait_for(self.heard.get(), LATE)


@dataclass
class Bench:
    """A poller of the stub, with a clock moved by hand and a record of whom it woke."""

    poller: Poller
    stub: Stub
    clock: list[float]
    woken: asyncio.Queue[Key]

    def look(self, *pods: PodFacts, key: str = "nk-1", inquiry: Inquiry | None = None) -> Polled:
        return self.poller.look(DOCS, pods or (POD,), key_of=lambda _: key, inquiry=inquiry or Inquiry())

    async def wakes(self) -> None:
        assert await asyncio.wait_for(self.woken.get(), LATE) == DOCS


@asynccontextmanager
async def bench(*, held: bool = False) -> AsyncIterator[Bench]:
    stub, clock, woken, failed = Stub(), [100.0], asyncio.Queue[Key](), list[BaseException]()
    if not held:
        stub.release.set()
    app = web.Application()
    app.add_routes([web.get("/v1/status", stub.tell)])
    async with served(app) as stub.url, aiohttp.ClientSession() as session:
        poller = Poller(
            session=session,
            ways=Ways(wake=woken.put_nowait, fail=failed.append),
            clock=lambda: clock[0],
            rng=dice(),
            url_of=lambda pod, port: stub.url,  # noqa: ARG005
        )
        yield Bench(poller=poller, stub=stub, clock=clock, woken=woken)
        await poller.close()
    assert failed == []


def said(polled: Polled) -> list[tuple[Answer, str] | None]:
    seen = [pod.observation for pod in polled.pods]
    return [(item.answer, item.text) if item is not None else None for item in seen]


def ages(polled: Polled) -> list[float]:
    return [pod.observation.age for pod in polled.pods if pod.observation is not None]


async def test_a_first_answer_is_waited_for_outside_of_the_pass() -> None:
    async with bench(held=True) as b:
        first = b.look()
        assert (said(first), first.wait) == ([(Answer.BUSY, "")], FIRST_SECONDS)
        b.stub.release.set()
        await b.wakes()
        second = b.look()
        assert (said(second), second.wait) == ([(Answer.ANSWERED, "well")], None)


async def test_one_that_never_answers_is_waited_for_no_longer() -> None:
    async with bench(held=True) as b:
        b.look()
        b.clock[0] += FIRST_SECONDS
        assert b.look().wait is None


async def test_who_says_the_same_wakes_nobody_and_something_new_does() -> None:
    async with bench() as b:
        b.look()
        await b.wakes()
        await b.stub.is_asked(5)
        assert b.woken.empty()
        b.stub.words = "ill"
        await b.wakes()
        assert said(b.look()) == [(Answer.ANSWERED, "ill")]


async def test_a_busy_server_keeps_its_last_words() -> None:
    async with bench() as b:
        b.look()
        await b.wakes()
        b.stub.status = 503
        await b.wakes()
        busy = b.look()
        assert said(busy) == [(Answer.BUSY, "well")]
        assert [pod.observation.answered for pod in busy.pods if pod.observation is not None] == [True]


async def test_a_busy_servers_last_words_are_known_to_grow_old() -> None:
    async with bench() as b:
        b.look()
        await b.wakes()
        b.stub.status = 503
        await b.wakes()
        b.clock[0] += 20.0
        assert ages(b.look()) == [20.0]
        b.stub.status = 200
        await b.wakes()
        assert ages(b.look()) == [0.0]


async def test_a_changed_epoch_asks_at_once_and_the_last_answer_stands() -> None:
    async with bench() as b:
        rare = Inquiry(every=1000.0)
        b.look(inquiry=rare)
        await b.wakes()
        await b.stub.is_asked(1)
        changed = b.look(inquiry=replace(rare, epoch="2"))
        assert (said(changed), changed.wait) == ([(Answer.ANSWERED, "well")], None)
        await b.stub.is_asked(1)
        b.poller.ask_again(DOCS)
        await b.stub.is_asked(1)


async def test_a_rotated_key_is_used_from_then_on() -> None:
    async with bench() as b:
        b.look()
        await b.wakes()
        b.look(key="nk-2")
        await b.stub.is_asked(4)
        assert b.stub.asked[-1] == "Bearer nk-2"


async def test_a_restarted_container_is_asked_anew() -> None:
    async with bench() as b:
        b.look()
        await b.wakes()
        assert b.look(replace(POD, container_id="c2")).wait == FIRST_SECONDS
        await b.wakes()


async def test_what_a_pod_said_holds_while_it_is_drained() -> None:
    async with bench() as b:
        b.look()
        await b.wakes()
        assert said(b.look(replace(POD, terminating=True))) == [(Answer.ANSWERED, "well")]
        assert said(b.look(replace(POD, terminating=True, ready=False))) == [None]
        asked = len(b.stub.asked)
        # another one is asked after it, and it is not
        other = replace(POD, uid="u2")
        b.look(replace(POD, terminating=True, ready=False), other, key="nk-2")
        await b.wakes()
        assert set(b.stub.asked[asked + 1 :]) <= {"Bearer nk-2"}


async def test_only_ready_pods_that_stay_are_asked() -> None:
    pods = (
        replace(POD, ready=False),
        replace(POD, uid="u2", terminating=True),
        replace(POD, uid="u3", ip=""),
    )
    async with bench() as b:
        polled = b.look(*pods)
        assert (said(polled), polled.wait) == ([None, None, None], None)
        assert b.stub.asked == []


async def test_what_is_forgotten_is_asked_no_more() -> None:
    async with bench() as b:
        b.look()
        await b.wakes()
        b.poller.forget(DOCS)
        assert b.look().wait == FIRST_SECONDS
        await b.wakes()


async def test_servers_that_hang_are_asked_side_by_side() -> None:
    pods = [replace(POD, uid=f"u{number}") for number in range(20)]
    async with bench(held=True) as b:
        b.look(*pods)
        await b.stub.is_asked(len(pods))


async def test_a_defect_is_told_to_who_can_end_the_process() -> None:
    class Broken(Inquiry):
        def judge(self, body: bytes, *, source_hash: str) -> Observation:
            raise RuntimeError(f"{len(body)} bytes{source_hash[:0]}")

    failed = asyncio.Queue[BaseException]()
    async with bench() as b:
        b.poller.ways = replace(b.poller.ways, fail=failed.put_nowait)
        b.look(inquiry=Broken())
        error = await asyncio.wait_for(failed.get(), LATE)
        assert str(error) == "4 bytes"
