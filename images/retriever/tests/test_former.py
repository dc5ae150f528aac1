# SPDX-License-Identifier: Apache-2.0
"""Another embedding model: the older generation answers by the former one until the new one serves."""

from pathlib import Path

import httpx
import pytest

from nimblet_retriever.config import EmbeddingConfig
from retriever_testing.bench import BUILDER, MODEL, PUMP, Around, running
from retriever_testing.embeddings import EmbeddingServer

pytestmark = pytest.mark.asyncio
FORMER = MODEL
NEW = EmbeddingConfig(url="http://new/v1", model="n", fingerprint="digest@2")


def edited(new: EmbeddingServer, *, former: tuple[EmbeddingConfig, ...]) -> Around:
    """Return the surroundings after an edit of the embedding model."""
    return Around(embedding=NEW, former=former, hosts={"http://new": httpx.ASGITransport(app=new.app())})


async def test_older_generation_answers_by_its_own_model_until_the_new_one_serves(tmp_path: Path) -> None:
    # Given a generation of one model, and a retriever that was told of another
    async with running(tmp_path) as bench:
        await bench.index(PUMP)
    new = EmbeddingServer(salt="other")
    async with running(tmp_path, edited(new, former=(FORMER,))) as bench:
        # Then questions are embedded by the model that the generation was built with
        answer = await bench.ask("At how many bar does the pump run?")
        status = (await bench.get("/v1/status")).json()
        assert answer.json()["generation"] == "g000001"
        assert "At how many bar does the pump run?" in bench.model.embedded
        assert status["embedding"]["ok"]
        # When the new one's generation is built, it changes nothing until it serves
        await bench.build(PUMP, name="g000002")
        assert (await bench.ask("bar?")).json()["generation"] == "g000001"
        serve = {"Authorization": f"Bearer {BUILDER}"}
        await bench.client.put("/v1/serving", json={"generation": "g000002"}, headers=serve)
        answer = await bench.ask("Which pressure has the pump?")
        assert answer.json()["generation"] == "g000002"
        assert "Which pressure has the pump?" in new.embedded
        # And a roll back needs the former model again
        await bench.client.put("/v1/serving", json={"generation": "g000001"}, headers=serve)
        assert (await bench.ask("bar again?")).json()["generation"] == "g000001"
        assert "bar again?" in bench.model.embedded


async def test_generation_of_a_model_that_nobody_knows_any_more_is_never_searched_by_another(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as bench:
        await bench.index(PUMP)
    async with running(tmp_path, edited(EmbeddingServer(salt="other"), former=())) as bench:
        answer = await bench.ask("pump")
        status = (await bench.get("/v1/status")).json()
    assert (answer.status_code, answer.json()["reason"]) == (503, "EmbeddingChanged")
    assert status["embedding"]["reason"] == "EmbeddingChanged"
