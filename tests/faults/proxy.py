# SPDX-License-Identifier: Apache-2.0
"""A reverse proxy between operator and API server that sees every request and does what `Faults` say.

Plain HTTP on loopback towards the operator, TLS with the operator's certificate towards the server. It runs in a
thread of its own; watches pass line by line, and nothing is held back but what a fault holds back. Only for tests.
"""

import asyncio
import hashlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, Self

import aiohttp
from aiohttp import web

LOOPBACK: Final = "127.0.0.1"
MUTATING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
START_SECONDS: Final = 60.0
MAX_BODY_BYTES: Final = 64 * 2**20
DROPPED_HEADERS: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "content-encoding", "accept-encoding"}
)


class Verb(Enum):
    """What the proxy does with a request."""

    FORWARD = auto()
    KILL_BEFORE = auto()
    """SIGKILL the operator; the server never sees the request."""
    KILL_AFTER = auto()
    """Let the server do it, SIGKILL the operator; the answer is lost with it."""
    LOSE_ACK = auto()
    """Let the server do it, then cut the connection instead of answering."""
    ANSWER = auto()
    """Answer in place of the server."""
    CUT = auto()
    """Reset the connection; the server never sees the request."""
    SLOW = auto()
    """Forward after `seconds`."""
    STALL = auto()
    """Accept a watch and send nothing for `seconds`, then end it."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """A verb, and for ANSWER what is answered."""

    verb: Verb = Verb.FORWARD
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 3600.0


FORWARD: Final = Action()


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A request as it came. `write` numbers the mutating ones from 1 over all of the operator's lives."""

    method: str
    path: str
    query: str
    body: bytes
    write: int | None
    is_watch: bool
    is_list: bool

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the proxy's log; `status` is 0 where the server was not asked or did not answer."""

    method: str
    path: str
    write: int | None
    body_hash: str
    text: str
    """The body of a write of anything but a Secret."""
    status: int

    def __str__(self) -> str:
        return f"{self.method} {self.path} -> {self.status}"


class Faults:
    """Does nothing to anything; the kinds of faults override. Called in the proxy's thread, one call at a time."""

    def request(self, _: Incoming, /) -> Action:
        """Return what to do with a request."""
        return FORWARD

    async def lines(self, _: Incoming, source: AsyncIterator[bytes], /) -> AsyncIterator[bytes]:
        """Yield the lines of a watch that reach the operator; ending ends the watch."""
        async for line in source:
            yield line


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The API server and the operator's rights at it."""

    url: str
    tls: ssl.SSLContext


