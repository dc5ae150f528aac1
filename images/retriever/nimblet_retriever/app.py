# SPDX-License-Identifier: Apache-2.0
"""The retriever's HTTP interface: keys, limits and errors around the parts. Logs no question and no passage.

`search` keys ask, `build` keys (the indexer's) build, gate, swap and drop, `operate` keys (the operator's) swap
and read the status. Probes and metrics need no key.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from nimblet_retriever.config import ConfigModel
from nimblet_retriever.errors import (
    AccessRefused,
    DocumentRefused,
    DocumentUnknown,
    EmbeddingChanged,
    EmbeddingRefused,
    EmbeddingUnavailable,
    IndexEmpty,
)
from nimblet_retriever.gate import GateRequest
from nimblet_retriever.keys import Key, KeyRing, Scope
from nimblet_retriever.messages import (
    AddAnswer,
    AddRequest,
    BeginAnswer,
    BeginRequest,
    ErrorAnswer,
    GenerationsAnswer,
    RetrieveAnswer,
    RetrieveRequest,
    ServeRequest,
    TokensAnswer,
    TokensRequest,
    generation_of,
    passage_of,
)
from nimblet_retriever.metrics import CONTENT_TYPE
from nimblet_retriever.pushes import PushAnswer, Pushes, PushRequest, RemoveRequest
from nimblet_retriever.record import Record
from nimblet_retriever.retrieval import Question, Retriever
from nimblet_retriever.status import Observer, Readiness, StatusAnswer
from nimblet_retriever.store.chunk import (
    BuildFenced,
    ChunkRefused,
    GenerationEmpty,
    GenerationSealed,
    GenerationServing,
    GenerationUnknown,
    Selection,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from nimblet_retriever.store.generation import Gate
from nimblet_retriever.store.pushed import VersionRefused
from nimblet_retriever.telemetry import OK, Telemetry
from nimblet_retriever.tools import PATH as MCP_PATH
from nimblet_retriever.tools import TOOL

MAX_BODY_BYTES: Final = 32 * 2**20
"""A batch of 1,000 passages of ordinary length has about 3 MiB."""
MAX_QUESTION_BYTES: Final = 2**20
"""The longest question with all filters has less, even where each letter is escaped: who may ask holds no more
memory."""
RETRY_AFTER_SECONDS: Final = 5
STATUSES: Final[Mapping[type[Exception], HTTPStatus]] = {
    IndexEmpty: HTTPStatus.SERVICE_UNAVAILABLE,
    EmbeddingUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    EmbeddingChanged: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    EmbeddingRefused: HTTPStatus.BAD_GATEWAY,
    StoreFull: HTTPStatus.INSUFFICIENT_STORAGE,
    GenerationUnknown: HTTPStatus.NOT_FOUND,
    GenerationServing: HTTPStatus.CONFLICT,
    GenerationEmpty: HTTPStatus.CONFLICT,
    GenerationSealed: HTTPStatus.CONFLICT,
    BuildFenced: HTTPStatus.CONFLICT,
    ChunkRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    VersionRefused: HTTPStatus.CONFLICT,
    AccessRefused: HTTPStatus.FORBIDDEN,
    DocumentUnknown: HTTPStatus.NOT_FOUND,
    DocumentRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    StoreError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""What an error means to a client; the first that matches, so that StoreError comes last."""

M = TypeVar("M", bound=ConfigModel)
Handler = Callable[[Request, Key], Awaitable[BaseModel | None]]
TOOL_ROUTE: Final = f"{MCP_PATH} {TOOL}"


class Refused(Exception):  # noqa: N818 - carries an answer
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


EXPECTED: Final[tuple[type[Exception], ...]] = (Refused, *STATUSES)
"""What a handler may raise."""


