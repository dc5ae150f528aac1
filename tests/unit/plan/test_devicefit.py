# SPDX-License-Identifier: Apache-2.0
"""Safetensors models on nodes with devices: what is too small says what would fit, and how many would share."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nimblet.api.compactmodel import CompactModelStatus
from nimblet.plan.facts import NodeFacts
from nimblet.plan.result import Plan
from tests.builders import a_model, artifact_text, base_facts, kinds, plan_of, stored
from tests.conditions import message, shown
from tests.hardwarepools import SETTINGS, WHOLE, a_node_of

HEADER = {
    "architecture": "Qwen2ForCausalLM",
    "modelType": "qwen2",
    "dtype": "bfloat16",
    "parameters": 7_615_616_512,
    "tensorBytes": 15_231_233_024,
    "tensorTypes": {"BF16": 15_231_233_024},
    "contextLength": 32768,
    "embeddingLength": 3584,
    "feedForwardLength": 18944,
    "blockCount": 28,
    "headCount": 28,
    "headCountKv": 4,
    "keyLength": 128,
    "valueLength": 128,
    "vocabSize": 152064,
    "chatTemplate": True,
}
FILES = [{"path": "model.safetensors", "size": 15_231_271_856, "sha256": "ab" * 32}]


def a_gpu_node(*, gibibytes: int, devices: int = 8) -> NodeFacts:
    """Return a node with whole devices of this memory."""
    machine = replace(WHOLE, resources={**WHOLE.resources, "nvidia.com/gpu": str(devices)})
    named = a_node_of(machine, name="n")
    return replace(named, labels={**named.labels, "nvidia.com/gpu.memory": str(gibibytes * 1024)})


def planned(node: NodeFacts, *, count: int | None = None, **runtime: Any) -> Plan[CompactModelStatus]:
    return planned_shape({}, node, count=count, **runtime)


def planned_shape(
    shape: Mapping[str, Any], node: NodeFacts, *, count: int | None = None, **runtime: Any
) -> Plan[CompactModelStatus]:
    """Return the plan of a model that differs from HEADER by `shape`."""
    hardware: dict[str, object] = {"profile": "nvidia"} | ({"count": count} if count else {})
    model = a_model(source={"uri": "hf://Qwen/Qwen2.5-7B-Instruct"}, hardware=hardware, runtime=runtime)
    text = artifact_text(header={**HEADER, **shape}, format="Safetensors", files=FILES)
    facts = base_facts(model, artifacts=(stored(model, text, settings=SETTINGS),), nodes=(node,))
    return plan_of(model, facts, settings=SETTINGS)


def test_devices_that_are_too_small_tell_what_would_fit_them() -> None:
    plan = planned(a_gpu_node(gibibytes=24, devices=1), contextLength=32768, parallel=4)
    assert shown(plan, "Placed") == ("False", "DeviceTooSmall")
    assert "Deployment" not in kinds(plan)
    said = message(plan, "Ready")
    assert "on each of 1 nvidia.com/gpu, and the largest has 24.00Gi" in said
    assert "; a contextLength of " in said
    assert "or parallel of " in said


def test_what_is_suggested_fits() -> None:
    node = a_gpu_node(gibibytes=24, devices=1)
    said = message(planned(node, contextLength=32768, parallel=4), "Ready")
    context = int(said.partition("a contextLength of ")[2].partition(" ")[0])
    slots = int(said.partition("parallel of ")[2].partition(" ")[0])
    for runtime in ({"contextLength": context, "parallel": 4}, {"contextLength": 32768, "parallel": slots}):
        assert "Deployment" in kinds(planned(node, **runtime))
    for runtime in (
        {"contextLength": context + 256, "parallel": 4},
        {"contextLength": 32768, "parallel": slots + 1},
    ):
        assert shown(planned(node, **runtime), "Placed") == ("False", "DeviceTooSmall")


def test_heads_that_devices_can_not_share_are_told_before_any_pod() -> None:
    plan = planned(a_gpu_node(gibibytes=24), count=3)
    assert shown(plan, "Placed") == ("False", "RuntimeUnsuitable")
    assert "28 attention heads can't be divided among 3 devices" in message(plan, "Ready")
    assert "Deployment" not in kinds(plan)


def test_counts_that_leave_heads_of_keys_and_values_over_are_neither_made_nor_suggested() -> None:
    phi = {"headCount": 40, "headCountKv": 10, "embeddingLength": 5120}
    plan = planned_shape(phi, a_gpu_node(gibibytes=24), count=4)
    assert shown(plan, "Placed") == ("False", "RuntimeUnsuitable")
    assert "10 heads of keys and values can't be divided among 4 devices" in message(plan, "Ready")
    assert "Deployment" not in kinds(plan)
    small = planned_shape(phi, a_gpu_node(gibibytes=10), contextLength=8192)
    assert "; hardware.count 5 would do" in message(small, "Ready")


def test_counts_that_can_not_share_are_not_suggested() -> None:
    plan = planned(a_gpu_node(gibibytes=10), contextLength=8192)
    assert "; hardware.count 4 would do" in message(plan, "Ready")
    assert "Deployment" in kinds(planned(a_gpu_node(gibibytes=10), count=4, contextLength=8192))
