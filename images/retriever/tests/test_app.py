# SPDX-License-Identifier: Apache-2.0
"""The HTTP interface over a real embedded store: builds, searches, keys, errors."""

import hashlib
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from starlette.responses import Response

from nimblet_retriever.app import MAX_BODY_BYTES
from nimblet_retriever.retrieval import CANARY_SECONDS
from nimblet_retriever.spaces import CANARY
from retriever_testing.bench import (
    BOARD,
    BUILDER,
    NOW,
    OPERATOR,
    PUMP,
    READER,
    SECRET,
    Bench,
    keys,
    passage,
    running,
)

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An empty index."""
    async with running(tmp_path) as made:
        yield made


async def test_build_then_retrieve(bench: Bench) -> None:
    # Given a generation of two passages
    added = await bench.index(PUMP, SECRET)
    assert added.json() == {"embedded": 2, "reused": 0}
    # When a reader asks
    answer = await bench.ask("How many bar has the pump?")
    # Then the passage comes with the id of a citation, and what the key may not see does not come
    assert answer.status_code == 200
    found = answer.json()
    assert (found["index"], found["generation"]) == ("docs", "g000001")
    assert [item["id"] for item in found["passages"]] == ["docs/pump/0@g000001"]
    assert found["passages"][0]["text"] == "The pump runs at 45 bar."
    board = await bench.ask("pump", key=BOARD)
    assert {item["document"] for item in board.json()["passages"]} == {"pump", "plan"}


async def test_request_can_not_widen_what_its_key_sees(bench: Bench) -> None:
    await bench.index(PUMP, SECRET)
    widened = await bench.ask("pump", access=["board"])
    narrowed = await bench.ask("pump", key=BOARD, access=["board"])
    nobody = await bench.ask("pump", key=BOARD, access=[])
    named = await bench.ask("pump", documents=["plan"])
    assert widened.json()["passages"] == named.json()["passages"] == nobody.json()["passages"] == []
    assert [item["document"] for item in narrowed.json()["passages"]] == ["plan"]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (READER, "/v1/builds"),
        (BUILDER, "/v1/retrieve"),
        ("unknown", "/v1/retrieve"),
        ("", "/v1/retrieve"),
        (hashlib.sha256(READER.encode()).hexdigest(), "/v1/retrieve"),
    ],
)
async def test_key_does_what_its_scope_says(bench: Bench, key: str, path: str) -> None:
    answer = await bench.post(path, {}, key=key)
    assert (answer.status_code, answer.json()["reason"]) == (401, "KeyRefused")


async def test_operator_rolls_back_and_builds_nothing(bench: Bench) -> None:
    # Given two generations of which the second serves
    await bench.index(PUMP)
    await bench.index(PUMP, name="g000002")
    # When the operator points at the first, then it serves; a build is not the operator's
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    served = await bench.client.put("/v1/serving", json={"generation": "g000001"}, headers=headers)
    assert served.json()["serving"] == "g000001"
    assert (await bench.post("/v1/builds", {}, key=OPERATOR)).status_code == 401


async def test_keys_are_rotated_without_a_restart(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    # Given an index and a reader
    await bench.index(PUMP)
    assert (await bench.ask("pump")).status_code == 200
    # When the file changes, then the new key counts and the old one does not
    bench.keys.write_text(keys(("reader", "new-key", ["search"], ["public"])))
    assert (await bench.ask("pump")).status_code == 401
    assert (await bench.ask("pump", key="new-key")).status_code == 200
    # When a key has run out, or the file is broken or empty, then nobody may ask
    for content in (
        keys(("reader", "new-key", ["search"], ["public"]), expires=NOW - timedelta(seconds=1)),
        "{}",
        '{"keys": "new-key"',
        "",
    ):
        bench.keys.write_text(content)
        assert (await bench.ask("pump", key="new-key")).status_code == 401
    assert "new-key" not in caplog.text


async def test_unchanged_passages_are_not_embedded_again(bench: Bench) -> None:
    # Given a served generation
    await bench.index(PUMP, SECRET)
    bench.model.embedded.clear()
    # When the next one has one passage more
    added = await bench.index(PUMP, SECRET, {**PUMP, "document": "new", "text": "A new one."}, name="g000002")
    # Then that alone was embedded, beside the canary
    assert added.json() == {"embedded": 1, "reused": 2}
    assert sorted(set(bench.model.embedded)) == sorted({CANARY, "A new one."})


async def test_index_without_a_generation_says_so(bench: Bench) -> None:
    answer = await bench.ask("pump")
    assert (answer.status_code, answer.json()["reason"]) == (503, "IndexEmpty")
    assert int(answer.headers["Retry-After"]) > 0


async def test_exchanged_model_is_found_before_a_search(bench: Bench) -> None:
    # Given a served generation, and another model behind the same address
    await bench.index(PUMP)
    assert (await bench.ask("pump")).status_code == 200
    bench.model.salt = "another"
    bench.clock[0] += CANARY_SECONDS
    # Then no search is made with it
    answer = await bench.ask("pump")
    assert (answer.status_code, answer.json()["reason"]) == (503, "EmbeddingChanged")
    # When the old one is back, or a generation is built with the new one, then searches go on
    bench.model.salt = ""
    assert (await bench.ask("pump")).status_code == 200
    bench.model.salt = "another"
    added = await bench.index(PUMP, name="g000002")
    assert added.json() == {"embedded": 1, "reused": 0}
    assert (await bench.ask("pump")).json()["generation"] == "g000002"


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (Response(status_code=503), 503, "EmbeddingUnavailable"),
        (Response(status_code=429), 503, "EmbeddingUnavailable"),
        (Response(status_code=401), 502, "EmbeddingRefused"),
        (Response("no json"), 502, "EmbeddingRefused"),
        (Response('{"data": []}'), 502, "EmbeddingRefused"),
        (Response('{"data": [{"index": 0, "embedding": []}]}'), 502, "EmbeddingRefused"),
        (Response('{"data": [{"index": 0, "embedding": [0.0, 0.0]}]}'), 502, "EmbeddingRefused"),
        (Response('{"data": [{"index": 0, "embedding": [1e999, 0.0]}]}'), 502, "EmbeddingRefused"),
        (Response('{"data": [{"index": 0, "embedding": [1.0]}]}'), 502, "EmbeddingRefused"),
    ],
)
async def test_ill_embedding_server_is_told(bench: Bench, fault: Response, status: int, reason: str) -> None:
    await bench.index(PUMP)
    bench.model.fault = fault
    answer = await bench.ask("pump")
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


async def test_long_question_is_searched_by_its_end(bench: Bench) -> None:
    await bench.index(PUMP)
    bench.model.context = 100
    answer = await bench.ask(f"{'a pasted text ' * 500} pump")
    assert answer.status_code == 200
    assert len(bench.model.embedded[-1].split()) <= 100
    assert bench.model.embedded[-1].endswith("pump")


async def test_passage_that_does_not_fit_the_model_is_refused_for_good(bench: Bench) -> None:
    bench.model.context = 20
    answer = await bench.index({**PUMP, "text": "bar " * 21})
    assert (answer.status_code, answer.json()["reason"]) == (502, "EmbeddingRefused")


async def test_errors_of_builds_have_statuses(bench: Bench) -> None:
    await bench.index(PUMP)
    unknown = await bench.post("/v1/builds/g000009/x/passages", {"passages": [passage(**PUMP)]})
    sealed = await bench.post("/v1/builds", {"name": "g000001", "token": "b"})
    bad_name = await bench.post("/v1/builds", {"name": "../x", "token": "b"})
    headers = {"Authorization": f"Bearer {BUILDER}"}
    dropped = await bench.client.delete("/v1/generations/g000001", headers=headers)
    told = [(item.status_code, item.json()["reason"]) for item in (unknown, sealed, bad_name, dropped)]
    assert told == [
        (404, "GenerationUnknown"),
        (409, "GenerationSealed"),
        (422, "InvalidRequest"),
        (409, "GenerationServing"),
    ]


async def test_request_without_end_is_cut_off(bench: Bench) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 2**20 + 2):
            yield b" " * 2**20

    answer = await bench.client.post(
        "/v1/tokens", content=endless(), headers={"Authorization": f"Bearer {BUILDER}"}
    )
    assert answer.status_code == 413


async def test_question_with_all_its_filters_has_room_and_no_more(bench: Bench) -> None:
    await bench.index(PUMP)
    # the longest there may be, each letter escaped to six bytes
    longest = {
        "query": "\u4e00" * 8000,
        "sources": [f"{number:04}{chr(0x4E00) * 196}" for number in range(100)],
        "documents": [f"{number:04}{chr(0x4E00) * 996}" for number in range(100)],
        "labels": {f"{number:04}{chr(0x4E00) * 196}": chr(0x4E00) * 200 for number in range(20)},
        "access": [f"{number:04}{chr(0x4E00) * 196}" for number in range(100)],
    }
    headers = {"Authorization": f"Bearer {READER}"}
    assert (
        await bench.client.post("/v1/retrieve", content=json.dumps(longest), headers=headers)
    ).status_code == 200
    padded = json.dumps(longest).encode() + b" " * 2**20
    assert (await bench.client.post("/v1/retrieve", content=padded, headers=headers)).status_code == 413


async def test_tokens_are_counted_by_the_models_own_tokenizer(bench: Bench) -> None:
    answer = await bench.post("/v1/tokens", {"texts": ["one two", "", "three"]})
    assert answer.json() == {"counts": [2, 0, 1]}


async def test_no_question_and_no_passage_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await bench.index({**PUMP, "text": "xylophone passage"})
        await bench.ask("zebra question")
        invalid = await bench.ask("zebra", topK="zebra value")
    assert "zebra value" not in invalid.text
    assert all(word not in caplog.text for word in ("xylophone", "zebra"))
