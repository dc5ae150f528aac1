# SPDX-License-Identifier: Apache-2.0
"""What asking another server needs everywhere: a pooled client, its key, what failures mean. Follows no redirect.

Its errors are of one kind: Failed, with a reason and in words without a question or an answer.
"""

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
REFUSED_KEY: Final = frozenset({401, 403})
CONNECT_SECONDS: Final = 3.0
IDLE_SECONDS: Final = 3.0
"""How long an idle connection is kept: less than servers keep theirs (uvicorn and llama.cpp 5 s), or a request
would meet one that is just being closed."""
MAX_BODY_BYTES: Final = 64 * 2**20
"""Of a whole answer: far above fifty passages or a page of vectors."""
_LARGE_BODY: Final = 2**20
"""From here on aiohttp wants a file, which it writes in pieces."""
_REST_SECONDS: Final = 0.1


@dataclass(eq=False)
class Failed(Exception):  # noqa: N818 - what happened
    """A server that was asked did not do it. `transient`: asking again, or another one, may help."""

    reason: str
    message: str
    transient: bool


def bearer(key_file: Path | None, *, who: str) -> dict[str, str]:
    """Return the headers that show a key; its file is read each time, so that a rotated key counts at once."""
    if key_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {key_file.read_text(encoding='ascii').strip()}"}
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(
            "KeyUnreadable", f"the key for {who} can't be read ({type(error).__name__})", False
        ) from error


@dataclass(frozen=True, kw_only=True)
class Asking:
    """A request: POST with a body, else GET. `seconds` is how long nothing may come."""

    url: str
    who: str
    headers: Mapping[str, str]
    seconds: float
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """An answer as a whole."""

    status: int
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether it is what was asked for."""
        return self.status == HTTPStatus.OK


@dataclass(frozen=True, kw_only=True)
class Stream:
    """An answer that comes in parts."""

    response: aiohttp.ClientResponse
    who: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes. Failed where it breaks off."""
        try:
            async for part in self.response.content.iter_any():
                yield part
        except aiohttp.ClientError as error:
            raise _unreachable(error, who=self.who) from error

    async def most(self, limit: int) -> bytes:
        """Return the body's first so many bytes, or a little more."""
        body = bytearray()
        async for part in self.parts():
            body += part
            if len(body) > limit:
                break
        return bytes(body)

    async def rest(self) -> None:
        """Read what ends the body, so that its connection serves again; one that does not end is closed."""
        try:
            await asyncio.wait_for(self.response.content.readany(), _REST_SECONDS)
        except (TimeoutError, aiohttp.ClientError):
            self.response.close()


@dataclass(frozen=True)
class Client:
    """Asks, over connections that are used again."""

    session: aiohttp.ClientSession

    @asynccontextmanager
    async def stream(self, asking: Asking) -> AsyncIterator[Stream]:
        """Open an answer; whoever leaves the block ends it at the server too. Failed where there is none."""
        body = asking.body
        data = io.BytesIO(body) if body is not None and len(body) >= _LARGE_BODY else body
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=asking.seconds)
        try:
            response = await self.session.request(
                "GET" if body is None else "POST",
                asking.url,
                data=data,
                headers=asking.headers,
                timeout=limits,
                allow_redirects=False,
            )
        except aiohttp.ClientError as error:
            raise _unreachable(error, who=asking.who) from error
        async with response:
            yield Stream(response=response, who=asking.who)

    async def fetch(self, asking: Asking) -> Fetched:
        """Return a whole answer. Failed where there is none."""
        async with self.stream(asking) as stream:
            content = await stream.most(MAX_BODY_BYTES)
            if len(content) > MAX_BODY_BYTES:
                raise Failed("NotUnderstood", f"{asking.who} answered more than {MAX_BODY_BYTES} bytes", False)
            return Fetched(status=stream.status, content=content)


@asynccontextmanager
async def opened(tls: ssl.SSLContext | bool = True) -> AsyncIterator[Client]:
    """Open a client. How many connections there are is the callers' to bound; no cookies, no proxies.

    `tls`: what servers are verified by; True: the system's authorities.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS, ssl=tls)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Client(session)


def _unreachable(error: aiohttp.ClientError, *, who: str) -> Failed:
    """Return what a broken connection means."""
    reason = "TimedOut" if isinstance(error, aiohttp.ServerTimeoutError) else "Unreachable"
    return Failed(reason, f"{who} did not answer ({type(error).__name__})", True)


def status_failure(status: int, *, who: str) -> Failed:
    """Return what a status other than 200 means."""
    if status in REFUSED_KEY:
        return Failed("KeyRefused", f"{who} refused the gateway's key (HTTP {status}); check its Secret", False)
    if status in TRANSIENT:
        return Failed("Unavailable", f"{who} answered HTTP {status}", True)
    return Failed("Refused", f"{who} answered HTTP {status}; check its address and name", False)


def merged(*headers: Mapping[str, str]) -> dict[str, str]:
    """Return several headers as one."""
    return {name: value for part in headers for name, value in part.items()}
