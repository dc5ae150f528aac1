# SPDX-License-Identifier: Apache-2.0
"""Metrics and traces of a running index: what they tell, and that they hold no text."""

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import Response

from nimblet_retriever.config import RerankerConfig, TracingConfig
from retriever_testing.bench import NOW, PUMP, READER, SECRET, Around, Bench, running
from retriever_testing.otlp import Receiver
from retriever_testing.process import free_port, serving
from retriever_testing.reranking import RerankServer

pytestmark = pytest.mark.asyncio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SPOKEN = "zebra question"


async def metrics(bench: Bench) -> dict[str, float]:
    """Return each sample by name and labels."""
    text = (await bench.get("/metrics", key="none is needed")).text
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_requests_are_counted_by_route_and_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        # Given one answered question, one without a key, one that can't be read, one without its model
        await bench.index(PUMP)
        await bench.ask(SPOKEN)
        await bench.ask(SPOKEN, key="wrong")
        await bench.ask(SPOKEN, topK="x")
        bench.model.fault = Response(status_code=503)
        await bench.ask(SPOKEN)
        # Then each is counted under its reason, timed, and its stages too
        seen = await metrics(bench)
        total, route = "nimblet_retriever_requests_total/", "//v1/retrieve"
        reasons = {
            key.removeprefix(total).removesuffix(route): value
            for key, value in seen.items()
            if key.startswith(total) and key.endswith(route)
        }
        assert reasons == {"ok": 1, "KeyRefused": 1, "InvalidRequest": 1, "EmbeddingUnavailable": 1}
        assert seen["nimblet_retriever_request_seconds_count//v1/retrieve"] == 4
        assert seen["nimblet_retriever_stage_seconds_count/embed"] == 2
        assert seen["nimblet_retriever_stage_seconds_count/search"] == 1


async def test_gauges_tell_what_serves(tmp_path: Path) -> None:
    async with running(tmp_path, Around(free=lambda _: 7)) as bench:
        # Given an empty index, then a served generation
        empty = await metrics(bench)
        assert (empty["nimblet_index_generation"], empty["nimblet_index_last_indexed_seconds"]) == (0, 0)
        await bench.index(PUMP, SECRET, name="g000012")
        seen = await metrics(bench)
    names = ("chunks", "documents", "generation", "last_indexed_seconds", "free_bytes", "store_up")
    told = [seen[f"nimblet_index_{name}"] for name in names]
    assert told == [2, 2, 12, NOW.timestamp(), 7, 1]


async def test_trace_goes_on_through_every_stage(tmp_path: Path) -> None:
    receiver, reranker = Receiver(), RerankServer()
    with serving(receiver.app()) as url:
        around = Around(
            tracing=TracingConfig(endpoint=url),
            reranker=RerankerConfig(url="http://reranker/v1", model="r"),
            hosts={"http://reranker": httpx.ASGITransport(app=reranker.app())},
        )
        async with running(tmp_path, around) as bench:
            await bench.index(PUMP)
            # When a caller asks within a trace of its own
            headers = {"Authorization": f"Bearer {READER}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
            await bench.client.post("/v1/retrieve", json={"query": SPOKEN}, headers=headers)
            await bench.ask(SPOKEN, key="wrong")
    # Then its spans hang below the caller's, each stage below the request
    mine = {span.name: span for span in receiver.spans if span.trace == TRACE}
    assert set(mine) == {"POST /v1/retrieve", "embed", "search", "rerank"}
    request = mine["POST /v1/retrieve"]
    assert request.parent == PARENT
    assert {mine[name].parent for name in ("embed", "search", "rerank")} == {request.id}
    assert (request.attributes["http.route"], request.attributes["http.response.status_code"]) == (
        "/v1/retrieve",
        "200",
    )
    # And the model is asked within it, a refusal bears its reason, and the index stands in the resource
    assert reranker.traces[-1].startswith(f"00-{TRACE}-{mine['rerank'].id}")
    assert "KeyRefused" in [span.attributes.get("error.type") for span in receiver.spans]
    assert receiver.resources[0]["nimblet.index"] == "docs"
    # And no word of question, passage or key is in what was sent
    sent = b"".join(receiver.bodies)
    assert all(word.encode() not in sent for word in (SPOKEN, "zebra", "45 bar", READER, "wrong"))


async def test_receiver_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    around = Around(tracing=TracingConfig(endpoint=f"http://127.0.0.1:{free_port()}"))
    async with running(tmp_path, around) as bench:
        await bench.index(PUMP)
        assert (await bench.ask("pump")).status_code == 200


async def test_nothing_is_sent_unless_it_is_configured(tmp_path: Path) -> None:
    reranker = RerankServer()
    around = Around(
        reranker=RerankerConfig(url="http://reranker/v1", model="r"),
        hosts={"http://reranker": httpx.ASGITransport(app=reranker.app())},
    )
    async with running(tmp_path, around) as bench:
        await bench.index(PUMP)
        await bench.ask("pump")
    assert reranker.traces == [""]
