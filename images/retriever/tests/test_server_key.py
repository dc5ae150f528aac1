# SPDX-License-Identifier: Apache-2.0
"""The key of a server's store: refused it is told as such, and put right it counts without a restart."""

import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nimblet_retriever.__main__ import open_store
from nimblet_retriever.config import RetrieverConfig, ServerConfig
from nimblet_retriever.service import Surroundings, service
from nimblet_retriever.store.chunk import StoreUnavailable
from retriever_testing.bench import keys
from retriever_testing.process import serving

KEY = "right"


async def collections(request: Request) -> Response:
    """Answer as an empty server does."""
    if request.headers.get("api-key") != KEY:
        return Response("Must provide an API key", status_code=401)
    return JSONResponse({"result": {"collections": []}, "status": "ok", "time": 0.0})


def config(folder: Path, url: str) -> RetrieverConfig:
    """Return the configuration of a retriever whose store is a server."""
    embedding = {"url": "http://127.0.0.1:1/v1", "model": "m", "fingerprint": "x"}
    store = ServerConfig(url=url, prefix="uid", key_file=folder / "api-key")
    document = {"version": 1, "index": "docs", "embedding": embedding, "keysFile": str(folder / "keys.json")}
    return RetrieverConfig.model_validate({**document, "store": store})


@pytest.mark.asyncio
async def test_key_that_is_refused_is_told_and_a_new_one_counts_at_once(tmp_path: Path) -> None:
    key = tmp_path / "api-key"
    key.write_text("wrong")
    with serving(Starlette(routes=[Route("/{path:path}", collections)])) as url:
        store = open_store(config(tmp_path, url))
        # Given a key that the server does not know
        with pytest.raises(StoreUnavailable, match=r"refused the key \(HTTP 401\).*Secret"):
            await store.generations()
        # When the file holds another, then the next request has it
        key.write_text(f"{KEY}\n")
        assert await store.generations() == ()
        # and without the file nothing is asked
        key.unlink()
        with pytest.raises(StoreUnavailable):
            await store.generations()
        await store.close()


@pytest.mark.asyncio
async def test_retriever_starts_and_tells_that_its_store_refuses_the_key(tmp_path: Path) -> None:
    # Given a retriever whose store refuses its key from the start
    (tmp_path / "api-key").write_text("wrong")
    (tmp_path / "keys.json").write_text(keys(("operator", "o", ["operate"], [])))
    with serving(Starlette(routes=[Route("/{path:path}", collections)])) as url:
        settings = config(tmp_path, url)
        async with httpx.AsyncClient() as outside:
            around = Surroundings(client=outside, clock=time.monotonic, now=partial(datetime.now, UTC))
            async with (
                service(settings, open_store(settings), around) as app,
                httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://retriever") as client,
            ):
                # Then it is not ready, and its status tells why
                assert (await client.get("/readyz")).status_code == 503
                told = (await client.get("/v1/status", headers={"Authorization": "Bearer o"})).json()
    assert not told["store"]["ok"]
    assert "refused the key (HTTP 401)" in told["store"]["message"]
