# SPDX-License-Identifier: Apache-2.0
"""The door of /mcp: the key first, then the protocol's SDK, which is loaded with the first caller.

Loading it takes about a third of this program's start, and a restart is a wait for everybody who asks: an index
whose tool nobody calls does not pay for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nimblet_retriever.keys import Key, KeyRing
from nimblet_retriever.keys import Scope as KeyScope
from nimblet_retriever.messages import ErrorAnswer, RetrieveAnswer
from nimblet_retriever.telemetry import OK, Telemetry

PATH: Final = "/mcp"
TOOL: Final = "search"
KEY: Final = "nimblet.key"
"""Where the key that was found stands in the ASGI scope of a request."""
REFUSAL: Final = ErrorAnswer(reason="KeyRefused", message=f"a key with the scope {KeyScope.SEARCH} is needed")

Ask = Callable[[Mapping[str, object], Key], Awaitable[RetrieveAnswer | ErrorAnswer]]
"""Answers the arguments of the tool as a key may see."""
Open = Callable[[str, Ask], AbstractAsyncContextManager[ASGIApp]]


class Tools:
    """The ASGI application of /mcp."""

    def __init__(self, index: str, ask: Ask, *, keys: KeyRing, telemetry: Telemetry) -> None:
        self._index = index
        self._ask = ask
        self._keys = keys
        self._telemetry = telemetry
        self._turn = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._protocol: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        with self._telemetry.request(scope["method"], PATH, headers) as outcome:
            key = self._keys.find(headers.get("Authorization"), KeyScope.SEARCH)
            if key is None:
                outcome.status, outcome.reason = HTTPStatus.UNAUTHORIZED, REFUSAL.reason
                await _refused()(scope, receive, send)
                return

            async def seen(message: Message) -> None:
                if message["type"] == "http.response.start":
                    outcome.status = message["status"]
                    outcome.reason = OK if outcome.status < HTTPStatus.BAD_REQUEST else "InvalidRequest"
                await send(message)

            protocol = await self._opened()
            await protocol({**scope, KEY: key}, receive, seen)

    async def close(self) -> None:
        """End the protocol's task, if it was begun."""
        await self._stack.aclose()

    async def _opened(self) -> ASGIApp:
        async with self._turn:
            if self._protocol is None:
                open_protocol = await asyncio.to_thread(_load)
                self._protocol = await self._stack.enter_async_context(open_protocol(self._index, self._ask))
            return self._protocol


def _load() -> Open:
    from nimblet_retriever.mcp_endpoint import endpoint  # noqa: PLC0415 - see above

    return endpoint


def _refused() -> Response:
    return Response(REFUSAL.model_dump_json(), HTTPStatus.UNAUTHORIZED, media_type="application/json")
