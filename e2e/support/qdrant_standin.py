# SPDX-License-Identifier: Apache-2.0
"""The make-believe Qdrant server of the retriever's tests as a program; its collections outlive a restart.

Run by the retriever's image, with `retriever_testing` on its path. It is no Qdrant: what it proves is the
retriever's and the operator's side alone.
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from qdrant_client import AsyncQdrantClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from retriever_testing.restserver import RestServer

METHODS = ["GET", "PUT", "PATCH", "POST", "DELETE"]


@dataclass(kw_only=True)
class KeptServer(RestServer):
    """Keeps also which fields are indexed, which the client's local mode does not know."""

    fields: Path

    def recall(self) -> None:
        """Read what an earlier process kept."""
        if self.fields.exists():
            kept = json.loads(self.fields.read_text(encoding="utf-8"))
            self.indexed.update({name: set(fields) for name, fields in kept.items()})

    async def answer(self, request: Request) -> Response:
        """Answer any request."""
        response = await super().answer(request)
        if request.method in ("PUT", "DELETE"):
            kept = {name: sorted(fields) for name, fields in self.indexed.items()}
            self.fields.write_text(json.dumps(kept), encoding="utf-8")
        return response


async def serve(folder: Path, key: str, port: int) -> None:
    """Serve until told to end."""
    local = AsyncQdrantClient(path=str(folder / "collections"))
    server = KeptServer(key=key, local=local, fields=folder / "fields.json")
    server.recall()
    app = Starlette(routes=[Route("/{path:path}", server.answer, methods=METHODS)])
    await uvicorn.Server(uvicorn.Config(app, host="0.0.0.0", port=port, access_log=False)).serve()  # noqa: S104 - a pod
    await local.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="ascii"), int(sys.argv[3])))
