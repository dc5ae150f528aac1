# SPDX-License-Identifier: Apache-2.0
"""What the operator is told: contents, embedding model, store, and the probes."""

import asyncio
from pathlib import Path

import httpx
import pytest
from qdrant_client import AsyncQdrantClient
from starlette.responses import Response

from nimblet_retriever.config import EmbeddingConfig
from nimblet_retriever.embedding import Embedder
from nimblet_retriever.health import PATIENCE_SECONDS, PROBE_SECONDS, EmbeddingProbe, EmbeddingProbes
from nimblet_retriever.status import Observer, Readiness, StatusAnswer
from nimblet_retriever.store.chunk import StoreUnavailable
from nimblet_retriever.store.server import ServerStore
from retriever_testing.bench import NOW, PUMP, SECRET, Around, Bench, running
from retriever_testing.embeddings import EmbeddingServer
from retriever_testing.process import free_port

pytestmark = pytest.mark.asyncio


async def status(bench: Bench) -> StatusAnswer:
    """Return the status as the operator reads it."""
    answer = await bench.get("/v1/status")
    assert answer.status_code == 200
    return StatusAnswer.model_validate_json(answer.content)


async def test_status_of_an_empty_index(tmp_path: Path) -> None:
    async with running(tmp_path, Around(free=lambda _: 500, reserve=400)) as bench:
        told = (await bench.get("/v1/status")).json()
        assert told == {
            "index": "docs",
            "serving": None,
            "push": 0,
            "generations": [],
            "embedding": {"ok": True, "reason": "", "message": ""},
            "store": {
                "ok": True,
                "reason": "",
                "message": "",
                "freeBytes": 500,
                "reserveBytes": 400,
                "full": False,
                "servers": [],
                "trouble": None,
                "note": "",
            },
            "pushes": {"sequence": 0, "documents": 0, "tombstones": 0, "unembedded": 0, "refusals": []},
            "lastServedTime": None,
            "snapshots": None,
        }
        assert (await bench.get("/readyz")).status_code == 200


async def test_status_tells_what_serves_and_since_when(tmp_path: Path) -> None:
    # Given a serving generation and one that is being built
    async with running(tmp_path) as bench:
        await bench.index(PUMP, SECRET)
        await bench.post("/v1/builds", {"name": "g000002", "token": "b"})
        # Then both are there, with counts and size once sealed
        told = await status(bench)
        assert (told.serving, told.last_served_time) == ("g000001", NOW)
        served, building = told.generations
        assert (served.documents, served.chunks, served.sealed) == (2, 2, True)
        assert (served.bytes or 0) > 0
        assert (building.name, building.sealed, building.chunks) == ("g000002", False, 0)


async def test_ill_embedding_model_is_told_and_its_recovery_too(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.index(PUMP)
        seen = []
        for fault, salt in ((None, ""), (Response(status_code=503), ""), (None, "another"), (None, "")):
            bench.model.fault, bench.model.salt = fault, salt
            bench.clock[0] += PROBE_SECONDS
            seen.append((await status(bench)).embedding.reason)
        assert seen == ["", "EmbeddingUnavailable", "EmbeddingChanged", ""]


async def test_full_volume_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, Around(free=lambda _: 1, reserve=2)) as bench:
        assert (await status(bench)).store.full


async def test_model_that_hangs_is_told_without_holding_the_status_up() -> None:
    # Given a model that takes a request and says nothing
    release, clock = asyncio.Event(), [0.0]

    async def hang(_: httpx.Request) -> httpx.Response:
        await release.wait()
        vector = EmbeddingServer().vector("x")
        return httpx.Response(200, json={"data": [{"index": 0, "embedding": vector}]})

    config = EmbeddingConfig(url="http://model/v1", model="m", fingerprint="f")
    async with httpx.AsyncClient(transport=httpx.MockTransport(hang)) as client:
        probe = EmbeddingProbe(Embedder(client, config), clock=lambda: clock[0])
        # Then it is unasked at first, silent later, and well when it answers at last
        first = await probe.look(None)
        clock[0] = PATIENCE_SECONDS
        silent = await probe.look(None)
        release.set()
        well = await probe.look(None)
        await probe.close()
    assert (first.ok, silent.ok, well.ok) == (False, False, True)
    assert "within 15 s" in silent.message


async def test_key_that_is_missing_is_told_and_its_coming_too(tmp_path: Path) -> None:
    model, key, clock = EmbeddingServer(key="secret"), tmp_path / "key", [0.0]
    config = EmbeddingConfig(url="http://model/v1", model="m", fingerprint="f", key_file=key)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=model.app())) as upstream:
        probe = EmbeddingProbe(Embedder(upstream, config), clock=lambda: clock[0])
        missing = [await probe.look(None) for _ in range(2)]
        key.write_text("secret")
        clock[0] += PROBE_SECONDS
        found = await probe.look(None)
        await probe.close()
    assert [health.reason for health in missing] == ["EmbeddingUnavailable"] * 2
    assert "Secret" in missing[0].message
    assert found.ok


async def test_server_that_is_away_is_told_and_not_ready(tmp_path: Path) -> None:
    # Given a store on a server that nobody runs
    client = AsyncQdrantClient(url=f"http://127.0.0.1:{free_port()}", check_compatibility=False)
    store = ServerStore(client, prefix="x")
    model, config = EmbeddingServer(), EmbeddingConfig(url="http://model/v1", model="m", fingerprint="f")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=model.app())) as upstream:
        probe = EmbeddingProbes(EmbeddingProbe(Embedder(upstream, config), clock=lambda: 0.0), {})
        told = await Observer(index="docs", store=store, embedding=probe).status()
        with pytest.raises(StoreUnavailable):
            await Readiness(store).check()
        await probe.close()
    await store.close()
    # Then the store is ill and the model is not
    assert (told.store.ok, told.store.reason, told.embedding.ok) == (False, "StoreUnavailable", True)
    assert (told.serving, told.generations, told.store.free_bytes) == (None, (), None)
