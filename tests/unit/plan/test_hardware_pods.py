# SPDX-License-Identifier: Apache-2.0
"""What a pod on chosen hardware asks for: devices, memory, images, and what security and policies allow it."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet.api.compactmodel import CompactModel
from nimblet.plan.facts import NodeFacts
from nimblet.plan.offload import device_memory_needed, size_offloaded
from nimblet.plan.places import GPU_RESOURCE
from nimblet.plan.sizing import ADAPTED_BYTES, Demand, compute_bytes, draft_bytes, kv_cache_bytes
from nimblet.plan.teefacts import TEEFacts
from nimblet.settings import Settings
from tests.builders import a_header, a_model, a_node, kinds
from tests.conditions import message, shown
from tests.hardwarepools import GAUDI, MIG, SETTINGS, WHOLE, XEON, nodes_of
from tests.teepools import GPU, SNP, a_policy, runtime_classes
from tests.unit.plan.hardwareplans import choice, hardware_of, node, on, own, pod_of, resolved

# security and policies


@pytest.mark.parametrize(
    ("level", "made"), [("", True), ("privileged", True), ("baseline", False), ("restricted", False)]
)
def test_a_profile_that_needs_more_than_the_namespace_allows_gets_no_pod(level: str, made: bool) -> None:
    model = a_model(hardware={"profile": "lab"})
    plan = on(model, node(GAUDI), pod_security=level)
    assert ("Deployment" in kinds(plan)) is made
    if made:
        assert hardware_of(plan).needs == ["hostIPC"]
        assert pod_of(plan)["hostIPC"] is True
    else:
        assert shown(plan, "Placed") == ("False", "HardwareForbidden")
        assert f"needs hostIPC, and the namespace enforces {level}" in message(plan, "Ready")


def confidential(
    model: CompactModel, *nodes: NodeFacts, settings: Settings = SETTINGS, technology: str = "NVIDIA-CC"
) -> Any:
    spec = {"technologies": [technology], "enforcement": "Required", "attestation": {"mode": "Simulated"}}
    spec["namespaceSelector"] = {"matchLabels": {"a": "b"}}
    tee = TEEFacts(policies=(a_policy("p", spec),), namespace_labels={"a": "b"}, runtime_classes=runtime_classes())
    return on(model, *nodes, settings=settings, tee=tee)


def test_a_policys_runtime_class_stands_over_the_profiles() -> None:
    plan = confidential(
        a_model(hardware={"profile": "nvidia"}),
        node(WHOLE, labels={**WHOLE.labels, **SNP}),
        settings=own(nvidia={"runtimeClassName": "nvidia"}),
        technology="SNP",
    )
    assert pod_of(plan)["runtimeClassName"] == "kata-qemu-snp"
    assert "the TEEPolicy's RuntimeClass kata-qemu-snp stands over nvidia" in resolved(plan).why


def test_confidential_gpus_are_passed_through() -> None:
    guarded = a_node("cc", memory=64 * 2**30, cpu=16000, resources={GPU_RESOURCE: 4})
    guarded = replace(guarded, labels={**GPU, **SNP})
    for model in (a_model(), a_model(hardware={"profile": "nvidia", "count": 2})):
        plan = confidential(model, guarded)
        assert choice(plan) == ("nvidia", GPU_RESOURCE)
        limits = pod_of(plan)["containers"][0]["resources"]["limits"]
        assert limits[GPU_RESOURCE] == str(model.spec.hardware.count or 1)


def test_no_guest_shares_the_nodes_ipc() -> None:
    plan = confidential(a_model(hardware={"profile": "lab"}), node(GAUDI, labels=SNP), technology="SNP")
    assert shown(plan, "Ready") == ("False", "HardwareForbidden")


# what is asked for


def test_nodes_with_smaller_devices_are_kept_out_by_their_labels() -> None:
    model = a_model(hardware={"profile": "nvidia"})
    mixed = (node(WHOLE), node(WHOLE, name="tiny", labels={"nvidia.com/gpu.memory": "512"}))
    terms = pod_of(on(model, *mixed))["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (floor, *_) = terms["nodeSelectorTerms"][0]["matchExpressions"]
    needed = device_memory_needed(
        a_header(),
        Demand(context_length=4096, parallel=2, kv_cache_type="f16", prompt_cache_mebibytes=64),
        devices=1,
    )
    assert floor == {"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": [str(-(-needed // 2**20) - 1)]}
    untold = node(WHOLE, labels={})
    assert "affinity" not in pod_of(on(model, untold))


def test_device_memory_is_weights_cache_and_for_each_device_its_buffers() -> None:
    demand = Demand(context_length=4096, parallel=2, kv_cache_type="f16", prompt_cache_mebibytes=64)
    header = a_header()
    shared = header.tensor_bytes + kv_cache_bytes(header, demand)
    each = compute_bytes(header, demand) + 2**30
    assert device_memory_needed(header, demand, devices=1) == shared + each
    assert device_memory_needed(header, demand, devices=3) == shared + 3 * each
    plan = on(a_model(hardware={"profile": "nvidia"}), node(WHOLE))
    assert plan.status.sizing is not None
    assert plan.status.sizing.device_memory_bytes == shared + each
    assert any("computed, not measured" in line for line in plan.status.sizing.formula)


def test_adapters_and_a_drafting_model_lie_on_the_devices_too() -> None:
    demand = Demand(context_length=4096, parallel=2, kv_cache_type="f16", prompt_cache_mebibytes=0)
    more = replace(demand, adapter_bytes=5_000_000, draft=a_header())
    header = a_header()
    plain = device_memory_needed(header, demand, devices=1)
    assert device_memory_needed(header, more, devices=1) == plain + 5_000_000 + draft_bytes(more)
    sizing = size_offloaded(header, more, devices=1)
    assert (sizing.adapter_bytes, sizing.draft_bytes) == (5_000_000, draft_bytes(more))
    assert any("weights + kv cache + adapters + draft model + 1 x" in line for line in sizing.formula)


def test_descriptors_of_adapters_are_counted_on_the_host() -> None:
    plain = Demand(context_length=4096, parallel=1, kv_cache_type="f16", prompt_cache_mebibytes=0)
    adapted = replace(plain, adapted_matrices=1000)
    before, after = (size_offloaded(a_header(), demand, devices=1) for demand in (plain, adapted))
    assert after.total_bytes - before.total_bytes == 1000 * ADAPTED_BYTES


def test_a_model_on_a_device_runs_the_devices_image_with_all_layers_there() -> None:
    plan = on(a_model(hardware={"profile": "nvidia"}), *nodes_of("nvidia"))
    server = pod_of(plan)["containers"][0]
    assert server["image"].endswith(":server-cuda-b11434")
    assert server["args"][server["args"].index("--n-gpu-layers") + 1] == "all"
    on_cpu = pod_of(on(a_model(), *nodes_of("cpu")))["containers"][0]
    assert "--n-gpu-layers" not in on_cpu["args"]


def test_every_container_of_a_xeon_pod_has_limits_that_equal_its_requests() -> None:
    pod = pod_of(on(a_model(hardware={"profile": "xeon"}, resources={"cpu": "2500m"}), node(XEON)))
    for container in (*pod["initContainers"], *pod["containers"]):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert (requests["cpu"], limits["cpu"]) == ("3", "3")
        assert requests["memory"] == limits["memory"]


def test_partitions_are_taken_smallest_first_and_never_several() -> None:
    plan = on(a_model(hardware={"profile": "nvidia"}), node(MIG))
    assert choice(plan) == ("nvidia", "nvidia.com/mig-1g.10gb")
    several = on(a_model(hardware={"profile": "nvidia", "count": 2}), node(MIG))
    assert shown(several, "Ready") == ("False", "HardwareMissing")
    big = a_model(hardware={"profile": "nvidia"}, runtime={"parallel": 64, "contextLength": 8192})
    assert choice(on(big, node(MIG))) == ("nvidia", "nvidia.com/mig-3g.40gb")