@dataclass(frozen=True, kw_only=True)
class Api:
    """The handlers. Each gets a request whose key has the scope it needs."""

    index: str
    retriever: Retriever
    keys: KeyRing
    pushes: Pushes
    record: Record
    observer: Observer
    readiness: Readiness
    telemetry: Telemetry

    async def retrieve(self, request: Request, key: Key) -> RetrieveAnswer:
        """Search as the key may."""
        return await self.search(await _body(request, RetrieveRequest, most=MAX_QUESTION_BYTES), key)

    async def call(self, arguments: Mapping[str, object], key: Key) -> RetrieveAnswer | ErrorAnswer:
        """Search for the tool at /mcp: the same, with errors as answers."""
        with self.telemetry.request("CALL", TOOL_ROUTE, {}) as outcome:
            try:
                answer = await self.search(_parsed(RetrieveRequest, arguments), key)
            except EXPECTED as error:
                told = _told(error)
                outcome.status, outcome.reason = told.status, told.reason
                return ErrorAnswer(reason=told.reason, message=told.message)
            outcome.status, outcome.reason = HTTPStatus.OK, OK
            return answer

    async def search(self, asked: RetrieveRequest, key: Key) -> RetrieveAnswer:
        """Search as the key may."""
        access = key.access if asked.access is None else key.access & asked.access
        selection = Selection(access=access, sources=asked.sources, documents=asked.documents, labels=asked.labels)
        question = Question(text=asked.query, selection=selection, top_k=asked.top_k, mode=asked.mode)
        found = await self.retriever.ask(question)
        passages = tuple(passage_of(hit, index=self.index, generation=found.generation) for hit in found.hits)
        return RetrieveAnswer(
            index=self.index,
            generation=found.generation,
            push=found.push,
            reranked=found.reranked,
            threshold=found.threshold,
            passages=passages,
        )

    async def tokens(self, request: Request, _: Key) -> TokensAnswer:
        """Count tokens."""
        asked = await _body(request, TokensRequest)
        return TokensAnswer(counts=tuple(await self.retriever.count_tokens(asked.texts)))

    async def begin(self, request: Request, _: Key) -> BeginAnswer:
        """Begin or resume a build."""
        asked = await _body(request, BeginRequest)
        manifest = await self.retriever.begin(asked.name, asked.token)
        return BeginAnswer(name=manifest.name, dimension=manifest.dimension, embedding=manifest.embedding)

    async def add(self, request: Request, _: Key) -> AddAnswer:
        """Add passages to a build."""
        asked = await _body(request, AddRequest)
        added = await self.retriever.add(
            request.path_params["name"],
            request.path_params["token"],
            asked.passages,
        )
        return AddAnswer(embedded=added.embedded, reused=added.reused)

    async def seal(self, request: Request, _: Key) -> ConfigModel | None:
        """Complete a build."""
        await self.record.seal(request.path_params["name"], request.path_params["token"])
        return await self.generations(request, _)

    async def serve(self, request: Request, _: Key) -> GenerationsAnswer:
        """Swap to a generation."""
        await self.record.serve((await _body(request, ServeRequest)).generation)
        return await self.generations(request, _)

    async def drop(self, request: Request, _: Key) -> None:
        """Remove a generation."""
        await self.retriever.drop(request.path_params["name"])

    async def push(self, request: Request, key: Key) -> PushAnswer:
        """Keep a document."""
        return await self.pushes.put(key, await _body(request, PushRequest))

    async def remove(self, request: Request, key: Key) -> PushAnswer:
        """Delete a document."""
        asked = _parsed(RemoveRequest, dict(request.query_params))
        return await self.pushes.remove(key, request.path_params["id"], asked.version)

    async def restore(self, request: Request, key: Key) -> PushAnswer:
        """Show a source's document again."""
        return await self.pushes.restore(key, request.path_params["id"])

    async def gate(self, request: Request, _: Key) -> Gate:
        """Ask a generation golden questions."""
        return await self.record.gate(request.path_params["name"], await _body(request, GateRequest))

    async def status(self, _request: Request, _: Key) -> StatusAnswer:
        """Tell everything."""
        return await self.observer.status()

    async def measures(self) -> bytes:
        """Return the metrics, of the index as it is now."""
        metrics = self.telemetry.metrics
        try:
            metrics.holds(await self.observer.contents(), await self.observer.pushes())
        except StoreError:
            metrics.store_down()
        return metrics.text()

    async def generations(self, _request: Request, _: Key) -> GenerationsAnswer:
        """List generations."""
        listed = await self.retriever.generations()
        return GenerationsAnswer(
            serving=await self.retriever.serving(), generations=tuple(generation_of(item) for item in listed)
        )


