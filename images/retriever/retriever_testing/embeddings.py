# SPDX-License-Identifier: Apache-2.0
"""An embedding server for the tests: OpenAI's protocol and llama.cpp's /tokenize, vectors out of word hashes.

Alike texts get alike vectors, other texts others; `salt` makes it another model, `fault` an ill one.
"""

import hashlib
import re
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

DIMENSION = 64


@dataclass(kw_only=True)
class EmbeddingServer:
    """Its state, for tests to change and to look at."""

    key: str | None = None
    salt: str = ""
    fault: Response | None = None
    context: int = 10_000
    """Words that a text may have."""
    embedded: list[str] = field(default_factory=list)

    def vector(self, text: str) -> list[float]:
        """Count each word in a place of its own, nearly."""
        vector = [0.01] * DIMENSION
        for word in re.findall(r"\w+", text.lower()):
            digest = hashlib.sha256(f"{self.salt}{word}".encode()).digest()
            vector[digest[0] % DIMENSION] += 1.0 if digest[1] % 2 else -1.0
        return vector

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings."""
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return Response(status_code=401)
        if self.fault is not None:
            return self.fault
        texts = (await request.json())["input"]
        if any(len(text.split()) > self.context for text in texts):  # as llama.cpp says it
            message = f"input is too large to process. increase the physical batch size (now: {self.context})"
            return JSONResponse(
                {"error": {"code": 500, "message": message, "type": "server_error"}}, status_code=500
            )
        self.embedded += texts
        data = [{"index": index, "embedding": self.vector(text)} for index, text in enumerate(texts)]
        return JSONResponse({"data": list(reversed(data))})  # the order is the index's to tell

    async def tokenize(self, request: Request) -> Response:
        """POST /tokenize."""
        content = (await request.json())["content"]
        parts = content if isinstance(content, list) else [content]
        tokens = [part if isinstance(part, int) else range(len(part.split())) for part in parts]
        return JSONResponse(
            {"tokens": [token for part in tokens for token in (part if isinstance(part, range) else [part])]}
        )

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
                Route("/tokenize", self.tokenize, methods=["POST"]),
            ]
        )
