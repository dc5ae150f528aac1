# SPDX-License-Identifier: Apache-2.0
"""Rates of keys and the queue before the model, in virtual time; what a stream is sent while it waits."""

import asyncio
from pathlib import Path

import pytest
from starlette.types import Message

from gateway_testing.process import gateway_config
from nimblet_gateway.config import Limits
from nimblet_gateway.errors import ApiError
from nimblet_gateway.exchange import Exchange
from nimblet_gateway.keys import Caller
from nimblet_gateway.limits import Rates, Turnstile
from nimblet_gateway.replicas import LOOK_SECONDS, Replicas

ALICE, BOB = Caller(id="alice", sha256="0" * 64), Caller(id="bob", sha256="1" * 64, requests_per_minute=120)


def test_requests_of_a_minute_fill_up_evenly() -> None:
    # Given 60 a minute over two replicas: 30 here
    now = [0.0]
    rates = Rates(Limits(requests_per_minute=60), replicas=lambda: 2, clock=lambda: now[0])
    for _ in range(30):
        rates.admit(ALICE)
    # When there is one too many, then it is told when to come again
    with pytest.raises(ApiError) as told:
        rates.admit(ALICE)
    assert (told.value.status, told.value.code, told.value.retry_after) == (429, "requests_per_minute_exceeded", 2)
    # And two seconds later one more may pass; others were never held up
    now[0] += 2.0
    rates.admit(ALICE)
    for _ in range(60):
        rates.admit(BOB)
    with pytest.raises(ApiError):
        rates.admit(ALICE)


def test_tokens_are_counted_after_the_answer() -> None:
    now = [0.0]
    rates = Rates(Limits(tokens_per_minute=600), replicas=lambda: 1, clock=lambda: now[0])
    rates.admit(ALICE)
    rates.charge(ALICE, 900)
    with pytest.raises(ApiError) as told:
        rates.admit(ALICE)
    assert (told.value.code, told.value.retry_after) == ("tokens_per_minute_exceeded", 31)
    now[0] += 31.0
    rates.admit(ALICE)


def test_scale_changes_the_share_and_forgives_nothing() -> None:
    # Given a key that used up its 60 of a minute
    now, replicas = [0.0], [1]
    rates = Rates(Limits(requests_per_minute=60), replicas=lambda: replicas[0], clock=lambda: now[0])
    for _ in range(60):
        rates.admit(ALICE)
    # When there are three gateways, then it fills up by 20 a minute here
    replicas[0] = 3
    with pytest.raises(ApiError) as told:
        rates.admit(ALICE)
    assert told.value.retry_after == 3
    now[0] += 60.0
    for _ in range(20):
        rates.admit(ALICE)
    with pytest.raises(ApiError):
        rates.admit(ALICE)


def test_replicas_follow_the_file_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    now = [0.0]
    path = gateway_config(tmp_path, model_url="http://model")
    replicas = Replicas(path, known=1, clock=lambda: now[0])
    before = 1
    texts = {'"version": 1, "replicas": 4': 4, '"version": 1, "replicas": 0': 4, '"version": 1': 1}
    for text, known in texts.items():
        config = gateway_config(tmp_path, model_url="http://model")
        config.write_text(config.read_text().replace('"version": 1', text))
        assert replicas() == before
        now[0] += LOOK_SECONDS
        assert replicas() == known
        before = known


@pytest.mark.asyncio
async def test_silent_stream_is_kept_alive_by_comments() -> None:
    sent: asyncio.Queue[Message] = asyncio.Queue()
    exchange = Exchange(scope={"headers": []}, receive=sent.get, send=sent.put)
    async with exchange.kept_alive(quiet_seconds=0.001):
        assert (await sent.get())["status"] == 200
        for _ in range(3):
            assert (await sent.get())["body"].startswith(b": ")
        await exchange.event({"a": 1})
        found = await sent.get()
        while found["body"].startswith(b": "):
            found = await sent.get()
        assert found["body"] == b'data: {"a":1}\n\n'


def test_without_a_limit_nothing_is_counted() -> None:
    rates = Rates(Limits(), replicas=lambda: 1, clock=lambda: 0.0)
    rates.charge(ALICE, 10**9)
    rates.admit(ALICE)


@pytest.mark.asyncio
async def test_turns_go_in_order_and_the_queue_is_bounded() -> None:
    turnstile, order, go = Turnstile(concurrency=1, queue=2), list[int](), asyncio.Event()

    async def pass_through(number: int) -> None:
        async with turnstile.turn():
            order.append(number)
            await go.wait()

    tasks = [asyncio.create_task(pass_through(number)) for number in range(3)]
    await asyncio.sleep(0)
    # the fourth finds the queue full
    with pytest.raises(ApiError) as told:
        await pass_through(3)
    assert (told.value.status, told.value.code, told.value.retry_after) == (503, "queue_full", 5)
    # one that goes gives its place to another
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    late = asyncio.create_task(pass_through(4))
    go.set()
    await asyncio.gather(tasks[0], tasks[2], late)
    assert order == [0, 2, 4]
    assert (turnstile.running, len(turnstile.waiting)) == (0, 0)


@pytest.mark.asyncio
async def test_turn_that_comes_while_it_is_cancelled_goes_on() -> None:
    turnstile = Turnstile(concurrency=1, queue=5)

    async def pass_through() -> str:
        async with turnstile.turn():
            return "passed"

    first = turnstile.turn()
    await first.__aenter__()
    second, third = asyncio.create_task(pass_through()), asyncio.create_task(pass_through())
    await asyncio.sleep(0)
    # the second gets its turn and is cancelled before it can run
    await first.__aexit__(None, None, None)
    second.cancel()
    assert await third == "passed"
    assert turnstile.running == 0
