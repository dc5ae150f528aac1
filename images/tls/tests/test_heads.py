# SPDX-License-Identifier: Apache-2.0
"""Heads of requests without an end, against a real server: they end, and those who ask meanwhile are answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from nimblet_tls.heads import MAX_HEAD_BYTES
from nimblet_tls.serving import Place, server_at

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = 64 * 2**20
PART = b"a" * 2**16


@asynccontextmanager
async def counting() -> AsyncIterator[int]:
    """Serve the length of what is sent; yield the port."""

    async def length(request: Request) -> Response:
        if request.url.path == "/unread":
            return PlainTextResponse("enough")
        return PlainTextResponse(f"{len(await request.body())} bytes")

    app = Starlette(routes=[Route("/{rest:path}", length, methods=["GET", "POST"])])
    server = server_at(Place(host="127.0.0.1", port=0), app)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def sent(port: int, begun: bytes, part: bytes = b"", *, most: int = 0) -> tuple[int, bytes]:
    """Send a beginning, then a part again and again; return the bytes that went out and the first line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    count = 0
    try:
        while count < most:
            writer.write(part)
            await writer.drain()
            count += len(part)
        answer = await reader.readline() if count < most or not most else b""
    except ConnectionError:
        answer = b""
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return count, answer


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("begun", "part"),
    [
        (b"GET /", PART),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", PART),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-More: 1\r\n" * 6000),
        (CHUNKED + b"1;", PART),
        (CHUNKED + b"0\r\n", b"X-More: 1\r\n" * 6000),
    ],
    ids=["line", "header", "headers", "chunk", "trailers"],
)
async def test_a_head_without_an_end_is_cut_off(begun: bytes, part: bytes) -> None:
    async with counting() as port:
        # When somebody without a key sends what never ends, then no more is taken than sockets hold
        count, answer = await sent(port, begun, part, most=ENDLESS)
        assert count < ENDLESS
        assert answer in (b"", b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        # And others are answered
        assert (await sent(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))[1] == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.asyncio
async def test_a_head_that_is_too_long_is_told_so() -> None:
    async with counting() as port:
        _, answer = await sent(port, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (MAX_HEAD_BYTES + 1))
    assert answer == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"


@pytest.mark.asyncio
async def test_long_bodies_and_long_enough_heads_pass() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (MAX_HEAD_BYTES - 1000)
    chunked = b"\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + PART + b"\r\n"
    counted = b"\r\nContent-Length: %d\r\n\r\n" % (20 * len(PART))
    async with counting() as port:
        for body in (chunked + b"10000\r\n" + PART + b"\r\n0\r\n\r\n", counted + 20 * PART):
            assert (await sent(port, head + body))[1] == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.asyncio
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("begun", "drop", "answers"),
    [
        (b"", b"", 0),
        (b"GET /", b"X", 0),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X: 1\r\n", 0),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /", b"X", 1),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET /", b"X", 2),
        (b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b"X", 1),
    ],
    ids=["silence", "line", "headers", "next", "pipelined", "body"],
)
async def test_a_connection_that_sends_slowly_is_closed(
    monkeypatch: pytest.MonkeyPatch, begun: bytes, drop: bytes, answers: int
) -> None:
    monkeypatch.setattr("nimblet_tls.heads.HEAD_SECONDS", 0.5)
    async with counting() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # When somebody without a key sends a little, again and again
        writer.write(begun)
        told = asyncio.create_task(reader.read())
        try:
            while not (await asyncio.wait({told}, timeout=0.05))[0]:
                writer.write(drop)
                await writer.drain()
        except ConnectionError:
            pass
        # Then the connection ends by itself, after what was asked whole was answered
        with suppress(ConnectionError):
            assert (await told).count(b"HTTP/1.1 200 OK\r\n") == answers
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.asyncio
async def test_an_answer_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a request whose body comes after the time that heads have
    monkeypatch.setattr("nimblet_tls.heads.HEAD_SECONDS", 0.05)
    async with counting() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        told = asyncio.create_task(reader.readline())
        assert not (await asyncio.wait({told}, timeout=0.3))[0]
        # When it is whole, then it is answered
        writer.write(b"x")
        assert await told == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
