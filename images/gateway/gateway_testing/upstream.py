# SPDX-License-Identifier: Apache-2.0
"""A chat model's server for the tests: OpenAI's protocol as llama.cpp speaks it, answer and faults as wished.

`python -m gateway_testing.upstream --port N` serves one as a process of its own.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from nimblet_gateway.selftest import QUESTION

Reply = Callable[[dict[str, Any]], Sequence[str]]
"""Makes the pieces of an answer out of a request."""
BREAK = "\0break"
ERROR = "\0error"
STALL = "\0stall"
"""Pieces that are no text: the connection is cut; an error is sent; nothing more comes."""


def words(text: str) -> list[str]:
    """Return a text in pieces, as a model streams it."""
    return [piece if number == 0 else f" {piece}" for number, piece in enumerate(text.split(" "))]


@dataclass(kw_only=True)
class ModelServer:
    """Its state, for tests to change and to look at."""

    reply: Reply = field(default=lambda _: words("All is well."))
    deltas: list[dict[str, Any]] | None = None
    """Sent in place of the pieces, as they are."""
    key: str | None = None
    fault: Response | None = None
    refuses: tuple[str, Response] | None = None
    """Answered to what holds a word."""
    scores: list[float] = field(default_factory=list)
    scored: Callable[[str], list[float]] | None = None
    """Scores each text in place of `scores`."""
    pause: float = 0.0
    """Seconds between pieces."""
    tokenizes: bool = True
    parameters: int | None = None
    """Weights, told as llama.cpp tells them."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    running: int = 0
    ended: int = 0
    """Streams that are over, however. The self-test's counts in neither."""

    def renew(self) -> None:
        """Be as new; streams of before, whose clients have just gone, are counted to their end."""
        fresh = vars(ModelServer())
        vars(self).update({name: value for name, value in fresh.items() if name not in {"running", "ended"}})

    def answers(self, text: str) -> None:
        """Answer everything with a text from now on."""
        self.reply = lambda _: words(text)

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "Invalid API Key", "type": "authentication_error"}}, 401)
        if self.fault is not None:
            return self.fault
        body = await request.json()
        if self.refuses is not None and self.refuses[0] in json.dumps(body["messages"]):
            return self.refuses[1]
        tested = body["messages"][-1]["content"] == QUESTION  # by a gateway's self-test, which comes when it will
        if not tested:
            self.requests.append(body)
            self.headers.append(dict(request.headers))
        if body.get("stream"):
            stream = self._stream([{"content": "Yes."}]) if tested else self._counted(body)
            return StreamingResponse(stream, media_type="text/event-stream")
        message = {"role": "assistant", "content": "".join(self.reply(body))}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse(
            {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        )

    async def _counted(self, body: dict[str, Any]) -> AsyncIterator[str]:
        self.running += 1
        try:
            pieces = self.deltas or [{"content": piece} for piece in self.reply(body)]
            async for event in self._stream(pieces):
                yield event
        finally:
            self.running -= 1
            self.ended += 1

    async def _stream(self, pieces: Sequence[dict[str, Any]]) -> AsyncIterator[str]:
        yield _event({"role": "assistant", "content": None})
        for delta in pieces:
            await asyncio.sleep(self.pause)
            if delta.get("content") == STALL:
                await asyncio.Event().wait()
            if delta.get("content") == BREAK:
                return
            if delta.get("content") == ERROR:
                yield f"data: {json.dumps({'error': {'message': 'slot lost', 'type': 'server_error'}})}\n\n"
                return
            yield _event(delta)
        tools = any("tool_calls" in delta for delta in pieces)
        yield _event({}, finish_reason="tool_calls" if tools else "stop")
        usage = {"prompt_tokens": 7, "completion_tokens": len(pieces), "total_tokens": 7 + len(pieces)}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return Response(status_code=401)
        if self.fault is not None:
            return self.fault
        meta = {} if self.parameters is None else {"meta": {"n_params": self.parameters}}
        return JSONResponse({"object": "list", "data": [{"id": "m", "object": "model", **meta}]})

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings: a classifier's scores."""
        body = await request.json()
        self.requests.append(body)
        score = self.scored or (lambda _: self.scores)
        rows = [{"index": index, "embedding": score(text)} for index, text in enumerate(body["input"])]
        return self.fault or JSONResponse({"data": rows})

    async def template(self, request: Request) -> Response:
        """POST /apply-template."""
        if not self.tokenizes:
            return Response(status_code=404)
        messages = (await request.json())["messages"]
        return JSONResponse({"prompt": " ".join(message["content"] for message in messages)})

    async def tokenize(self, request: Request) -> Response:
        """POST /tokenize: a word is a token."""
        return JSONResponse({"tokens": list(range(len((await request.json())["content"].split())))})

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.models, methods=["GET"]),
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
                Route("/apply-template", self.template, methods=["POST"]),
                Route("/tokenize", self.tokenize, methods=["POST"]),
            ]
        )


def _event(delta: dict[str, Any], *, finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


def main(argv: Sequence[str]) -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m gateway_testing.upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="on loopback")
    parser.add_argument("--text", default="All is well.", help="what it answers")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between words")
    options = parser.parse_args(argv)
    model = ModelServer(reply=lambda _: words(options.text), pause=options.pause)
    uvicorn.run(model.app(), host="127.0.0.1", port=options.port, log_config=None, access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
