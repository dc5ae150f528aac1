# SPDX-License-Identifier: Apache-2.0
"""One HTTP exchange: its body within bounds, its answer or event stream, and the client that may go at any time.

Written on bare ASGI: who is gone is noticed while a request still waits in the queue, and all done for it ends.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError
from starlette.types import Message, Receive, Scope, Send

from nimblet_gateway.errors import ApiError, invalid
from nimblet_gateway.limits import Take

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream; charset=utf-8"
"""The charset goes without saying, yet some clients (Python's requests) take text without one for Latin-1."""
QUIET_SECONDS: Final = 10.0
"""After so long without an event, twice that at most, a comment is sent: proxies close streams that are silent for
half a minute."""

M = TypeVar("M", bound=BaseModel)


class Gone(Exception):  # noqa: N818 - what happened
    """The client hung up; nobody reads an answer."""


@dataclass(kw_only=True)
class Exchange:
    """A request and its answer."""

    scope: Scope
    receive: Receive
    send: Send
    headers: Mapping[str, str] = field(init=False)
    status: HTTPStatus | None = field(init=False, default=None)
    """What was answered; None while nothing was sent."""
    _is_whole: bool = field(init=False, default=False)
    """Whether all of it was answered: from then on servers say that the client is gone, whether it is or not."""
    _sent: int = field(init=False, default=0)
    _turn: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.scope["headers"]}

    async def body(self, model: type[M], *, limit: int, take: Take) -> M:
        """Return the parsed body; of one that is too long no more is read than allowed. `take`: room for it."""
        content = bytearray()
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            take(len(part))
            content += part
            more = message.get("more_body", False)
            if len(content) > limit:
                raise ApiError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    "invalid_request_error",
                    "request_too_large",
                    f"more than {limit} bytes; send less at once",
                )
        try:
            return model.model_validate_json(bytes(content))
        except ValidationError as error:
            # where and why, never the value: it may be a question
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise invalid(
                f"{where or 'body'}: {_why(first['type'], first['msg'])}", param=where or None
            ) from error

    async def until_gone(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work; cancel it as soon as the client is gone. The body must have been read."""
        task = asyncio.ensure_future(work)
        watch = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not self._is_whole:
                raise Gone
            await task
        finally:
            for item in (task, watch):
                item.cancel()
            await asyncio.gather(task, watch, return_exceptions=True)

    async def answer(
        self, status: HTTPStatus, body: bytes, *, kind: str = JSON, retry_after: int | None = None
    ) -> None:
        """Send a whole answer."""
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        if retry_after is not None:
            headers.append((b"retry-after", str(retry_after).encode()))
        await self._start(status, headers)
        await self._finish(body)

    @asynccontextmanager
    async def kept_alive(self, *, quiet_seconds: float = QUIET_SECONDS) -> AsyncIterator[None]:
        """Send comments while a stream is silent. The first one begins it: from then on errors are events."""
        keeper = asyncio.ensure_future(self._keep_alive(quiet_seconds))
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def event(self, data: Mapping[str, JsonValue]) -> None:
        """Send an event; the first one begins the stream."""
        await self._data(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())

    async def end(self) -> None:
        """End the stream."""
        await self._data(b"[DONE]")
        await self._finish(b"")

    async def fail(self, error: ApiError) -> None:
        """Tell an error: as an answer, or, once a stream has begun, as its last event."""
        body = error.answer().model_dump_json().encode()
        if self.status is None:
            await self.answer(error.status, body, retry_after=error.retry_after)
            return
        await self._data(body)
        await self._finish(b"")

    async def _keep_alive(self, quiet_seconds: float) -> None:
        while True:
            before = self._sent
            await asyncio.sleep(quiet_seconds)
            if self._sent == before:
                await self._write(b": waiting")

    async def _data(self, data: bytes) -> None:
        await self._write(b"data: " + data)

    async def _write(self, line: bytes) -> None:
        async with self._turn:  # a comment may come while an event is being sent
            self._sent += 1
            if self.status is None:
                headers = [
                    (b"content-type", EVENTS.encode()),
                    (b"cache-control", b"no-cache"),
                    (b"x-accel-buffering", b"no"),
                ]
                await self._start(HTTPStatus.OK, headers)
            await self.send({"type": "http.response.body", "body": line + b"\n\n", "more_body": True})

    async def _start(self, status: HTTPStatus, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        await self.send({"type": "http.response.start", "status": int(status), "headers": headers})

    async def _finish(self, body: bytes) -> None:
        await self.send({"type": "http.response.body", "body": body})
        self._is_whole = True

    async def _gone(self) -> None:
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await self.receive()


def _why(kind: str, message: str) -> str:
    """Return pydantic's words; a text that is no JSON may be quoted in them, so that its kind stands for it."""
    return message if kind != "json_invalid" else "not valid JSON"
