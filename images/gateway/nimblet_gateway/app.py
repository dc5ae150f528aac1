# SPDX-License-Identifier: Apache-2.0
"""The gateway's HTTP interface: keys, limits, errors and time around `Answering`. Logs no question and no answer.

Clients' keys ask; the operator's key alone sees /v1/status. Probes and metrics need none.
"""

import asyncio
import json
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from hmac import compare_digest
from http import HTTPStatus
from typing import Any, Final, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from nimblet_gateway.answering import Answering, Ask
from nimblet_gateway.answers import Shape
from nimblet_gateway.chat import ChatRequest, check_allowed
from nimblet_gateway.config import GatewayConfig
from nimblet_gateway.errors import ApiError, no_model, out_of_time, too_slow, unknown
from nimblet_gateway.events import Event, Record
from nimblet_gateway.exchange import Exchange, Gone
from nimblet_gateway.keys import BEARER, Caller, KeyRing, digest_of
from nimblet_gateway.limits import Rates, Room, Turnstile
from nimblet_gateway.search import Indexes, Search
from nimblet_gateway.selftest import Examiner
from nimblet_gateway.telemetry import Metrics, Trace, Tracing

log = logging.getLogger(__name__)
CHAT: Final = "/v1/chat/completions"
RETRIEVE: Final = "/v1/retrieve"
MODELS: Final = "/v1/models"
STATUS: Final = "/v1/status"
BODY_SECONDS: Final = 30.0
"""From a request's head to its end."""

M = TypeVar("M", bound=BaseModel)


class RetrieveRequest(BaseModel):
    """POST /v1/retrieve: as a retriever takes it, over all indexes of the assistant."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    query: str = Field(min_length=1, max_length=8000)
    top_k: int | None = Field(default=None, ge=1, le=50)
    mode: str | None = None
    sources: tuple[str, ...] | None = None
    documents: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None

    def filters(self) -> dict[str, JsonValue]:
        """Return what goes on to the retrievers as it is."""
        return self.model_dump(mode="json", include={"mode", "sources", "documents", "labels"}, exclude_none=True)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that may be made: by whom, and where in a trace."""

    exchange: Exchange
    caller: Caller
    trace: Trace


