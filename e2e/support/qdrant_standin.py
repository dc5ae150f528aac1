# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a Qdrant server: what the retriever uses of its REST interface, over the client's local mode.

A program of one file, run by the retriever's image, which has all that it imports. It keeps what it is given under
a folder, wants a key, and is no Qdrant: what it proves is the retriever's side of the wire alone.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import uvicorn
from pydantic import BaseModel, TypeAdapter
from qdrant_client import QdrantClient, models
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FOLDER, KEY, PORT = "QDRANT_FOLDER", "QDRANT_KEY", 6333
UNAUTHORIZED, NOT_FOUND = 401, 404

B = TypeVar("B", bound=BaseModel)
Handler = Callable[[Request], Awaitable[object]]


class Standin:
    """The routes."""

    def __init__(self, client: QdrantClient, *, key: str) -> None:
        self._client = client
        self._key = key

    def app(self) -> Starlette:
        """Return the routes as an application."""
        one = "/collections/{name}"
        wanted: list[tuple[str, str, Handler]] = [
            ("GET", "/collections", self._list),
            ("GET", one, self._info),
            ("GET", f"{one}/exists", self._exists),
            ("PUT", one, self._create),
            ("PATCH", one, self._update),
            ("DELETE", one, self._drop),
            ("PUT", f"{one}/index", self._index),
            ("GET", "/aliases", self._aliases),
            ("POST", "/collections/aliases", self._change_aliases),
            ("PUT", f"{one}/points", self._upsert),
            ("POST", f"{one}/points", self._retrieve),
            ("POST", f"{one}/points/query", self._query),
            ("POST", f"{one}/points/scroll", self._scroll),
            ("POST", f"{one}/points/count", self._count),
            ("POST", f"{one}/points/delete", self._delete),
        ]
        routes = [Route(path, self._guarded(handler), methods=[method]) for method, path, handler in wanted]
        healthy = Route("/healthz", lambda _: Response("ok"), methods=["GET"])
        return Starlette(routes=[healthy, Route("/", self._guarded(_version), methods=["GET"]), *routes])

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if request.headers.get("api-key") != self._key:
                return Response("Must provide an API key", status_code=UNAUTHORIZED)
            name = request.path_params.get("name")
            fixed = request.url.path.endswith("/exists") or request.method + request.url.path == f"PUT{_one(name)}"
            if name is not None and not fixed and not self._client.collection_exists(name):
                error = {"status": {"error": f"Not found: Collection `{name}` doesn't exist!"}, "time": 0.0}
                return JSONResponse(error, status_code=NOT_FOUND)
            result = await handler(request)
            if request.url.path == "/":
                return JSONResponse(result)
            return Response(
                json.dumps({"result": _plain(result), "status": "ok", "time": 0.0}), media_type="application/json"
            )

        return answer

    async def _list(self, _: Request) -> object:
        return self._client.get_collections()

    async def _info(self, request: Request) -> object:
        return self._client.get_collection(_name(request))

    async def _exists(self, request: Request) -> object:
        return {"exists": self._client.collection_exists(_name(request))}

    async def _create(self, request: Request) -> object:
        body = await _read(request, models.CreateCollection)
        return self._client.create_collection(
            _name(request),
            vectors_config=body.vectors or {},
            sparse_vectors_config=body.sparse_vectors,
            metadata=body.metadata,
        )

    async def _update(self, request: Request) -> object:
        body = await _read(request, models.UpdateCollection)
        return self._client.update_collection(_name(request), metadata=body.metadata)

    async def _drop(self, request: Request) -> object:
        return self._client.delete_collection(_name(request))

    async def _index(self, _: Request) -> object:
        """The local mode reads everything: an index changes nothing."""
        return _done()

    async def _aliases(self, _: Request) -> object:
        return self._client.get_aliases()

    async def _change_aliases(self, request: Request) -> object:
        body = await _read(request, models.ChangeAliasesOperation)
        return self._client.update_collection_aliases(body.actions)

    async def _upsert(self, request: Request) -> object:
        body = await _read(request, models.PointsList)
        return self._client.upsert(_name(request), body.points)

    async def _retrieve(self, request: Request) -> object:
        body = await _read(request, models.PointRequest)
        return self._client.retrieve(_name(request), body.ids, with_payload=True, with_vectors=False)

    async def _query(self, request: Request) -> object:
        body = await _read(request, models.QueryRequest)
        return self._client.query_points(
            _name(request),
            query=body.query,
            using=body.using,
            prefetch=body.prefetch,
            query_filter=body.filter,
            limit=body.limit or 10,
            with_payload=body.with_payload or False,
            with_vectors=body.with_vector or False,
        )

    async def _scroll(self, request: Request) -> object:
        body = await _read(request, models.ScrollRequest)
        points, offset = self._client.scroll(
            _name(request),
            scroll_filter=body.filter,
            limit=body.limit or 10,
            offset=body.offset,
            with_payload=body.with_payload or False,
            with_vectors=body.with_vector or False,
        )
        return models.ScrollResult(points=points, next_page_offset=offset)

    async def _count(self, request: Request) -> object:
        body = await _read(request, models.CountRequest)
        return self._client.count(_name(request), count_filter=body.filter)

    async def _delete(self, request: Request) -> object:
        body = TypeAdapter(models.PointsSelector).validate_json(await request.body())
        self._client.delete(_name(request), body)
        return _done()


def _one(name: str | None) -> str:
    return f"/collections/{name}"


def _name(request: Request) -> str:
    return str(request.path_params["name"])


async def _read(request: Request, shape: type[B]) -> B:
    return shape.model_validate_json(await request.body())


async def _version(_: Request) -> object:
    return {"title": "a stand-in for qdrant", "version": "1.18.0"}


def _done() -> object:
    return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


def _plain(value: object) -> object:
    """Return a result as JSON takes it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def main() -> int:
    """Serve until told to end."""
    client = QdrantClient(path=os.environ[FOLDER])
    app = Standin(client, key=os.environ[KEY]).app()
    host, port = (sys.argv[1:] or ["0.0.0.0", str(PORT)])[:2]  # noqa: S104 - inside a pod
    uvicorn.run(app, host=host, port=int(port), access_log=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
