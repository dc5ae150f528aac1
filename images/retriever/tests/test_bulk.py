# SPDX-License-Identifier: Apache-2.0
"""Passages are embedded two requests at a time, as large as about a second allows; calls take turns."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from nimblet_retriever.bulk import AT_ONCE, FIRST_SIZE, LEAST_SIZE, Bulk, next_size
from nimblet_retriever.errors import EmbeddingUnavailable


@dataclass(kw_only=True)
class Model:
    """Answers when it is let, and notes what it was asked."""

    seconds: float = 0.0
    now: float = 0.0
    under_way: int = 0
    most: int = 0
    asked: list[list[str]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    fault: str = ""

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """Return each text's length as its vector."""
        self.asked.append(list(texts))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.under_way == AT_ONCE:
            self.busy.set()
        try:
            await self.open.wait()
            await asyncio.sleep(0)
            if self.fault in texts:
                raise EmbeddingUnavailable("gone")
        finally:
            self.under_way -= 1
        self.now += self.seconds
        return [[float(len(text))] for text in texts]

    def bulk(self, most: int = 32) -> Bulk:
        """Return what is tested."""
        return Bulk(self.embed, most=most, clock=lambda: self.now)


@pytest.mark.parametrize(
    ("size", "seconds", "expected"),
    [(8, 0.1, 16), (32, 0.1, 32), (20, 0.1, 32), (8, 1.0, 8), (16, 3.0, 8), (LEAST_SIZE, 9.0, LEAST_SIZE)],
)
def test_size_of_the_next_request(size: int, seconds: float, expected: int) -> None:
    assert next_size(size, seconds=seconds, most=32) == expected


def test_size_stays_below_the_configured_batch() -> None:
    assert next_size(2, seconds=9.0, most=2) == 2
    assert next_size(2, seconds=0.0, most=2) == 2


@pytest.mark.asyncio
async def test_vectors_stand_where_their_texts_stood() -> None:
    model = Model()
    model.open.set()
    texts = ["x" * number for number in range(1, 101)]
    assert await model.bulk().embed(texts) == [[float(number)] for number in range(1, 101)]
    assert model.most == AT_ONCE


@pytest.mark.asyncio
async def test_requests_grow_while_the_model_is_fast_and_shrink_when_it_is_slow() -> None:
    model = Model()
    model.open.set()
    bulk = model.bulk()
    await bulk.embed(["a"] * 200)
    assert len(model.asked[0]) == FIRST_SIZE
    assert max(map(len, model.asked)) == 32
    model.seconds, model.asked = 10.0, []
    await bulk.embed(["a"] * 400)
    assert len(model.asked[-2]) == LEAST_SIZE


@pytest.mark.asyncio
async def test_all_calls_together_have_two_requests_under_way_and_take_turns() -> None:
    model = Model(seconds=1.0)
    bulk = model.bulk()
    calls = [asyncio.create_task(bulk.embed([name] * 24)) for name in ("a", "b")]
    await model.busy.wait()
    model.open.set()
    await asyncio.gather(*calls)
    assert model.most == AT_ONCE
    assert {texts[0] for texts in model.asked[:4]} == {"a", "b"}


@pytest.mark.asyncio
async def test_failed_request_ends_its_own_call_alone() -> None:
    model = Model(fault="bad")
    model.open.set()
    bulk = model.bulk()
    failed, well = await asyncio.gather(
        bulk.embed(["good"] * 8 + ["bad"] * 8 + ["good"] * 80), bulk.embed(["good"] * 40), return_exceptions=True
    )
    assert isinstance(failed, EmbeddingUnavailable)
    assert well == [[4.0]] * 40
    assert model.under_way == 0


@pytest.mark.asyncio
async def test_cancelled_call_gives_its_turn_back() -> None:
    model = Model()
    bulk = model.bulk()
    call = asyncio.create_task(bulk.embed(["a"] * 64))
    await model.busy.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    model.open.set()
    assert await bulk.embed(["abc"]) == [[3.0]]