class Proxy:
    """One operator's way to the API server. A context manager; `kill` ends the operator's process at once."""

    def __init__(self, upstream: Upstream, *, faults: Faults, kill: Callable[[], None]) -> None:
        self.faults = faults
        self.entries: list[Entry] = []
        self.creates: Counter[str] = Counter()
        self.deletes: Counter[str] = Counter()
        self.lists: dict[str, bytes] = {}
        """The newest answer to each list that was asked for in one page, by path and query."""
        self.port = 0
        self._forwarding: set[asyncio.Task[tuple[int, dict[str, str], bytes] | None]] = set()
        self._upstream = upstream
        self._kill = kill
        self._writes = 0
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._serving.wait(START_SECONDS):
            raise TimeoutError(f"expected the proxy to serve within {START_SECONDS:g} s")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Where the operator is to connect."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def writes(self) -> int:
        """Return the number of mutating requests so far."""
        return self._writes

    def fetch(self, targets: Sequence[str]) -> dict[str, bytes]:
        """Ask the server for these paths now, with the operator's rights; called from another thread."""
        return asyncio.run_coroutine_threadsafe(self._fetch(targets), self._loop).result(START_SECONDS)

    async def _fetch(self, targets: Sequence[str]) -> dict[str, bytes]:
        found = {}
        for target in targets:
            async with self._session.get(f"{self._upstream.url}{target}") as answer:
                found[target] = await answer.read()
        return found

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        connector = aiohttp.TCPConnector(ssl=self._upstream.tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            self._session = session
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, LOOPBACK, 0).start()
            self.port = int(runner.addresses[0][1])
            self._serving.set()
            await self._ended.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        incoming = self._note(request, await request.read())
        action = self.faults.request(incoming)
        match action.verb:
            case Verb.KILL_BEFORE:
                self._log(incoming, 0)
                self._kill()
                return _cut(request)
            case Verb.ANSWER:
                self._log(incoming, action.status)
                return web.Response(status=action.status, headers=action.headers, body=action.body)
            case Verb.CUT:
                self._log(incoming, 0)
                return _cut(request)
            case Verb.STALL:
                return await self._stall(request, action.seconds)
            case Verb.SLOW:
                await asyncio.sleep(action.seconds)
                action = FORWARD
        if incoming.is_watch:
            return await self._watch(request, incoming)
        return await self._pass(request, incoming, action)

    def _note(self, request: web.Request, body: bytes) -> Incoming:
        mutating = request.method in MUTATING and "dryRun" not in request.query and "/leases" not in request.path
        if mutating:
            self._writes += 1
        watches = request.query.get("watch") in ("true", "1")
        return Incoming(
            method=request.method,
            path=request.path,
            query=request.raw_path.partition("?")[2],
            body=body,
            write=self._writes if mutating else None,
            is_watch=watches,
            is_list=request.method == "GET" and not watches and "limit" in request.query,
        )

    async def _pass(self, request: web.Request, incoming: Incoming, action: Action) -> web.StreamResponse:
        # What has begun is done and counted, as by a real server, even if the operator goes meanwhile.
        forwarding = asyncio.create_task(self._forward(request, incoming))
        self._forwarding.add(forwarding)
        forwarding.add_done_callback(self._forwarding.discard)
        answered = await asyncio.shield(forwarding)
        if answered is None:
            return _cut(request)
        status, headers, content = answered
        if incoming.is_list and status == HTTPStatus.OK and "continue=" not in incoming.query:
            self.lists[incoming.target] = content
        if action.verb is Verb.KILL_AFTER:
            self._kill()
        if action.verb is not Verb.FORWARD:
            return _cut(request)
        return web.Response(status=status, headers=headers, body=content)

    async def _forward(self, request: web.Request, incoming: Incoming) -> tuple[int, dict[str, str], bytes] | None:
        """Return the server's answer, None where there is none; log and count it."""
        try:
            async with self._ask(request, incoming) as answer:
                status, content = answer.status, await answer.read()
                headers = _kept(answer.headers)
        except aiohttp.ClientError:
            self._log(incoming, 0)
            return None
        self._log(incoming, status)
        self._count(incoming, status, content)
        return status, headers, content

    async def _watch(self, request: web.Request, incoming: Incoming) -> web.StreamResponse:
        try:
            async with self._ask(request, incoming) as answer:
                self._log(incoming, answer.status)
                response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
                await response.prepare(request)
                try:
                    async for line in self.faults.lines(incoming, _lines_of(answer)):
                        await response.write(line + b"\n")
                finally:
                    _abort(answer)
            await response.write_eof()
        except (aiohttp.ClientError, ConnectionError):
            return _cut(request)
        return response

    async def _stall(self, request: web.Request, seconds: float) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await asyncio.sleep(seconds)
        await response.write_eof()
        return response

    def _ask(self, request: web.Request, incoming: Incoming) -> "aiohttp.client._RequestContextManager":
        return self._session.request(
            incoming.method,
            f"{self._upstream.url}{incoming.target}",
            headers=_kept(request.headers),
            data=incoming.body or None,
            allow_redirects=False,
        )

    def _log(self, incoming: Incoming, status: int) -> None:
        secret = "/secrets" in incoming.path
        self.entries.append(
            Entry(
                method=incoming.method,
                path=incoming.path,
                write=incoming.write,
                body_hash=hashlib.sha256(incoming.body).hexdigest()[:16],
                text="" if secret or incoming.write is None else incoming.body.decode(),
                status=status,
            )
        )

    def _count(self, incoming: Incoming, status: int, content: bytes) -> None:
        """Count what the server says was created or deleted, by kind and name."""
        if incoming.write is None:
            return
        if status == HTTPStatus.CREATED:
            made = json.loads(content)
            self.creates[f"{made['kind']}/{made['metadata']['name']}"] += 1
        elif incoming.method == "DELETE" and status < HTTPStatus.BAD_REQUEST:
            plural, name = incoming.path.split("/")[-2:]
            self.deletes[f"{plural}/{name}"] += 1


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in DROPPED_HEADERS}


def _cut(request: web.Request) -> web.StreamResponse:
    """Reset the connection; the answer that is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=HTTPStatus.BAD_GATEWAY)


def _abort(answer: aiohttp.ClientResponse) -> None:
    """Let go of a watch that has not ended: TLS would be said goodbye to, which may outlast the proxy's loop."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


async def _lines_of(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
