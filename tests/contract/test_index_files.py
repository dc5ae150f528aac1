# SPDX-License-Identifier: Apache-2.0
"""What the operator renders for an index, read by the programs that it is rendered for."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from nimblet.api.retrievalindex import Language
from nimblet.conditions import Reason
from nimblet.nextstep import NEXT_STEP
from nimblet.plan import index_report
from nimblet.plan.index_report import EXIT_REASONS, LASTING, report_of
from nimblet.plan.retrievalindex import IndexPlan
from nimblet.settings import Settings, Tracing
from nimblet_indexer.config import IndexerConfig
from nimblet_indexer.outcome import Outcome
from nimblet_indexer.report import Failure, FileError, GateReport, Report, SourceReport, report_text
from nimblet_retriever.config import EmbeddedConfig, RerankerConfig, RetrieverConfig
from nimblet_retriever.keys import KeyRing, Scope
from nimblet_retriever.store.lexical import check_language
from tests.builders import child
from tests.golden.cases import INPUTS
from tests.golden.indexcases import plan_index_case
from tests.indexes import (
    KEYS,
    MINILM,
    NEW_KEYS,
    a_generation,
    a_retriever,
    an_index,
    build_of,
    built,
    first_facts,
    index_plan,
    workload,
)

CASES = sorted(path.stem for path in INPUTS.glob("index-*.yaml"))
RUNS = [name for name in CASES if name != "index-missing-model"]


def children_of(name: str) -> list[Any]:
    plan = plan_index_case(yaml.safe_load((INPUTS / f"{name}.yaml").read_text(encoding="utf-8")))
    return list(plan.children)


def configs_of(name: str, component: str) -> list[str]:
    found = [item for item in children_of(name) if item["kind"] == "ConfigMap"]
    label = "app.kubernetes.io/component"
    return [item["data"]["config.json"] for item in found if item["metadata"]["labels"][label] == component]


@pytest.mark.parametrize("name", RUNS)
def test_retriever_reads_its_configuration(name: str) -> None:
    (text,) = configs_of(name, "retriever")
    config = RetrieverConfig.model_validate_json(text)
    made = [item for item in children_of(name) if item["kind"] in ("StatefulSet", "Deployment")]
    workload = next(item for item in made if item["metadata"]["name"].endswith("-retriever"))
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    mounts = [Path(item["mountPath"]) for item in container["volumeMounts"]]
    others = (config.embedding.key_file, getattr(config.store, "key_file", None))
    for file in (config.keys_file, *(file for file in others if file is not None)):
        assert file.parent in mounts, f"{file} is in no volume of the pod"


def test_indexer_reads_its_configuration() -> None:
    (text,) = configs_of("index-building", "build")
    config = IndexerConfig.model_validate_json(text)
    job = child(children_of("index-building"), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    mounts = [Path(item["mountPath"]) for item in container["volumeMounts"]]
    folders = [folder for source in config.sources if (folder := getattr(source, "folder", None)) is not None]
    credentials = [found.folder for source in config.sources if (found := getattr(source, "credentials", None))]
    files = [config.retriever.key_file, *([config.gate.file] if config.gate is not None else [])]
    assert config.scratch in mounts
    for path in (*folders, *credentials):
        assert any(path.is_relative_to(mount) for mount in mounts), f"{path} is in no volume of the pod"
    for file in files:
        assert file.parent in mounts, f"{file} is in no volume of the pod"


def test_retriever_accepts_the_keys_of_the_secrets(tmp_path: Path) -> None:
    plan = index_plan(an_index(access={"push": True, "labels": ["staff"]}), first_facts())
    entries = child(plan.children, "Secret", "handbook-retriever-keys")["data"]
    (tmp_path / "keys.json").write_bytes(base64.b64decode(entries["keys.json"]))
    ring = KeyRing(tmp_path / "keys.json", now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    for scope, key in {
        Scope.SEARCH: KEYS.search,
        Scope.BUILD: KEYS.build,
        Scope.PUSH: KEYS.push,
        Scope.OPERATE: KEYS.operate,
    }.items():
        found = ring.find(f"Bearer {key}", scope)
        assert found is not None, f"the key for {scope} is refused"
        others = set(Scope) - {scope}
        assert ring.find(f"Bearer {key}", *others) is None, f"the key for {scope} opens more"
    search = ring.find(f"Bearer {KEYS.search}", Scope.SEARCH)
    assert search is not None
    assert search.access == {"everyone", "staff"}
    assert ring.find(f"Bearer {NEW_KEYS.search}", Scope.SEARCH) is None


def retriever_of(plan: IndexPlan) -> RetrieverConfig:
    text = child(plan.children, "ConfigMap", "handbook-retriever")["data"]["config.json"]
    return RetrieverConfig.model_validate_json(text)


def test_bounds_and_reranking_reach_the_retriever() -> None:
    bounds = {"reserve": "1Gi", "pushPassages": 500}
    search = {"rerankerRef": {"name": "ranker"}, "rerankCandidates": 40, "rerankTimeoutSeconds": 3}
    index, facts = built(an_index(store={"embedded": bounds}, search=search))
    config = retriever_of(
        index_plan(index, replace(facts, reranker=replace(MINILM, name="ranker", task="Rerank")))
    )
    assert isinstance(config.store, EmbeddedConfig)
    assert (config.store.reserve_bytes, config.store.push_passages) == (2**30, 500)
    assert config.reranker is not None
    assert (config.reranker.candidates, config.reranker.timeout_seconds) == (40, 3)


def test_defaults_told_for_bounds_and_reranking_are_the_retrievers() -> None:
    store = EmbeddedConfig(folder=Path("/index"))
    reranker = RerankerConfig(url="http://m/v1", model="m")
    assert (store.reserve_bytes, store.push_passages) == (256 * 2**20, 10_000)
    assert (reranker.candidates, reranker.timeout_seconds) == (20, 10)


def test_traces_of_retrievers_go_where_the_administrator_says() -> None:
    index, facts = built(an_index())
    settings = Settings(
        tracing=Tracing(endpoint="http://collector.telemetry.svc:4318/v1/traces", namespaces=("telemetry",))
    )
    assert retriever_of(index_plan(index, facts)).tracing is None
    plan = index_plan(index, facts, settings=settings)
    tracing = retriever_of(plan).tracing
    assert tracing is not None
    assert tracing.endpoint == "http://collector.telemetry.svc:4318"  # the retriever adds /v1/traces
    assert child(plan.children, "NetworkPolicy", "handbook-retriever")["spec"]["egress"][-1] == {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "telemetry"}}}],
        "ports": [{"protocol": "TCP", "port": 4318}],
    }


def test_retriever_reads_a_configuration_with_a_former_model() -> None:
    index, facts = built(an_index())
    former = index.status.embeddings[0].fingerprint
    kept = a_retriever(generations=(a_generation(embedding=former),))
    other = replace(MINILM, digest="e" * 32, url="http://gemma-model.team.svc/v1")
    plan = index_plan(index, replace(facts, retriever=kept, embedding=other))
    text = child(plan.children, "ConfigMap", "handbook-retriever")["data"]["config.json"]
    config = RetrieverConfig.model_validate_json(text)
    assert [item.fingerprint for item in config.former_embeddings] == [former]
    volumes = workload(plan)["spec"]["template"]["spec"]["volumes"]
    optional = [item["secret"]["optional"] for item in volumes if item["name"] == "embedding-1"]
    assert optional == [True], "a former model may be gone, and its key with it"


@pytest.mark.parametrize("language", get_args(Language))
def test_engine_knows_every_language(language: str) -> None:
    check_language(language)


def test_operator_reads_the_report() -> None:
    report = Report(
        generation="g000007",
        documents=3,
        passages=40,
        sources=(SourceReport(name="docs", revision="c" * 40, hash="h", documents=3, refused=1),),
        refused=1,
        errors=(FileError(file="docs/a.pdf", reason="Encrypted", message="remove the password"),),
        gate=GateReport(passed=False, asked=4, recall=0.5, failed=("q1",)),
        error=Failure(reason="GateFailed", message="recall 0.500 is below 0.900"),
    )
    build = build_of(an_index(), result=report_text(report), failed=True)
    found = report_of(build)
    assert found is not None
    assert found.source_statuses[0].revision == "c" * 40
    assert found.file_errors[0].reason == "Encrypted"
    assert found.gate_status is not None
    assert (found.gate_status.generation, found.gate_status.failed) == ("g000007", ["q1"])
    assert index_report.build_failure(build).reason is Reason.GATE_FAILED


@pytest.mark.parametrize("outcome", Outcome)
def test_every_end_of_a_build_is_a_reason_with_a_next_step(outcome: Outcome) -> None:
    reason = EXIT_REASONS[outcome.exit_code]
    assert reason == outcome.name
    assert reason in NEXT_STEP
    fenced = outcome is Outcome.BuildFenced  # another token took over: this operator's own newer Job
    assert (reason in LASTING) is not (outcome.retryable or fenced)


def test_no_key_is_in_any_child_but_its_secret() -> None:
    for name in CASES:
        for item in children_of(name):
            if item["kind"] != "Secret":
                text = json.dumps(item)
                assert not any(f'"nk-{purpose}"' in text for purpose in ("search", "build", "push", "operate"))
