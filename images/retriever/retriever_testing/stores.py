# SPDX-License-Identifier: Apache-2.0
"""Stores for the tests, and chunks whose vectors say what they mean."""

import math
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from qdrant_client import AsyncQdrantClient

from nimblet_retriever.store.chunk import Chunk, Mode, Search, Selection
from nimblet_retriever.store.connection import FixedKey, connect
from nimblet_retriever.store.embedded import EmbeddedStore
from nimblet_retriever.store.fusion import search_both
from nimblet_retriever.store.generation import Manifest, generation_name
from nimblet_retriever.store.interface import Store
from nimblet_retriever.store.moving import MovingStore
from nimblet_retriever.store.pushed import Document, Space
from nimblet_retriever.store.server import ServerStore
from retriever_testing.restserver import RestServer

DIMENSION = 8
BUILD = "a"
URL, KEY = "NIMBLET_QDRANT_URL", "NIMBLET_QDRANT_KEY"
PUBLIC = Selection(access=frozenset({"public"}))


def kinds() -> list[str]:
    """Return the stores to test: a real server where the environment names one.

    `moving` is an index that leaves servers, where nothing is, for others; `rest` is a make-believe server.
    """
    return ["embedded", "memory", "moving", "rest", *(["server"] if URL in os.environ else [])]


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Store]:
    """Open a store of its own and leave nothing behind."""
    store = _make(kind, folder)
    try:
        yield store
    finally:
        if kind == "server":
            await clear(store)
        await store.close()


def _make(kind: str, folder: Path) -> Store:
    if kind == "embedded":
        return EmbeddedStore(folder, reserve=0)
    prefix = f"nimblet-test-{uuid.uuid4().hex[:12]}"
    if kind == "memory":
        return ServerStore(AsyncQdrantClient(":memory:"), prefix=prefix)
    if kind == "rest":
        return on_rest(RestServer(key="secret"), FixedKey("secret"))
    if kind == "moving":
        former, target = (ServerStore(AsyncQdrantClient(":memory:"), prefix=prefix) for _ in range(2))
        return MovingStore(target, [former])
    return real_server(prefix)


def on_rest(server: RestServer, auth: httpx.Auth | None) -> ServerStore:
    """Return a store on a make-believe server."""
    client = connect(server.url, auth, transport=server.transport())
    return ServerStore(client, prefix="uid", url=server.url)


def real_server(prefix: str) -> ServerStore:
    """Return a store on the server that the environment names."""
    key = os.environ.get(KEY)
    client = connect(os.environ[URL], FixedKey(key) if key is not None else None)
    return ServerStore(client, prefix=prefix, url=os.environ[URL])


async def clear(store: Store) -> None:
    """Remove everything of a store's from its server."""
    if not isinstance(store, ServerStore):
        raise TypeError("expected a store on a server")
    site = store.site
    for item in (await site.client.get_collections()).collections:
        if item.name.startswith(f"{site.prefix}-"):
            await site.client.delete_collection(item.name)


def manifest(number: int = 1, *, token: str = BUILD) -> Manifest:
    """Return the manifest of the n-th generation."""
    return Manifest(name=generation_name(number), token=token, dimension=DIMENSION, embedding="model@1")


def direction(angle: float) -> Sequence[float]:
    """Return a unit vector; the nearer two angles, the more alike."""
    return [math.cos(angle), math.sin(angle), *([0.0] * (DIMENSION - 2))]


def chunk(document: str, text: str, *, angle: float = 0.0, **fields: object) -> Chunk:
    """Return a chunk that everybody may find."""
    values: dict[str, object] = {
        "document": document,
        "position": 0,
        "text": text,
        "source": "handbook",
        "title": document.title(),
        "location": "page 1",
        "reuse_key": f"key-{document}-{text}",
        "access": ("public",),
        "vector": direction(angle),
        **fields,
    }
    return Chunk(**values)  # type: ignore[arg-type]  # the defaults above have the fields' types


def asked(text: str, *, angle: float = 0.0, mode: Mode = Mode.HYBRID, **fields: object) -> Search:
    """Return a question of everybody's."""
    values: dict[str, object] = {
        "vector": direction(angle),
        "text": text,
        "selection": PUBLIC,
        "mode": mode,
        **fields,
    }
    return Search(**values)  # type: ignore[arg-type]  # as above


async def sealed(store: Store, chunks: Sequence[Chunk], *, number: int = 1) -> str:
    """Build and seal a generation; return its name."""
    build = await store.begin(manifest(number))
    await build.add(chunks)
    await build.seal()
    return build.manifest.name


async def found(store: Store, name: str, search: Search) -> list[str]:
    """Return the documents that a search finds, best first."""
    return [hit.document for hit in await store.search(name, search)]


SPACE = Space(embedding="model@1", canary=tuple(direction(0.0)), language="english")


def document(name: str, *texts: str, version: int | None = None, angle: float = 0.0, **fields: object) -> Document:
    """Return a document as it is pushed: one passage for each text."""
    id_ = f"push:app/{name}"
    return Document(
        id=id_,
        version=version,
        digest=f"{texts}{angle}{fields}",
        space=SPACE,
        chunks=tuple(
            chunk(id_, text, angle=angle, position=position, source="push:app", **fields)
            for position, text in enumerate(texts)
        ),
    )


async def answered(store: Store, name: str, search: Search, *, space: Space = SPACE) -> tuple[int, list[str]]:
    """Return the push number of a search over both, and the texts it finds, best first."""
    fused = await search_both(store, await store.overlay(), name, search, space.id)
    return fused.push, [hit.text for hit in fused.hits]
