# SPDX-License-Identifier: Apache-2.0
"""Reranking over a running index: the model's order, what it is shown, and what happens when it fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response

from nimblet_retriever.config import RerankerConfig
from nimblet_retriever.rerank import PAUSE_SECONDS
from retriever_testing.bench import BOARD, READER, Around, Bench, running
from retriever_testing.reranking import RerankServer

pytestmark = pytest.mark.asyncio

FIRST: dict[str, object] = {"document": "a", "text": "A pump pump pump.", "access": ["public"]}
SECOND: dict[str, object] = {"document": "b", "text": "Before the pump.", "access": ["public"]}
SECRET: dict[str, object] = {"document": "z", "text": "Zero pumps will be sold.", "access": ["board"]}


@asynccontextmanager
async def reranked(folder: Path, server: RerankServer, *, key: str | None = None) -> AsyncIterator[Bench]:
    """Run an index of three passages with a reranker."""
    key_file = None
    if key is not None:
        key_file = folder / "rerank-key"
        key_file.write_text(key)
    config = RerankerConfig(url="http://reranker/v1", model="r", key_file=key_file, candidates=10)
    hosts = {"http://reranker": httpx.ASGITransport(app=server.app())}
    async with running(folder, Around(reranker=config, hosts=hosts)) as bench:
        await bench.index(FIRST, SECOND, SECRET)
        yield bench


async def test_model_orders_what_the_search_found(tmp_path: Path) -> None:
    # Given a model that likes late letters, behind a key
    server = RerankServer(key="k")
    async with reranked(tmp_path, server, key="k") as bench:
        # When one passage is asked for
        answer = (await bench.ask("pump", topK=1)).json()
    # Then the model chose it out of all candidates, and its score is the model's
    assert (answer["reranked"], [item["document"] for item in answer["passages"]]) == (True, ["b"])
    assert answer["passages"][0]["score"] == 1.0
    assert -1 <= answer["passages"][0]["similarity"] <= 1


async def test_model_sees_and_gives_only_what_the_key_may_see(tmp_path: Path) -> None:
    server = RerankServer()
    async with reranked(tmp_path, server) as bench:
        # When a reader asks for what the board may see, whatever the filters
        for filters in ({}, {"documents": ["z"]}, {"topK": 50}):
            answer = await bench.ask("Zero pumps will be sold", key=READER, **filters)
            assert all(item["document"] != "z" for item in answer.json()["passages"])
        # Then the model was never shown it
        assert SECRET["text"] not in server.seen
        board = await bench.ask("pumps sold", key=BOARD)
    assert board.json()["passages"][0]["document"] == "z"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Response(status_code=503), "Refused"),
        (Response(status_code=401), "Refused"),
        (Response(status_code=500), "RequestRefused"),
        (Response("no json"), "AnswerUnknown"),
        (Response('{"results": []}'), "AnswerUnknown"),
        (Response('{"results": [{"index": 7, "relevance_score": 1}]}'), "AnswerUnknown"),
        (
            Response('{"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 2}]}'),
            "AnswerUnknown",
        ),
        (
            Response('{"results": [{"index": 0, "relevance_score": 1e999}, {"index": 1, "relevance_score": 2}]}'),
            "AnswerUnknown",
        ),
    ],
)
async def test_model_that_fails_leaves_the_searchs_order(tmp_path: Path, fault: Response, reason: str) -> None:
    server = RerankServer(fault=fault)
    async with reranked(tmp_path, server) as bench:
        # When the model fails
        answer = await bench.ask("a pump pump pump", topK=1)
        # Then the question is answered as the search found, says so, and it is counted
        assert answer.status_code == 200
        told = answer.json()
        assert (told["reranked"], [item["document"] for item in told["passages"]]) == (False, ["a"])
        metrics = (await bench.get("/metrics")).text
        assert f'nimblet_retriever_rerank_fallbacks_total{{reason="{reason}"}} 1.0' in metrics


async def test_model_that_failed_is_left_alone_for_a_while(tmp_path: Path) -> None:
    server = RerankServer(fault=Response(status_code=503))
    async with reranked(tmp_path, server) as bench:
        # Given a failure
        await bench.ask("pump")
        asked = len(server.seen)
        # When it is well again at once, then it is not asked until the pause is over
        server.fault = None
        assert (await bench.ask("pump")).json()["reranked"] is False
        assert len(server.seen) == asked
        bench.clock[0] += PAUSE_SECONDS
        assert (await bench.ask("pump")).json()["reranked"] is True


async def test_request_that_does_not_fit_is_nobody_elses_loss(tmp_path: Path) -> None:
    server = RerankServer(fault=Response(status_code=400))
    async with reranked(tmp_path, server) as bench:
        # Given a question that the model refused, then the next is asked of it at once
        assert (await bench.ask("pump")).json()["reranked"] is False
        server.fault = None
        assert (await bench.ask("pump")).json()["reranked"] is True


async def test_model_that_is_away_or_without_its_key_fails_no_question(tmp_path: Path) -> None:
    # Given no server at the address, then a key file that is gone
    for server in ({}, {"key_file": tmp_path / "gone"}):
        config = RerankerConfig(url="http://127.0.0.1:9/v1", model="r", **server)
        folder = tmp_path / str(len(server))
        folder.mkdir()
        async with running(folder, Around(reranker=config)) as bench:
            await bench.index(FIRST)
            answer = await bench.ask("pump")
            assert (answer.status_code, answer.json()["reranked"]) == (200, False)


async def test_without_a_reranker_nothing_is_claimed(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.index(FIRST)
        assert (await bench.ask("pump")).json()["reranked"] is None
