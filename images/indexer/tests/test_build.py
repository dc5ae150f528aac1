# SPDX-License-Identifier: Apache-2.0
"""A build from sources to swap: what holds it, and what it tells; the old generation stays until it is done."""

import json
from pathlib import Path

import httpx
import pytest

from indexer_testing.build import Bench, told
from loader_testing.server import Reply
from nimblet_egress.errors import Reason
from nimblet_indexer.outcome import Outcome
from nimblet_indexer.progress import served
from retriever_testing.process import free_port

AWAY = Reply(503, {"Retry-After": "1", "Content-Length": "0"})
FORGOTTEN = told({"reason": "GenerationUnknown", "message": "begin it"}, 404)


@pytest.fixture
def wiki(bench: Bench) -> dict[str, object]:
    """A volume of four documents."""
    folder = bench.folder / "wiki"
    folder.mkdir()
    for name in ("a", "b", "c", "d"):
        (folder / f"{name}.txt").write_text(f"This is document {name}.")
    return {"name": "wiki", "folder": str(folder)}


def golden(bench: Bench, text: str) -> dict[str, object]:
    """Write golden questions and return the gate that asks them."""
    path = bench.folder / "golden.jsonl"
    path.write_text(text)
    return {"file": str(path), "k": 3, "minRecall": 0.9, "minMRR": 0.5}


QUESTION = json.dumps({"id": "q1", "question": "Which?", "document": "wiki/a.txt", "quote": "document a"})


def test_documents_are_handed_over_sealed_and_served(bench: Bench, wiki: dict[str, object]) -> None:
    ending = bench.build(wiki)
    assert ending.failed is None
    assert (ending.report.documents, ending.report.passages, ending.report.served) == (4, 4, True)
    assert bench.retriever.documents() == {f"wiki/{name}.txt" for name in "abcd"}
    assert (bench.retriever.sealed, bench.retriever.serving) == (["g000002"], "g000002")


def test_pinned_index_gets_the_generation_and_no_swap(bench: Bench, wiki: dict[str, object]) -> None:
    bench.retriever.serving = "g000001"
    ending = bench.build(wiki, serve=False)
    assert (ending.failed, ending.report.served) == (None, False)
    assert (bench.retriever.sealed, bench.retriever.serving) == (["g000002"], "g000001")


def test_generation_that_falls_through_its_gate_does_not_serve(bench: Bench, wiki: dict[str, object]) -> None:
    # Given a serving generation and golden questions that the new one fails
    bench.retriever.serving = "g000001"
    bench.retriever.gate = {"passed": False, "asked": 1, "recall": 0.0, "mrr": 0, "ndcg": 0, "failed": ["q1"]}
    ending = bench.build(wiki, gate=golden(bench, QUESTION))
    # Then it is sealed and the old one serves, and the report says which questions fell
    assert ending.failed is not None
    assert ending.failed.reason is Outcome.GateFailed
    assert ending.report.gate is not None
    assert (ending.report.gate.passed, ending.report.gate.failed, ending.report.served) == (False, ("q1",), False)
    assert (bench.retriever.sealed, bench.retriever.serving) == (["g000002"], "g000001")


def test_gate_is_asked_as_the_contract_says(bench: Bench, wiki: dict[str, object]) -> None:
    assert bench.build(wiki, gate=golden(bench, f"{QUESTION}\n\n")).report.served
    assert bench.retriever.gated == {
        "questions": [json.loads(QUESTION)],
        "k": 3,
        "minRecall": 0.9,
        "minMRR": 0.5,
    }
    assert bench.retriever.asked.index("POST /v1/generations/g000002/gate") < bench.retriever.asked.index(
        "PUT /v1/serving"
    )


@pytest.mark.parametrize(
    "text", ["", "no json", '{"id": "q1", "question": "secret words"}', f"{QUESTION}\n{QUESTION}"]
)
def test_golden_questions_that_are_none_are_told_before_anything_is_built(
    bench: Bench, wiki: dict[str, object], text: str
) -> None:
    ending = bench.build(wiki, gate=golden(bench, text))
    assert ending.failed is not None
    assert ending.failed.reason is Outcome.GateInvalid
    assert "secret words" not in ending.failed.message
    assert bench.retriever.asked == []


def test_source_that_suddenly_lists_few_files_holds_the_swap(bench: Bench, wiki: dict[str, object]) -> None:
    # Given a volume that had ten documents and has four
    bench.retriever.serving = "g000001"
    shrunk = bench.build({**wiki, "previousDocuments": 10}, maxShrink=50)
    # Then nothing is built, and the reason names the source
    assert shrunk.failed is not None
    assert shrunk.failed.reason is Outcome.SourceShrunk
    assert shrunk.report.error is not None
    assert (shrunk.report.error.source, bench.retriever.sealed) == ("wiki", [])
    # And a loss that is allowed is none
    assert bench.build({**wiki, "previousDocuments": 8}, maxShrink=50).report.served


