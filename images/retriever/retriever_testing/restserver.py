# SPDX-License-Identifier: Apache-2.0
"""A make-believe Qdrant server: the client's local mode behind REST, with what a server adds to it.

It refuses wrong keys and read-only ones, filters by fields without an index (strict mode), settings that 1.18
does not know, bodies that are too large, and writes to a full disk. As several servers it parts a collection,
keeps what other parts took when one fails, and tells a change late. It ranks as local mode does: what a real
server makes of a request is not here.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
from pydantic import BaseModel, TypeAdapter
from qdrant_client import AsyncQdrantClient, models
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from retriever_testing.restsnapshots import Refused, SnapshotFolder

CREATE_1_18: Final = frozenset(
    {
        "vectors",
        "shard_number",
        "sharding_method",
        "replication_factor",
        "write_consistency_factor",
        "on_disk_payload",
        "hnsw_config",
        "wal_config",
        "optimizers_config",
        "quantization_config",
        "sparse_vectors",
        "strict_mode_config",
        "metadata",
    }
)
"""Settings of a collection that Qdrant 1.18 knows."""
READS: Final = frozenset({"query", "scroll", "count"})
"""Requests by POST that change nothing."""
MAX_BYTES: Final = 32 * 2**20
"""Of a request's body: `service.max_request_size_mb` of Qdrant's own configuration."""
FULL: Final = "Service internal error: No space left on device: WAL buffer size exceeds available disk space"


@dataclass(kw_only=True)
class RestServer:
    """The server's state, and what a test makes of it."""

    url: str = "http://qdrant:6333"
    key: str | None = None
    read_only_key: str | None = None
    version: str = "1.18.2"
    full: bool = False
    full_answer: tuple[int, str] = (500, FULL)
    optimizer_error: str | None = None
    max_bytes: int = MAX_BYTES
    servers: int = 1
    """So many parts has a collection whose request says no number."""
    lost_part: int | None = None
    """The part of every collection that takes no write."""
    late: int = 0
    """How often a collection is told as it was before its last change, as by a server that applies it later."""
    requests: int = 0
    local: AsyncQdrantClient = field(default_factory=lambda: AsyncQdrantClient(":memory:"))
    indexed: dict[str, set[str]] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    former: dict[str, list[models.CollectionInfo]] = field(default_factory=dict)
    """Answers of late servers, by collection."""
    snapshots: SnapshotFolder = field(default_factory=SnapshotFolder)

    def peer(self, url: str) -> "RestServer":
        """Return another server of the same cluster: the same collections, and snapshots of its own."""
        return replace(self, url=url, snapshots=SnapshotFolder(peer=self.snapshots.peer + 1))

    def app(self) -> Starlette:
        """Return it as an application that can be served."""
        methods = ["GET", "PUT", "PATCH", "POST", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=methods)])

    def transport(self) -> httpx.ASGITransport:
        """Return the way there, for a client."""
        return httpx.ASGITransport(app=self.app())

    async def answer(self, request: Request) -> Response:
        """Answer any request."""
        self.requests += 1
        if request.url.path == "/":
            return JSONResponse({"title": "qdrant - vector search engine", "version": self.version})
        try:
            self._check(request)
            result = await self._routed(request)
        except Refused as error:
            return JSONResponse({"status": {"error": error.words}, "time": 0.0}, status_code=error.status)
        except ValueError as error:
            if "not found" not in str(error):
                raise
            return JSONResponse({"status": {"error": f"Not found: {error}"}, "time": 0.0}, status_code=404)
        return JSONResponse({"result": _plain(result), "status": "ok", "time": 0.0})

    def _check(self, request: Request) -> None:
        path, shown = request.url.path, request.headers.get("api-key")
        if self.key is None:
            return
        if shown not in (self.key, self.read_only_key):
            raise Refused(401, "Must provide an API key or an Authorization bearer token")
        reads = request.method == "GET" or path.rpartition("/")[2] in READS or path.endswith("/points")
        if shown != self.key and not (reads and request.method != "PUT"):
            raise Refused(403, "Global manage access is required")

    async def _routed(self, request: Request) -> object:  # noqa: PLR0911 - a table
        sent = await request.body()
        if len(sent) > self.max_bytes:
            limit = f"(limit: {self.max_bytes} bytes)"
            raise Refused(400, f"Payload error: JSON payload ({len(sent)} bytes) is larger than allowed {limit}.")
        body: Any = json.loads(sent or b"null")
        parts = request.url.path.strip("/").split("/")
        match (request.method, parts):
            case ("GET", ["collections"]):
                return await self.local.get_collections()
            case ("GET", ["aliases"]):
                return await self.local.get_aliases()
            case ("POST", ["collections", "aliases"]):
                actions = TypeAdapter(models.ChangeAliasesOperation).validate_python(body)
                return await self.local.update_collection_aliases(actions.actions)
            case (method, ["collections", name]):
                return await self._collection(method, name, body)
            case ("GET", ["collections", name, "exists"]):
                return {"exists": await self.local.collection_exists(name)}
            case ("PUT", ["collections", name, "snapshots", "recover"]):
                wanted = models.SnapshotRecover.model_validate(body)
                return await self.snapshots.recover(self.local, self.indexed, name, wanted)
            case (_, ["collections", name, *rest]):
                await self.local.get_collection(name)  # 404 where it is not there
                return await self._inside(request.method, name, rest, body)
        raise Refused(404, f"no such path: {request.url.path}")

    async def _collection(self, method: str, name: str, body: Any) -> object:
        if method == "GET":
            info = await self.local.get_collection(name)
            if self.former.get(name):
                return self.former[name].pop()
            if self.optimizer_error is not None:
                info.optimizer_status = models.OptimizersStatusOneOf1(error=self.optimizer_error)
            return info
        if method == "DELETE":
            self.indexed.pop(name, None)
            return await self.local.delete_collection(name)
        self._check_disk()
        if method == "PATCH":
            before = (await self.local.get_collection(name)).model_copy(deep=True)
            self.former[name] = [before] * self.late
            return await self.local.update_collection(name, metadata=body["metadata"])
        if await self.local.collection_exists(name):
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        unknown = set(body) - CREATE_1_18
        if unknown:
            raise Refused(400, f"unknown fields {sorted(unknown)}")
        wanted = models.CreateCollection.model_validate(body)
        self.indexed[name] = set()
        self.parts[name] = wanted.shard_number or self.servers
        return await self.local.create_collection(
            name,
            vectors_config=wanted.vectors,
            sparse_vectors_config=wanted.sparse_vectors,
            metadata=wanted.metadata,
        )

    async def _inside(self, method: str, name: str, rest: list[str], body: Any) -> object:  # noqa: PLR0911 - a table
        match (method, rest):
            case (_, ["snapshots", *named]):
                return await self._snapshots(method, name, named)
            case ("PUT", ["index"]):
                self.indexed[name].add(body["field_name"])
                return {"operation_id": 1, "status": "completed"}
            case ("PUT", ["points"]):
                self._check_disk()
                return await self._upserted(name, models.PointsList.model_validate(body).points)
            case ("POST", ["points"]):
                asked = models.PointRequest.model_validate(body)
                return await self.local.retrieve(name, asked.ids, with_payload=asked.with_payload or True)
            case ("POST", ["points", "delete"]):
                self._check_disk()
                self._check_filter(name, body.get("filter"))
                return await self.local.delete(name, TypeAdapter(models.PointsSelector).validate_python(body))
            case ("POST", ["points", "count"]):
                self._check_filter(name, body.get("filter"))
                counted = models.CountRequest.model_validate(body)
                return await self.local.count(name, count_filter=counted.filter, exact=bool(counted.exact))
            case ("POST", ["points", "scroll"]):
                return await self._scrolled(name, body)
            case ("POST", ["points", "query"]):
                return await self._queried(name, body)
        raise Refused(404, f"no such path below {name}: {rest}")

    async def _upserted(self, name: str, points: list[models.PointStruct]) -> object:
        """Write points to their parts: what others took stays when one fails."""
        parts = self.parts.get(name, self.servers)
        taken = [item for item in points if zlib.crc32(str(item.id).encode()) % parts != self.lost_part]
        result = await self.local.upsert(name, taken) if taken else None
        if len(taken) < len(points):
            raise Refused(500, "Service internal error: the replica set has no active replica")
        return result

    async def _snapshots(self, method: str, name: str, named: list[str]) -> object:
        match (method, named):
            case ("GET", []):
                return self.snapshots.listed(name)
            case ("POST", []):
                return await self.snapshots.take(self.local, self.indexed, name)
            case ("DELETE", [snapshot]):
                return self.snapshots.remove(name, snapshot)
        raise Refused(404, f"no such path below the snapshots of {name}: {named}")

    async def _scrolled(self, name: str, body: Any) -> object:
        self._check_filter(name, body.get("filter"))
        asked = models.ScrollRequest.model_validate(body)
        records, offset = await self.local.scroll(
            name,
            scroll_filter=asked.filter,
            limit=asked.limit or 10,
            offset=asked.offset,
            with_payload=asked.with_payload if asked.with_payload is not None else True,
            with_vectors=asked.with_vector if asked.with_vector is not None else False,
        )
        return {"points": records, "next_page_offset": offset}

    async def _queried(self, name: str, body: Any) -> object:
        for part in (body, *(body.get("prefetch") or ())):
            self._check_filter(name, part.get("filter"))
        asked = models.QueryRequest.model_validate(body)
        return await self.local.query_points(
            name,
            query=asked.query,
            using=asked.using,
            prefetch=asked.prefetch,
            query_filter=asked.filter,
            limit=asked.limit or 10,
            with_payload=asked.with_payload if asked.with_payload is not None else False,
            with_vectors=asked.with_vector if asked.with_vector is not None else False,
        )

    def _check_disk(self) -> None:
        if self.full:
            raise Refused(*self.full_answer)

    def _check_filter(self, name: str, flt: Mapping[str, Any] | None) -> None:
        conditions = [item for kind in ("must", "must_not", "should") for item in (flt or {}).get(kind) or ()]
        for key in {item["key"] for item in conditions if "key" in item} - self.indexed[name]:
            raise Refused(400, f"Bad request: Index required but not found for {key!r}")


def _plain(result: object) -> object:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json", exclude_none=True)
    if isinstance(result, dict):
        return {key: _plain(value) for key, value in result.items()}
    return [_plain(item) for item in result] if isinstance(result, list) else result
