# SPDX-License-Identifier: Apache-2.0
"""A reranking server for the tests: llama.cpp's /v1/rerank, scoring by how late a text stands in the alphabet."""

from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(kw_only=True)
class RerankServer:
    """Its state, for tests to change and to look at."""

    key: str | None = None
    fault: Response | None = None
    seen: list[str] = field(default_factory=list)
    """Every text it was shown."""
    traces: list[str] = field(default_factory=list)

    async def rerank(self, request: Request) -> Response:
        """POST /v1/rerank."""
        self.traces.append(request.headers.get("traceparent", ""))
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return Response(status_code=401)
        body = await request.json()
        self.seen += body["documents"]
        if self.fault is not None:
            return self.fault
        order = sorted(body["documents"])
        results = [
            {"index": index, "relevance_score": float(order.index(text))}
            for index, text in enumerate(body["documents"])
        ]
        return JSONResponse(
            {"model": body["model"], "results": sorted(results, key=lambda item: item["index"] % 2)}
        )

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(routes=[Route("/v1/rerank", self.rerank, methods=["POST"])])