Handler = Callable[[Call], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Api:
    """The handlers and what they need. `wall` and `mint` give the time in seconds and an answer's id."""

    config: GatewayConfig
    answering: Answering
    indexes: Indexes
    examiner: Examiner
    keys: KeyRing
    rates: Rates
    turnstile: Turnstile
    room: Room
    metrics: Metrics
    tracing: Tracing
    clock: Callable[[], float]
    wall: Callable[[], float]
    mint: Callable[[], str]

    async def chat(self, call: Call) -> None:
        """Answer, as a stream or in one."""
        request = await self._body(call.exchange, ChatRequest)
        if request.model != self.config.assistant:
            raise no_model(self.config.assistant)
        check_allowed(request, self.config.grounding)
        self.rates.admit(call.caller)
        await call.exchange.until_gone(self._within(self._chat(call, request)))

    async def retrieve(self, call: Call) -> None:
        """Find passages in all indexes."""
        asked = await self._body(call.exchange, RetrieveRequest)
        self.rates.admit(call.caller)
        await call.exchange.until_gone(self._within(self._retrieve(call, asked)))

    async def models(self, call: Call) -> None:
        """Name the assistant as a model."""
        await call.exchange.answer(HTTPStatus.OK, _json({"object": "list", "data": [self._model]}))

    async def model(self, call: Call) -> None:
        """Name it by itself."""
        if call.exchange.scope["path_params"]["name"] != self.config.assistant:
            raise no_model(self.config.assistant)
        await call.exchange.answer(HTTPStatus.OK, _json(self._model))

    @property
    def _model(self) -> JsonValue:
        return {"id": self.config.assistant, "object": "model", "created": 0, "owned_by": "nimblet"}

    async def _body(self, exchange: Exchange, model: type[M]) -> M:
        """Return a request's body, which must come whole within its time."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                with self.room.reading() as take:
                    return await exchange.body(model, limit=self.config.limits.body_bytes, take=take)
        except TimeoutError as error:
            raise too_slow(BODY_SECONDS) from error

    async def _chat(self, call: Call, request: ChatRequest) -> None:
        record, begun = Record(), self.clock()
        shape = Shape(
            id=self.mint(),
            created=int(self.wall()),
            model=self.config.assistant,
            grounding=self.config.grounding,
            include_usage=request.stream_options is not None and request.stream_options.include_usage,
        )
        ask = Ask(request=request, caller=call.caller, trace=call.trace)
        alive = call.exchange.kept_alive() if request.stream else nullcontext()
        try:
            async with alive, self._turn(call.trace), aclosing(self.answering.answer(ask, record)) as events:
                if request.stream:
                    await self._stream(call.exchange, shape, events, record, begun)
                else:
                    answer = shape.whole([event async for event in events], record)
                    self.metrics.first_text.observe(self.clock() - begun)
                    await call.exchange.answer(HTTPStatus.OK, _json(answer))
        finally:  # what nobody waited for was computed too
            self.rates.charge(call.caller, record.prompt_tokens + record.completion_tokens)
            self.metrics.tokens.labels(call.caller.id, "prompt").inc(record.prompt_tokens)
            self.metrics.tokens.labels(call.caller.id, "completion").inc(record.completion_tokens)

    async def _stream(
        self, exchange: Exchange, shape: Shape, events: AsyncIterator[Event], record: Record, begun: float
    ) -> None:
        """Send events as they come. Nothing is sent before the first one: until then errors have a status."""
        opened: set[int] = set()
        async for event in events:
            if not opened:
                self.metrics.first_text.observe(self.clock() - begun)
            if event.choice not in opened:
                opened.add(event.choice)
                await exchange.event(shape.opening(event.choice))
            await exchange.event(shape.event(event, record))
        if shape.include_usage:
            await exchange.event(shape.usage(record))
        await exchange.end()

    async def _retrieve(self, call: Call, asked: RetrieveRequest) -> None:
        search = Search(
            questions=(asked.query,),
            top_k=asked.top_k or self.config.retrieval.top_k,
            access=call.caller.access,
            filters=asked.filters(),
        )
        results = await self.indexes.find(search, call.trace)
        answer: JsonValue = {
            "indexes": [item.model_dump(mode="json", exclude_none=True) for item in results.indexes],
            "passages": [item.model_dump(mode="json", by_alias=True) for item in results.passages[: search.top_k]],
        }
        await call.exchange.answer(HTTPStatus.OK, _json(answer))

    @asynccontextmanager
    async def _turn(self, trace: Trace) -> AsyncIterator[None]:
        """Hold one of the places at the model."""
        async with AsyncExitStack() as stack:
            with trace.span("queue"):
                await stack.enter_async_context(self.turnstile.turn())
            yield

    async def _within(self, work: Coroutine[Any, Any, None]) -> None:
        seconds = self.config.limits.request_seconds
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError as error:
            raise out_of_time(seconds) from error


@dataclass(frozen=True, kw_only=True)
class Door:
    """An address: lets known keys in and turns every end of a request into an answer and a count."""

    api: Api
    path: str
    handler: Handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        exchange, begun = Exchange(scope=scope, receive=receive, send=send), self.api.clock()
        outcome = await self._outcome(exchange)
        self.api.metrics.requests.labels(self.path, outcome).inc()
        self.api.metrics.seconds.labels(self.path).observe(self.api.clock() - begun)

    async def _outcome(self, exchange: Exchange) -> str:
        try:
            with self.api.tracing.begin(exchange.headers).span(self.path, server=True) as trace:
                caller = self.api.keys.find(exchange.headers.get("authorization"))
                if caller is None:
                    raise _unauthorized()  # noqa: TRY301 - errors are told in one place
                await self.handler(Call(exchange=exchange, caller=caller, trace=trace))
        except Gone:
            return "gone"
        except ApiError as error:
            await exchange.fail(error)
            return error.code
        except Exception as error:  # noqa: BLE001 - the border: whatever it is, the client gets an answer
            # where it happened, never the error's own words: they may quote a question
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("a request to %s ended in a %s:\n%s", self.path, type(error).__name__, where)  # noqa: TRY400
            await exchange.fail(_internal())
            return "internal_error"
        return "ok"


def application(api: Api) -> Starlette:
    """Return the ASGI application."""

    async def status(request: Request) -> Response:
        """Tell the operator what the assistant can do."""
        key = api.config.operator_key
        shown = request.headers.get("authorization", "")
        digest = digest_of(shown[len(BEARER) :].strip()) if shown.lower().startswith(BEARER) else ""
        if key is None or not compare_digest(digest, key.sha256):
            error = _unauthorized()
            return Response(
                error.answer().model_dump_json(), status_code=error.status, media_type="application/json"
            )
        return Response(api.examiner.status().model_dump_json(by_alias=True), media_type="application/json")

    async def metrics(_: Request) -> Response:
        """Show counts."""
        return Response(generate_latest(api.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def alive(_: Request) -> Response:
        return Response("alive\n", media_type="text/plain")

    async def ready(_: Request) -> Response:
        if api.keys.look():
            return Response("ready\n", media_type="text/plain")
        return Response("no key can be read from the folder of keys\n", status_code=503, media_type="text/plain")

    return Starlette(
        routes=[
            Route(CHAT, Door(api=api, path=CHAT, handler=api.chat), methods=["POST"]),
            Route(RETRIEVE, Door(api=api, path=RETRIEVE, handler=api.retrieve), methods=["POST"]),
            Route(MODELS, Door(api=api, path=MODELS, handler=api.models), methods=["GET"]),
            Route(f"{MODELS}/{{name:path}}", Door(api=api, path=MODELS, handler=api.model), methods=["GET"]),
            Route(STATUS, status, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            Route("/livez", alive, methods=["GET"]),
            Route("/readyz", ready, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _unserved},
    )


async def _unserved(_: Request, error: Exception) -> Response:
    """Answer what no route takes as clients of OpenAI's protocol expect it: as JSON."""
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    headers = error.headers if isinstance(error, HTTPException) else None
    body = unknown(status).answer().model_dump_json()
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def _json(value: JsonValue) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _unauthorized() -> ApiError:
    return ApiError(
        HTTPStatus.UNAUTHORIZED,
        "invalid_request_error",
        "invalid_api_key",
        "the key is missing, unknown or expired; send a key of this assistant as Authorization: Bearer",
    )


def _internal() -> ApiError:
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "server_error",
        "internal_error",
        "a defect of the gateway; its log names it",
    )
