# SPDX-License-Identifier: Apache-2.0
"""The operator asks gates on real sockets: a nonce of its own each time, bounded, and only when it is time."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import aiohttp
import pytest
from aiohttp import web

from attestation_testing.verifier import LIFETIME, Verifier, new_key, public, tee_pubkey
from nimblet.cluster.attestation import RETRY, Challenger, GatedPod, gate_url
from nimblet.cluster.key import Key
from nimblet_attestation.report import MAX_REPORT, NONCE_PATTERN, Challenge, make_report
from tests.builders import NOW
from tests.loopback import served

pytestmark = pytest.mark.asyncio
KEY = Key("CompactModel", "team", "small")
POD = GatedPod(uid="uid-1", ip="192.0.2.1")


@dataclass
class World:
    """A gate, a clock and dice."""

    now: datetime = NOW
    asked: list[str] = field(default_factory=list)
    thrown: int = 0
    answer: Callable[[str], web.Response] | None = None

    def dice(self, size: int) -> bytes:
        self.thrown += 1
        return bytes([self.thrown]) * size

    async def handle(self, request: web.Request) -> web.Response:
        nonce = request.query["nonce"]
        self.asked.append(nonce)
        if self.answer is not None:
            return self.answer(nonce)
        runtime = {"nonce": "of-the-broker", "tee-pubkey": tee_pubkey(public("guest"))}
        token = Verifier().token(runtime, now=self.now)
        made = make_report(token, new_key("guest"), Challenge(nonce=nonce, pod_uid="uid-1"))
        return web.Response(text=made.model_dump_json(by_alias=True))


@asynccontextmanager
async def challenger(world: World) -> AsyncIterator[Challenger]:
    app = web.Application()
    app.router.add_get("/attestation", world.handle)
    async with served(app) as url, aiohttp.ClientSession() as session:
        yield Challenger(
            session=session, now=lambda: world.now, random=world.dice, url_of=lambda *_: url, timeout=20.0
        )


async def test_each_question_has_a_nonce_of_its_own_and_answers_last_until_it_is_time() -> None:
    world = World()
    async with challenger(world) as asks:
        first = (await asks.reports(KEY, [POD]))["uid-1"]
        assert first.again_at == NOW + timedelta(seconds=LIFETIME) * 0.75
        assert (await asks.reports(KEY, [POD]))["uid-1"] is first
        world.now = first.again_at
        second = (await asks.reports(KEY, [POD]))["uid-1"]
        asks.forget(KEY)
        await asks.reports(KEY, [POD])
    assert (first.nonce, second.nonce) == tuple(world.asked[:2])
    assert len(set(world.asked)) == 3
    assert all(re.fullmatch(NONCE_PATTERN, nonce) for nonce in world.asked)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: web.Response(status=503),
        lambda _: web.Response(body=b"\xff"),
        lambda _: web.Response(body=b"x" * (MAX_REPORT + 1)),
        lambda _: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/attestation"}),
    ],
)
async def test_a_silent_pod_is_asked_again_and_keeps_its_last_word(answer: Callable[[str], web.Response]) -> None:
    world = World(answer=answer)
    async with challenger(world) as asks:
        silent = (await asks.reports(KEY, [POD]))["uid-1"]
        assert (silent.text, silent.again_at) == ("", NOW + RETRY)
        await asks.reports(KEY, [POD])
        assert len(world.asked) == 1
        world.now, world.answer = NOW + RETRY, None
        good = (await asks.reports(KEY, [POD]))["uid-1"]
        assert good.text
        world.now, world.answer = good.again_at, answer
        kept = (await asks.reports(KEY, [POD]))["uid-1"]
    assert (kept.text, kept.nonce, kept.asked_at) == (good.text, good.nonce, good.asked_at)
    assert kept.again_at == world.now + RETRY


async def test_nonsense_is_handed_on_and_asked_again_soon() -> None:
    world = World(answer=lambda _: web.Response(text=json.dumps({"token": "attested"})))
    async with challenger(world) as asks:
        told = (await asks.reports(KEY, [POD]))["uid-1"]
    assert told.again_at == NOW + RETRY


async def test_pods_that_are_gone_are_forgotten() -> None:
    world = World()
    async with challenger(world) as asks:
        await asks.reports(KEY, [POD])
        assert await asks.reports(KEY, []) == {}
        await asks.reports(KEY, [POD])
    assert len(world.asked) == 2


async def test_a_gate_is_asked_at_its_pods_own_address() -> None:
    assert gate_url(POD, 8082) == "http://192.0.2.1:8082"
    assert gate_url(GatedPod(uid="u", ip="fd00::1"), 8082) == "http://[fd00::1]:8082"
