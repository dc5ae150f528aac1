# SPDX-License-Identifier: Apache-2.0
"""Sources that give a little, often enough not to stall: an answer ends all the same. Virtual time."""

from collections.abc import Iterator
from itertools import repeat

import httpcore
import pytest

from nimblet_egress.client import Answer, Hop
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.stream import BulkStream
from nimblet_egress.target import parse_target

HOP = Hop(parse_target("https://slow.test/sitemap.xml"), 200, {}, authorized=False)


class Clock:
    """Time that passes by itself: so many seconds a look."""

    def __init__(self, step: float) -> None:
        self._now, self._step = 0.0, step

    def __call__(self) -> float:
        self._now += self._step
        return self._now


class Dripping(httpcore.NetworkStream):
    """A server that sends a head without an end, a byte at a time."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the interface
        return b"x"

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Take a request."""


def answer(chunks: Iterator[bytes]) -> Answer:
    return Answer((HOP,), httpcore.Response(200, content=chunks), 60.0)


def test_answer_that_drips_is_given_up() -> None:
    with pytest.raises(SourceError) as caught:
        answer(repeat(b"x", 100)).text(1000, now=Clock(59.0))
    assert caught.value.reason is Reason.DownloadStalled


@pytest.mark.timeout(30)
def test_answer_in_a_million_pieces_takes_no_longer_than_one_in_few() -> None:
    assert len(answer(repeat(b"x", 1_000_000)).text(1_000_000)) == 1_000_000


def test_head_that_drips_is_given_up() -> None:
    stream = BulkStream(Dripping(), now=Clock(59.0))
    stream.write(b"GET / HTTP/1.1\r\n\r\n")
    assert [stream.read(100, timeout=60.0) for _ in range(2)] == [b"x", b"x"]
    with pytest.raises(httpcore.ReadTimeout, match="the head of the answer"):
        stream.read(100, timeout=60.0)
