# SPDX-License-Identifier: Apache-2.0
"""A retriever in process, over a real embedded store and a made embedding model: keys, a clock, requests."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from starlette.applications import Starlette

from nimblet_retriever.config import (
    EmbeddedConfig,
    EmbeddingConfig,
    RerankerConfig,
    RetrieverConfig,
    TracingConfig,
)
from nimblet_retriever.service import Surroundings, service
from nimblet_retriever.store.embedded import EmbeddedStore, free_bytes
from retriever_testing.embeddings import EmbeddingServer

MODEL = EmbeddingConfig(url="http://model/v1", model="m", fingerprint="digest@1", batch=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOLD_SECONDS = 60.0
"""What comes about within a moment may take this long where the machine is busy."""
READER, BOARD, BUILDER, OPERATOR = "reader-key", "board-key", "builder-key", "operator-key"
PUSHER, CHIEF = "pusher-key", "chief-key"
PUMP: dict[str, object] = {"document": "pump", "text": "The pump runs at 45 bar.", "access": ["public"]}
SECRET: dict[str, object] = {"document": "plan", "text": "The pump will be sold in May.", "access": ["board"]}


def passage(**fields: object) -> dict[str, object]:
    """Return a passage as an indexer sends it."""
    return {"position": 0, "source": "wiki", "embedded": fields.get("text"), **fields}


def keys(*entries: tuple[str, str, list[str], list[str]], expires: datetime | None = None) -> str:
    """Return a key file of (id, key, scopes, access)."""
    made = [
        {
            "id": id_,
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "scopes": scopes,
            "access": access,
            **({"expires": expires.isoformat()} if expires is not None else {}),
        }
        for id_, key, scopes, access in entries
    ]
    return json.dumps({"keys": made})


@dataclass(kw_only=True)
class Bench:
    """A running retriever, its embedding server, its key file and its clock."""

    app: Starlette
    client: httpx.AsyncClient
    model: EmbeddingServer
    keys: Path
    clock: list[float]

    async def post(self, path: str, body: object, *, key: str = BUILDER) -> httpx.Response:
        """Send a request with a key."""
        return await self.client.post(path, json=body, headers={"Authorization": f"Bearer {key}"})

    async def build(self, *passages: dict[str, object], name: str) -> httpx.Response:
        """Build and seal a generation; return the answer to the passages."""
        await self.post("/v1/builds", {"name": name, "token": "a"})
        added = await self.post(f"/v1/builds/{name}/a/passages", {"passages": [passage(**p) for p in passages]})
        await self.post(f"/v1/builds/{name}/a/seal", {})
        return added

    async def index(self, *passages: dict[str, object], name: str = "g000001") -> httpx.Response:
        """Build, seal and serve a generation; return the answer to the passages."""
        added = await self.build(*passages, name=name)
        await self.serve(name)
        return added

    async def serve(self, name: str) -> None:
        """Swap to a sealed generation."""
        headers = {"Authorization": f"Bearer {BUILDER}"}
        await self.client.put("/v1/serving", json={"generation": name}, headers=headers)

    async def ask(self, query: str, *, key: str = READER, **filters: object) -> httpx.Response:
        """Retrieve."""
        return await self.post("/v1/retrieve", {"query": query, **filters}, key=key)

    async def push(self, id_: str, text: str, *, key: str = PUSHER, **fields: object) -> httpx.Response:
        """Push a document."""
        return await self.post("/v1/documents", {"id": id_, "text": text, **fields}, key=key)

    async def delete(self, path: str, *, key: str = PUSHER) -> httpx.Response:
        """Delete a document."""
        headers = {"Authorization": f"Bearer {key}"}
        return await self.client.delete(f"/v1/documents/{path}", headers=headers)

    async def documents(self, query: str, *, key: str = READER) -> list[str]:
        """Return the documents that a question finds, best first."""
        return [item["document"] for item in (await self.ask(query, key=key, topK=20)).json()["passages"]]

    async def get(self, path: str, *, key: str = OPERATOR) -> httpx.Response:
        """Send a request without a body."""
        return await self.client.get(path, headers={"Authorization": f"Bearer {key}"})


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds; it lets others have their turn."""
    async with asyncio.timeout(HOLD_SECONDS):
        while not await condition():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a test changes of a bench's surroundings."""

    embedding: EmbeddingConfig = MODEL
    former: tuple[EmbeddingConfig, ...] = ()
    reranker: RerankerConfig | None = None
    tracing: TracingConfig | None = None
    hosts: Mapping[str, httpx.AsyncBaseTransport] = field(default_factory=dict)
    """Further servers by address, beside the embedding model's."""
    reserve: int = 0
    free: Callable[[Path], int] = free_bytes


@asynccontextmanager
async def running(folder: Path, around: Around | None = None) -> AsyncIterator[Bench]:
    """Run an empty index with six keys."""
    around = around or Around()
    model, clock, key_file = EmbeddingServer(), [0.0], folder / "keys.json"
    key_file.write_text(
        keys(
            ("reader", READER, ["search"], ["public"]),
            ("board", BOARD, ["search"], ["public", "board"]),
            ("app", PUSHER, ["push"], ["public"]),
            ("chief", CHIEF, ["push"], ["public", "board"]),
            ("indexer", BUILDER, ["build"], []),
            ("operator", OPERATOR, ["operate"], []),
        )
    )
    config = RetrieverConfig(
        version=1,
        index="docs",
        store=EmbeddedConfig(folder=folder / "index"),
        embedding=around.embedding,
        former_embeddings=around.former,
        reranker=around.reranker,
        tracing=around.tracing,
        keys_file=key_file,
    )
    mounts = {"http://model": httpx.ASGITransport(app=model.app()), **around.hosts}
    async with httpx.AsyncClient(mounts=mounts) as upstream:
        store = EmbeddedStore(folder / "index", reserve=around.reserve, free=around.free)
        outside = Surroundings(client=upstream, clock=lambda: clock[0], now=lambda: NOW)
        async with service(config, store, outside) as app:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://retriever") as client:
                yield Bench(app=app, client=client, model=model, keys=key_file, clock=clock)
