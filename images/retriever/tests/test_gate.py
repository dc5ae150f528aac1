# SPDX-License-Identifier: Apache-2.0
"""The quality gate: its figures by hand, what counts as found, and the gate over a running index."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from nimblet_retriever.gate import GateRequest, Golden, Rank, judge, point_of, rank_of, scores_of
from nimblet_retriever.store.chunk import Hit
from retriever_testing.bench import BUILDER, OPERATOR, PUMP, READER, SECRET, Bench, running
from retriever_testing.golden import ASK_PAINTED, PAINTED

WHALE: dict[str, object] = {"document": "whale", "text": "A whale sleeps near the surface.", "access": []}
ASK_PUMP = {"id": "q1", "question": "How many bar?", "document": "pump", "quote": "runs at 45 bar"}
ASK_WHALE = {"id": "q2", "question": "Where does a whale sleep?", "document": "whale", "quote": "near the surface"}


def hit(text: str, *, document: str = "wiki/pump.md") -> Hit:
    """Return a hit of the source wiki."""
    return Hit(
        id="1",
        score=1.0,
        document=document,
        position=0,
        text=text,
        source="wiki",
        title="",
        location="",
        labels={},
    )


def golden(quote: str, *, document: str = "wiki/pump.md") -> Golden:
    """Return a question about the pump."""
    return Golden(id="q", question="?", document=document, quote=quote)


def test_figures_by_hand() -> None:
    # Given ranks 1, 2, 4 and none
    ranks = [Rank(id=str(rank), rank=rank) for rank in (1, 2, 4, None)]
    # Then recall counts three, and the others weigh by place
    scores = scores_of("g000001", ranks)
    assert scores.recall == pytest.approx(3 / 4)
    assert scores.mrr == pytest.approx((1 + 1 / 2 + 1 / 4) / 4)
    assert scores.ndcg == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(5)) / 4)


@pytest.mark.parametrize(
    ("text", "quote", "found"),
    [
        ("The pump runs at 45 bar.", "runs at 45 bar", True),
        ("The pump RUNS\n at 45\u00a0bar.", "runs  at “45 bar”", True),
        ("Sea wash | 4 kg | 83 min", "4 kg 83 min", True),
        ("The pump runs at 450 bar.", "runs at 45", False),
        ("runs at", "at runs", False),
        ("ends with the tap is", "the tap is closed", True),
        ("is closed. Open it.", "the tap is closed", False),
        ("tap is closed. Open it.", "the tap is closed", True),
    ],
)
def test_quote_is_found_by_its_words(text: str, quote: str, *, found: bool) -> None:
    assert (rank_of(golden(quote), [hit(text)]).rank is not None) is found


def test_document_is_named_by_its_id_or_by_its_path_in_the_source() -> None:
    hits = [hit("The pump.", document="wiki/other.md"), hit("The pump.")]
    assert rank_of(golden("pump"), hits).rank == 2
    assert rank_of(golden("pump", document="pump.md"), hits).rank == 2
    assert rank_of(golden("pump", document="ump.md"), hits).rank is None


def test_each_bound_must_be_reached() -> None:
    # Given recall 1, and every passage in the second place
    ranks = [Rank(id="q", rank=2)]

    def passed(**bounds: float) -> bool:
        request = GateRequest.model_validate({"questions": [ASK_PUMP], "minRecall": 1.0, **bounds})
        point = point_of(request.questions, [()], [()])
        return judge(request, "g000001", ranks, serving=None, point=point).passed

    assert passed()
    assert passed(minMRR=0.5)
    assert not passed(minMRR=0.51)
    assert passed(minNDCG=0.63)
    assert not passed(minNDCG=0.64)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An empty index."""
    async with running(tmp_path) as made:
        yield made


@pytest.mark.asyncio
async def test_sealed_generation_is_gated_before_anybody_sees_it(bench: Bench) -> None:
    # Given a serving generation without the whale, and a sealed one with it, which no key may find
    await bench.index(PUMP)
    await bench.build(PUMP, WHALE, name="g000002")
    # When the golden questions are asked of the sealed one
    body = {"questions": [ASK_PUMP, ASK_WHALE], "k": 2, "minRecall": 1.0}
    answer = await bench.post("/v1/generations/g000002/gate", body)
    # Then it passes, beside how the serving one fares, and tells no text
    told = answer.json()
    assert (answer.status_code, told["passed"], told["recall"], told["asked"]) == (200, True, 1.0, 2)
    assert told["serving"]["generation"] == "g000001"
    assert told["serving"]["recall"] == 0.5
    assert all(word not in answer.text for word in ("whale", "bar", "surface"))
    # And the result stays with its generation; what answers is still the first
    status = (await bench.get("/v1/status")).json()
    assert {item["name"]: item["gate"] for item in status["generations"]} == {"g000001": None, "g000002": told}
    assert (await bench.ask("whale")).json()["generation"] == "g000001"


