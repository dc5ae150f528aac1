# SPDX-License-Identifier: Apache-2.0
"""Sends requests when they are due and follows their streams; the only I/O of a load."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from nimblet.cli.ask import Endpoint
from nimblet.cli.load.arrivals import Arrival
from nimblet.cli.load.figures import Sample

OK: Final = 200
DATA: Final = b"data:"
END: Final = b"[DONE]"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where requests go, and how long one may take."""

    endpoint: Endpoint
    model: str
    max_tokens: int
    timeout_seconds: float
    in_flight: int
    """No more than these at once: what is due beyond is an error, since the client would be the bottleneck."""
    clock: Callable[[], float] = field(default=time.perf_counter)


class _Delta(BaseModel):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(BaseModel):
    delta: _Delta = _Delta()


class _Usage(BaseModel):
    completion_tokens: Annotated[int, Field(ge=0)] = 0


class _Chunk(BaseModel):
    """The part of a streamed chunk that counts."""

    choices: list[_Choice] = Field(default_factory=list)
    usage: _Usage | None = None

    @property
    def has_text(self) -> bool:
        """Whether a token came with it."""
        return any(choice.delta.content or choice.delta.reasoning_content for choice in self.choices)


class _StreamError(Exception):
    """A stream that is none; the message is the kind of failure, without anything that was said."""


async def send(target: Target, due: Sequence[Arrival], *, told: Callable[[int], None]) -> list[Sample]:
    """Send each request when it is due and return what became of it; `told` hears how many have ended."""
    connector = aiohttp.TCPConnector(limit=target.in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:
        begun, flying, ended = target.clock(), 0, 0

        async def one(arrival: Arrival) -> Sample:
            nonlocal flying, ended
            await asyncio.sleep(max(0.0, begun + arrival.due - target.clock()))
            late = target.clock() - begun - arrival.due
            if flying >= target.in_flight:
                return Sample(due=arrival.due, late=late, error="not sent: too many in flight")
            flying += 1
            try:
                return await _followed(session, target, arrival, begun=begun, late=late)
            finally:
                flying -= 1
                ended += 1
                told(ended)

        return list(await asyncio.gather(*(one(arrival) for arrival in due)))


async def _followed(
    session: aiohttp.ClientSession, target: Target, arrival: Arrival, *, begun: float, late: float
) -> Sample:
    """Return the sample of one request; times count from when it was due."""
    times: list[float] = []
    try:
        tokens = await _streamed(session, target, arrival, came=lambda: times.append(target.clock() - begun))
    except TimeoutError:
        error = f"no end within {target.timeout_seconds:g} s"
    except aiohttp.ClientError as failure:
        error = type(failure).__name__
    except _StreamError as failure:
        error = str(failure)
    else:
        after = tuple(time - arrival.due for time in times)
        return Sample(due=arrival.due, late=late, texts=after, tokens=tokens or len(times))
    return Sample(due=arrival.due, late=late, error=error)


async def _streamed(
    session: aiohttp.ClientSession, target: Target, arrival: Arrival, *, came: Callable[[], None]
) -> int:
    """Follow one stream to its end and return the tokens that the server counted, 0 where it told none."""
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": arrival.prompt}],
        "max_tokens": target.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    endpoint, tokens, ended, texts = target.endpoint, 0, False, 0
    tls: ssl.SSLContext | bool = endpoint.tls if endpoint.tls is not None else True
    async with session.post(
        f"{endpoint.base_url}/v1/chat/completions",
        json=body,
        headers=endpoint.headers,
        ssl=tls,
        server_hostname=endpoint.server_name,
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=target.timeout_seconds),
    ) as response:
        if response.status != OK:
            raise _StreamError(f"HTTP {response.status}")
        async for line in response.content:
            if not line.startswith(DATA):
                continue
            data = line.removeprefix(DATA).strip()
            if data == END:
                ended = True
                break
            chunk = _parsed(data)
            if chunk.has_text:
                texts += 1
                came()
            tokens = chunk.usage.completion_tokens if chunk.usage is not None else tokens
    if not ended:
        raise _StreamError("a stream without its end")
    if not texts:
        raise _StreamError("an answer without text")
    return tokens


def _parsed(data: bytes) -> _Chunk:
    try:
        found = json.loads(data)
        if isinstance(found, dict) and "error" in found:
            raise _StreamError("an error in the stream")
        return _Chunk.model_validate(found)
    except (ValueError, ValidationError) as error:
        raise _StreamError("a chunk that is none of the API's") from error
