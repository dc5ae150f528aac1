# SPDX-License-Identifier: Apache-2.0
"""The operating point on its way: found by the retriever's gate, told by the operator, obeyed by the gateway."""

from pathlib import Path

import pytest

from nimblet.cluster.retrieverstatus import RetrieverInquiry, retriever_facts
from nimblet.plan.index_point import operating_point
from nimblet.plan.indexfacts import RetrieverFacts
from nimblet_gateway.config import RetrievalConfig
from nimblet_gateway.grounded import relevant
from nimblet_gateway.retriever import Found
from retriever_testing.bench import PUMP, Bench, running
from retriever_testing.golden import ASK_PAINTED, PAINTED

pytestmark = pytest.mark.asyncio
DEFAULT = RetrievalConfig().threshold
GATE = {"questions": ASK_PAINTED, "k": 5, "minRecall": 0.5}


async def told(bench: Bench) -> RetrieverFacts:
    """Return the retriever's status as the operator reads it."""
    answer = await bench.get("/v1/status")
    facts = retriever_facts(RetrieverInquiry().judge(answer.content, source_hash=""))
    assert facts is not None
    return facts


async def asked(bench: Bench, question: object, documents: list[str]) -> tuple[bool, bool]:
    """Return whether the gateway answers from these documents: by the index's own threshold, by the default."""
    answer = await bench.ask(str(question), documents=documents, topK=10)
    found = Found.model_validate_json(answer.content)
    calibrated = {found.index: found.threshold} if found.threshold is not None else {}
    by_index = relevant([str(question)], found.passages, threshold=DEFAULT, calibrated=calibrated)
    by_default = relevant([str(question)], found.passages, threshold=DEFAULT)
    return bool(by_index), bool(by_default)


async def test_what_the_gate_found_is_told_and_refuses_what_the_default_would_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        # Given a generation that twenty golden questions calibrated
        await bench.build(*PAINTED, PUMP, name="g000001")
        point = (await bench.post("/v1/generations/g000001/gate", GATE)).json()["point"]
        await bench.serve("g000001")
        # Then the status says so
        facts = await told(bench)
        serving = facts.generation(facts.serving)
        assert serving is not None
        status = operating_point(serving)
        assert (status.generation, status.basis, status.asked) == ("g000001", "Calibrated", 20)
        assert status.threshold == pytest.approx(point["threshold"], abs=1e-4)
        # And the gateway refuses a question whose document is left out, which the default would not
        others = [str(item["document"]) for item in PAINTED]
        results = [
            await asked(bench, item["question"], [name for name in others if name != item["document"]])
            for item in ASK_PAINTED
        ]
        assert sum(not by_index for by_index, _ in results) >= 0.95 * len(results)
        assert all(by_default for _, by_default in results)
        # And answers it where the document is there
        assert (await asked(bench, ASK_PAINTED[0]["question"], others))[0]


async def test_without_golden_questions_the_default_stays_and_the_status_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.index(PUMP)
        facts = await told(bench)
        serving = facts.generation(facts.serving)
        assert serving is not None
        status = operating_point(serving)
        assert (status.basis, status.threshold) == ("NoGoldenQuestions", None)
        assert "spec.qualityGate.goldenRef" in status.message
        found = Found.model_validate_json((await bench.ask("pump")).content)
        assert found.threshold is None


async def test_few_golden_questions_leave_the_default_and_the_status_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.index(PUMP)
        few = {"questions": ASK_PAINTED[:1], "minRecall": 0.0}
        await bench.post("/v1/generations/g000001/gate", few)
        facts = await told(bench)
        serving = facts.generation(facts.serving)
        assert serving is not None
        status = operating_point(serving)
        assert (status.basis, status.threshold, status.asked) == ("TooFewQuestions", None, 1)
        assert (await asked(bench, "How many bar has the pump?", ["pump"]))[0]