@pytest.mark.asyncio
async def test_failed_gate_names_the_questions_that_fell(bench: Bench) -> None:
    await bench.build(PUMP, SECRET, name="g000001")
    body = {"questions": [ASK_PUMP, ASK_WHALE], "k": 2, "minRecall": 0.9}
    told = (await bench.post("/v1/generations/g000001/gate", body)).json()
    assert (told["passed"], told["failed"], told["recall"], told["serving"]) == (False, ["q2"], 0.5, None)


@pytest.mark.asyncio
async def test_generation_is_calibrated_by_questions_without_their_documents(bench: Bench) -> None:
    # Given a generation that was asked twenty questions, each of which one document answers
    await bench.build(*PAINTED, PUMP, name="g000001")
    body = {"questions": ASK_PAINTED, "k": 5, "minRecall": 0.5}
    point = (await bench.post("/v1/generations/g000001/gate", body)).json()["point"]
    # Then its threshold refuses them where that document is left out, and answers them where it is not
    assert (point["basis"], point["asked"], point["answered"]) == ("Calibrated", 20, 1.0)
    assert point["refused"] >= 0.95
    # And it goes with every answer of that generation, and of no other
    await bench.build(PUMP, name="g000002")
    for name, told in (("g000001", point["threshold"]), ("g000002", None), ("g000001", point["threshold"])):
        await bench.serve(name)
        answer = (await bench.ask("pump")).json()
        assert (answer["generation"], answer["threshold"]) == (name, told)


@pytest.mark.asyncio
async def test_few_questions_leave_the_default(bench: Bench) -> None:
    await bench.index(PUMP)
    body = {"questions": [ASK_PUMP], "minRecall": 0.5}
    point = (await bench.post("/v1/generations/g000001/gate", body)).json()["point"]
    assert (point["basis"], point["asked"]) == ("TooFewQuestions", 1)
    assert (await bench.ask("pump")).json()["threshold"] is None


def test_a_question_that_finds_nothing_else_calibrates_nothing() -> None:
    questions = [golden("pump").model_copy(update={"id": f"q{number}"}) for number in range(30)]
    found = [[hit("The pump.")] for _ in questions]
    assert point_of(questions, found, [() for _ in questions]).basis == "TooFewQuestions"


@pytest.mark.asyncio
async def test_generation_of_another_model_is_not_compared_with(bench: Bench) -> None:
    # Given a serving generation, and one that another model embedded
    await bench.index(PUMP)
    bench.model.salt = "another"
    await bench.build(PUMP, name="g000002")
    # When that is gated, then there is nothing to compare with
    body = {"questions": [ASK_PUMP], "minRecall": 0.5}
    told = (await bench.post("/v1/generations/g000002/gate", body)).json()
    assert (told["passed"], told["serving"]) == (True, None)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "change", "status", "reason"),
    [
        ("g000009", {}, 404, "GenerationUnknown"),
        ("g000001", {"questions": []}, 422, "InvalidRequest"),
        ("g000001", {"questions": [ASK_PUMP, ASK_PUMP]}, 422, "InvalidRequest"),
        ("g000001", {"questions": [{**ASK_PUMP, "quote": "..."}]}, 422, "InvalidRequest"),
        ("g000001", {"minRecall": 1.5}, 422, "InvalidRequest"),
    ],
)
async def test_wrong_gate_is_refused(
    bench: Bench, name: str, change: dict[str, object], status: int, reason: str
) -> None:
    await bench.build(PUMP, name="g000001")
    body = {"questions": [ASK_PUMP], "minRecall": 1.0, **change}
    answer = await bench.post(f"/v1/generations/{name}/gate", body)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


@pytest.mark.asyncio
async def test_gate_needs_a_builders_key(bench: Bench) -> None:
    for key in (READER, OPERATOR):
        assert (await bench.post("/v1/generations/g000001/gate", {}, key=key)).status_code == 401
    assert (await bench.get("/v1/status", key=BUILDER)).status_code == 401