def test_source_whose_files_suddenly_can_not_be_read_holds_the_swap(bench: Bench, wiki: dict[str, object]) -> None:
    for path in Path(str(wiki["folder"])).iterdir():
        if path.name != "a.txt":
            path.write_bytes(b"caf\xe9")
    ending = bench.build({**wiki, "previousDocuments": 4}, maxShrink=50)
    assert ending.failed is not None
    assert ending.failed.reason is Outcome.SourceShrunk
    assert (ending.report.refused, len(ending.report.errors)) == (3, 3)
    assert bench.retriever.sealed == []


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (told({"reason": "StoreFull", "message": "no room"}, 507), Outcome.StoreFull),
        (told({"reason": "EmbeddingRefused", "message": "no"}, 502), Outcome.EmbeddingRefused),
        (told({"reason": "KeyRefused", "message": "no"}, 401), Outcome.KeyRefused),
        (told({"reason": "BuildFenced", "message": "no"}, 409), Outcome.BuildFenced),
        (told({"reason": "Else", "message": "no"}, 422), Outcome.RetrieverRefused),
        (told({"reason": "EmbeddingUnavailable", "message": "starting"}, 503), Outcome.EmbeddingUnavailable),
        (Reply(503, {"Content-Length": "0"}), Outcome.RetrieverUnavailable),
    ],
)
def test_retrievers_refusals_have_their_own_exit_codes(
    bench: Bench, wiki: dict[str, object], reply: Reply, outcome: Outcome
) -> None:
    bench.retriever.faults["passages"] = [reply] * 40
    retriever = {"url": bench.url, "keyFile": str(bench.folder / "key"), "patienceSeconds": 0.001}
    ending = bench.build(wiki, retriever=retriever)
    assert ending.failed is not None
    assert ending.failed.reason is outcome
    assert ending.report.error is not None
    assert ending.report.error.reason == outcome.name


def test_exit_codes_are_distinct() -> None:
    codes = [reason.exit_code for reason in (*Reason, *Outcome)]
    assert len(set(codes)) == len(codes)
    assert all(10 <= code < 128 for code in codes)


def test_retriever_that_was_restarted_resumes_the_build(bench: Bench, wiki: dict[str, object]) -> None:
    bench.retriever.faults["passages"] = [FORGOTTEN]
    assert bench.build(wiki).report.served
    assert bench.retriever.asked.count("POST /v1/builds") == 2


def test_seal_whose_answer_was_lost_is_done(bench: Bench, wiki: dict[str, object]) -> None:
    bench.retriever.sealed.append("g000002")
    bench.retriever.faults["seal"] = [FORGOTTEN]
    assert bench.build(wiki).report.served


def test_generation_that_an_earlier_try_completed_is_judged_and_served(
    bench: Bench, wiki: dict[str, object]
) -> None:
    bench.retriever.sealed.append("g000002")
    ending = bench.build(wiki)
    assert (ending.report.served, bench.retriever.passages) == (True, {})


def test_sources_without_text_serve_nothing(bench: Bench) -> None:
    (bench.folder / "empty").mkdir()
    ending = bench.build({"name": "wiki", "folder": str(bench.folder / "empty")})
    assert ending.failed is not None
    assert ending.failed.reason is Outcome.IndexEmpty
    assert bench.retriever.sealed == []


def test_missing_volume_is_told_by_its_source(bench: Bench) -> None:
    ending = bench.build({"name": "wiki", "folder": str(bench.folder / "none")})
    assert ending.failed is not None
    assert (ending.failed.reason, ending.failed.source) == (Outcome.VolumeMissing, "wiki")


def test_old_generations_go_after_the_swap(bench: Bench, wiki: dict[str, object]) -> None:
    bench.retriever.sealed += ["g000000", "g000001"]
    bench.retriever.serving = "g000001"
    assert bench.build(wiki, retain=1).report.served
    assert bench.retriever.sealed == ["g000001", "g000002"]


def test_progress_and_metrics_are_served(bench: Bench, wiki: dict[str, object]) -> None:
    port = free_port()
    with served(bench.progress, port), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        assert client.get("/progress").json()["phase"] == "Listing"
        bench.build(wiki)
        assert client.get("/progress").json() == {
            "percent": 100,
            "phase": "Done",
            "files": 4,
            "total": 4,
            "embedded": 4,
            "reused": 0,
        }
        metrics = client.get("/metrics").text
        assert 'nimblet_indexer_passages_total{vector="embedded"} 4.0' in metrics
        assert "wiki" not in metrics
        assert client.get("/else").status_code == 404
