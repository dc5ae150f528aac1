# SPDX-License-Identifier: Apache-2.0
"""Operator and gateway: the configuration that one renders the other reads, and the status that comes back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nimblet.api.assistant import Assistant
from nimblet.cluster.gatewaystatus import GatewayInquiry
from nimblet.manifests.gateway import CREDENTIALS_DIR, KEYS_DIR
from nimblet.plan.assistantfacts import AssistantFacts
from nimblet.plan.facts import Answer
from nimblet.settings import Settings, Tracing
from nimblet_gateway.config import GatewayConfig, read_config
from nimblet_gateway.selftest import DependencyStatus, IndexStatus, SelfTest, Status
from tests.assistants import OPERATOR_KEY_SHA256, a_reference, an_assistant, an_index, planned, references
from tests.builders import child

INQUIRY = GatewayInquiry(proof="passage and a token", epoch="")
OK = DependencyStatus(ok=True, reason="Ok", message="")
AWAY = DependencyStatus(ok=False, reason="Unreachable", message="the model does not answer")
HANDBOOK = IndexStatus(ok=True, reason="Ok", message="", name="handbook", generation="g000001")
EMPTY = IndexStatus(ok=False, reason="IndexEmpty", message="it holds nothing", name="wiki", generation=None)
GOOD = SelfTest(ok=True, reason="Ok", message="", passages=1, tokens=1, at=datetime(2026, 1, 1, tzinfo=UTC))


def rendered(assistant: Assistant, facts: AssistantFacts, folder: Path) -> GatewayConfig:
    """Return the configuration as the gateway reads it."""
    text = child(planned(assistant, facts).children, "ConfigMap")["data"]["config.json"]
    path = folder / "config.json"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_the_gateway_reads_the_smallest_assistant(tmp_path: Path) -> None:
    config = rendered(an_assistant(), references(), tmp_path)
    assert config.assistant == "help"
    assert config.grounding == "Required"
    assert (config.model.url, config.model.name) == ("http://smollm2-model.team.svc/v1", "smollm2")
    assert [(item.name, item.url) for item in config.indexes] == [
        ("handbook", "http://handbook-retriever.team.svc:8080")
    ]
    assert config.keys_dir == Path(KEYS_DIR)
    assert config.operator_key is not None
    assert config.operator_key.sha256 == OPERATOR_KEY_SHA256
    assert config.configuration == planned(an_assistant(), references()).status.configuration


def test_the_gateway_reads_all_that_a_spec_can_say(tmp_path: Path) -> None:
    limits = {"requestsPerMinute": 60, "tokensPerMinute": 2000, "concurrency": 16, "queue": 8}
    assistant = an_assistant(
        grounding="Preferred",
        guardRef={"name": "shield", "blocked": ["toxic"], "thresholdPercent": 70},
        fallback={"modelRef": {"name": "nano"}},
        limits={**limits, "requestSeconds": 60, "maxTokens": 256, "bodyBytes": 65536},
        retrieval={"topK": 20, "maxPassages": 5},
        systemPrompt="Antworte auf Deutsch.",
        replicas=3,
    )
    guard = a_reference("shield", task="Classify", labels=("fine", "toxic"))
    config = rendered(assistant, references(guard=guard, fallback=a_reference("nano")), tmp_path)
    assert config.guard is not None
    assert (config.guard.task, config.guard.threshold) == ("Classify", 0.7)
    assert config.guard.blocked == {"toxic"}
    assert config.fallback is not None
    assert config.fallback.name == "nano"
    assert config.limits.model_dump(by_alias=True) == {
        **limits,
        "requestSeconds": 60,
        "maxTokens": 256,
        "bodyBytes": 65536,
    }
    assert (config.retrieval.top_k, config.retrieval.max_passages, config.replicas) == (20, 5, 3)
    assert config.system_prompt == "Antworte auf Deutsch."


def test_defaults_of_operator_and_gateway_are_the_same(tmp_path: Path) -> None:
    config = rendered(an_assistant(), references(), tmp_path)
    plain = GatewayConfig.model_validate_json(
        '{"version":1,"assistant":"a","configuration":"c","grounding":"Off","keysDir":"/k",'
        '"model":{"url":"http://m/v1","name":"m","contextLength":4096}}'
    )
    assert config.limits == plain.limits
    assert config.retrieval == plain.retrieval


def test_traces_go_where_the_administrator_says(tmp_path: Path) -> None:
    endpoint = "http://collector.telemetry.svc:4318/v1/traces"
    settings = Settings(tracing=Tracing(endpoint=endpoint, namespaces=("telemetry",)))
    children = planned(an_assistant(), references(), settings=settings).children
    path = tmp_path / "config.json"
    path.write_text(child(children, "ConfigMap")["data"]["config.json"], encoding="utf-8")
    tracing = read_config(path).tracing
    assert tracing is not None
    assert tracing.endpoint == endpoint
    assert child(children, "NetworkPolicy")["spec"]["egress"][-1] == {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "telemetry"}}}],
        "ports": [{"protocol": "TCP", "port": 4318}],
    }


def test_an_assistant_without_grounding_is_read(tmp_path: Path) -> None:
    assistant = an_assistant(grounding="Off", indexRefs=[])
    assert rendered(assistant, references(indexes=()), tmp_path).indexes == ()


def test_every_key_file_that_the_gateway_reads_is_mounted(tmp_path: Path) -> None:
    assistant = an_assistant(
        guardRef={"name": "shield"},
        fallback={"modelRef": {"name": "nano"}},
        indexRefs=[{"name": "handbook"}, {"name": "wiki"}],
    )
    facts = references(
        guard=a_reference("shield"), fallback=a_reference("nano"), indexes=(an_index(), an_index("wiki"))
    )
    config = rendered(assistant, facts, tmp_path)
    asked = [config.model, config.guard, config.fallback, *config.indexes]
    spec = child(planned(assistant, facts).children, "Deployment")["spec"]["template"]["spec"]
    volumes = {item["name"]: item for item in spec["volumes"]}
    sources: list[Any] = volumes["credentials"]["projected"]["sources"]
    mounted = {f"{CREDENTIALS_DIR}/{item['secret']['items'][0]['path']}" for item in sources}
    assert {str(item.key_file) for item in asked if item is not None} == mounted
    paths = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert {CREDENTIALS_DIR, KEYS_DIR} <= paths


@pytest.mark.parametrize(
    ("change", "expected", "reason"),
    [
        ({}, Answer.ANSWERED, ""),
        ({"indexes": (HANDBOOK, EMPTY)}, Answer.PARTLY, "IndexEmpty"),
        ({"self_test": SelfTest(ok=False, reason="NotRunYet", message="soon")}, Answer.UNPROVEN, "NotRunYet"),
        (
            {"self_test": SelfTest(ok=False, reason="IndexEmpty", message="nothing"), "indexes": (EMPTY,)},
            Answer.FAILED,
            "IndexEmpty",
        ),
        (
            {"self_test": SelfTest(ok=False, reason="ModelUnavailable", message="away"), "model": AWAY},
            Answer.FAILED,
            "ModelUnavailable",
        ),
        (
            {
                "self_test": SelfTest(ok=False, reason="ModelUnavailable", message="away"),
                "model": AWAY,
                "fallback": OK,
            },
            Answer.PARTLY,
            "ModelUnavailable",
        ),
    ],
)
def test_the_operator_understands_the_gateways_status(
    change: dict[str, Any], expected: Answer, reason: str
) -> None:
    status = Status(
        configuration="abc", self_test=GOOD, indexes=(HANDBOOK,), model=OK, guard=None, fallback=None
    ).model_copy(update=change)
    found = INQUIRY.judge(status.model_dump_json(by_alias=True).encode(), source_hash="")
    assert found.answer is expected
    assert found.reason == reason


def test_what_is_no_status_proves_nothing() -> None:
    assert INQUIRY.judge(b"[]", source_hash="").answer is Answer.FAILED
