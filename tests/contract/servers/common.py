# SPDX-License-Identifier: Apache-2.0
"""What the contract servers share: how they are launched, their words, and a place on loopback. Only for tests.

They follow what vLLM and TGI publish of their API; they load no model and prove nothing of one.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tests.arguments import published
from tests.loopback import served

WORDS: Final = ("Hel", "lo", ".")
"""The tokens of every answer."""
PROMPT_TOKENS: Final = 5
KEY: Final = "nk-0123456789AbCdEf"


class LaunchError(Exception):
    """The server does not start: its argv is none that it knows."""


@dataclass(kw_only=True)
class Launched:
    """A server's container as its program reads it."""

    options: Mapping[str, str]
    environment: Mapping[str, str]
    positional: Sequence[str]


def launch(container: Mapping[str, Any], *, runtime: str, version: str, secrets: Mapping[str, str]) -> Launched:
    """Read argv and variables as the program does; LaunchError for what its version does not know."""
    flags = published(runtime, version)
    options: dict[str, str] = {}
    positional: list[str] = []
    words = list(container["args"])
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            positional.append(word)
        elif word not in flags:
            raise LaunchError(f"unrecognized arguments: {word}")
        else:
            options[word] = words.pop(0) if flags[word] else "true"
    environment = {
        item["name"]: item["value"] if "value" in item else secrets[item["valueFrom"]["secretKeyRef"]["key"]]
        for item in container.get("env", ())
    }
    return Launched(options=options, environment=environment, positional=positional)


@dataclass(kw_only=True)
class ContractServer:
    """What a test may ask of a server after the fact, and set before."""

    alive: bool = True
    """Its engine, or its shards, work."""
    overloaded: bool = False
    asked: list[str] = field(default_factory=list)
    """Paths of the questions that were let in."""

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers to."""
        raise NotImplementedError

    def is_open(self, request: web.Request) -> bool:
        """Tell whether a path needs no key."""
        raise NotImplementedError

    def is_let_in(self, request: web.Request) -> bool:
        """Tell whether a request has the key."""
        raise NotImplementedError

    def unauthorized(self) -> web.Response:
        """Return the answer to one that has not."""
        raise NotImplementedError


async def stream(request: web.Request, events: Sequence[Mapping[str, Any] | str]) -> web.StreamResponse:
    """Send server-sent events."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        text = event if isinstance(event, str) else json.dumps(event)
        await response.write(f"data: {text}\n\n".encode())
    await response.write_eof()
    return response


@asynccontextmanager
async def listening(server: ContractServer, *, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback; yield the base URL."""

    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        if not server.is_open(request) and not server.is_let_in(request):
            return server.unauthorized()
        server.asked.append(request.path)
        response = await handler(request)
        if not isinstance(response, web.StreamResponse):
            raise TypeError(f"expected a response, found {type(response).__name__}")
        return response

    app = web.Application(middlewares=[guard])
    app.add_routes(server.routes())
    async with served(app, port=port) as url:
        yield url