def application(api: Api, tools: ASGIApp) -> Starlette:
    """Return the ASGI application; `tools` answers /mcp."""

    def route(path: str, method: str, handler: Handler, *scopes: Scope) -> Route:
        async def endpoint(request: Request) -> Response:
            with api.telemetry.request(method, path, request.headers) as outcome:
                response = await _guarded(api.keys, request, handler, scopes)
                outcome.status = response.status_code
                outcome.reason = response.reason if isinstance(response, ErrorResponse) else OK
                return response

        return Route(path, endpoint, methods=[method])

    async def alive(_: Request) -> Response:
        return Response("alive\n", media_type="text/plain")

    async def ready(_: Request) -> Response:
        try:
            await api.readiness.check()
        except StoreError as error:
            return ErrorResponse(_told(error))
        return Response("ready\n", media_type="text/plain")

    async def metrics(_: Request) -> Response:
        return Response(await api.measures(), media_type=CONTENT_TYPE)

    build = "/v1/builds/{name:str}/{token:str}"
    return Starlette(
        routes=[
            route("/v1/retrieve", "POST", api.retrieve, Scope.SEARCH),
            route("/v1/documents", "POST", api.push, Scope.PUSH),
            route("/v1/documents/{id:path}/restore", "POST", api.restore, Scope.PUSH),
            route("/v1/documents/{id:path}", "DELETE", api.remove, Scope.PUSH),
            route("/v1/tokens", "POST", api.tokens, Scope.BUILD),
            route("/v1/builds", "POST", api.begin, Scope.BUILD),
            route(f"{build}/passages", "POST", api.add, Scope.BUILD),
            route(f"{build}/seal", "POST", api.seal, Scope.BUILD),
            route("/v1/serving", "PUT", api.serve, Scope.BUILD, Scope.OPERATE),
            route("/v1/generations", "GET", api.generations, Scope.BUILD),
            route("/v1/generations/{name:str}", "DELETE", api.drop, Scope.BUILD),
            route("/v1/generations/{name:str}/gate", "POST", api.gate, Scope.BUILD),
            route("/v1/status", "GET", api.status, Scope.OPERATE),
            Route(MCP_PATH, tools),
            Route("/livez", alive, methods=["GET"]),
            Route("/readyz", ready, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
        ]
    )


class ErrorResponse(Response):
    """A refusal as it is answered; `reason` is for whoever counts."""

    def __init__(self, told: Refused) -> None:
        waits = told.status is HTTPStatus.SERVICE_UNAVAILABLE
        super().__init__(
            ErrorAnswer(reason=told.reason, message=told.message).model_dump_json(),
            status_code=told.status,
            media_type="application/json",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)} if waits else None,
        )
        self.reason = told.reason


async def _guarded(keys: KeyRing, request: Request, handler: Handler, scopes: Sequence[Scope]) -> Response:
    key = keys.find(request.headers.get("Authorization"), *scopes)
    if key is None:
        message = f"a key with the scope {' or '.join(scopes)} is needed"
        return ErrorResponse(Refused(HTTPStatus.UNAUTHORIZED, "KeyRefused", message))
    try:
        answer = await handler(request, key)
    except EXPECTED as error:
        return ErrorResponse(_told(error))
    if answer is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return Response(answer.model_dump_json(by_alias=True), media_type="application/json")


def _told(error: Exception) -> Refused:
    """Return an error as a client is told it."""
    if isinstance(error, Refused):
        return error
    status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
    return Refused(status, type(error).__name__, str(error))


async def _body(request: Request, model: type[M], *, most: int = MAX_BODY_BYTES) -> M:
    """Return the parsed body; of one that is too long no more is read than allowed."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "TooLarge",
                f"more than {most} bytes; send less at once",
            )
    return _parsed(model, bytes(body))


def _parsed(model: type[M], body: bytes | Mapping[str, object]) -> M:
    try:
        return model.model_validate_json(body) if isinstance(body, bytes) else model.model_validate(body)
    except ValidationError as error:
        # where and why, never the value: it may be a question or a passage
        flaws = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidRequest", flaws) from error
