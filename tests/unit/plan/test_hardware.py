# SPDX-License-Identifier: Apache-2.0
"""Which hardware a model gets: what auto takes, what is refused before any pod, and that a choice stays."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet import labels
from nimblet.api.compactmodel import CompactModel, CompactModelStatus, ResolvedStatus
from nimblet.plan.facts import ModelFacts, NodeFacts, TaintFacts
from nimblet.plan.images import spec_hash_of
from nimblet.plan.offload import device_memory_needed
from nimblet.plan.places import GPU_RESOURCE
from nimblet.plan.result import Plan
from nimblet.plan.sizing import Demand, compute_bytes, kv_cache_bytes
from nimblet.plan.teefacts import TEEFacts
from nimblet.settings import Settings
from tests.builders import (
    a_deployment,
    a_header,
    a_model,
    a_node,
    a_pod,
    base_facts,
    child,
    edited,
    kinds,
    plan_of,
    stored,
    waiting_pod,
)
from tests.conditions import message, shown
from tests.hardwarepools import (
    AMD,
    GAUDI,
    I915,
    MIG,
    PLAIN,
    SETTINGS,
    WHOLE,
    XE,
    XEON,
    a_node_of,
    nodes_of,
    plan_on,
)
from tests.teepools import GPU, SNP, a_policy, runtime_classes

BUSY: dict[str, Any] = {"runtime": {"parallel": 8}}
LARGE: dict[str, Any] = {"runtime": {"parallel": 64}}


def facts_on(model: CompactModel, *nodes: NodeFacts, settings: Settings = SETTINGS, **more: Any) -> ModelFacts:
    return base_facts(model, artifacts=(stored(model, settings=settings),), nodes=nodes, **more)


def on(
    model: CompactModel, *nodes: NodeFacts, settings: Settings = SETTINGS, **more: Any
) -> Plan[CompactModelStatus]:
    return plan_of(model, facts_on(model, *nodes, settings=settings, **more), settings=settings)


def node(machine: Any, **changes: Any) -> NodeFacts:
    return replace(a_node_of(machine, name="n"), **changes)


def own(**profiles: object) -> Settings:
    return Settings.model_validate({"hardware": {"profiles": profiles}})


def resolved(plan: Plan[CompactModelStatus]) -> ResolvedStatus:
    found = plan.status.resolved
    assert found is not None
    return found


def choice(plan: Plan[CompactModelStatus]) -> tuple[str, str]:
    hardware = resolved(plan).hardware
    assert hardware is not None
    return resolved(plan).profile, hardware.resource


def others(plan: Plan[CompactModelStatus]) -> dict[str, str]:
    """Return why each profile was not chosen, by profile and device."""
    hardware = resolved(plan).hardware
    assert hardware is not None
    return {f"{it.profile} {it.resource}".strip(): it.why for it in hardware.alternatives}


def pod_of(plan: Plan[CompactModelStatus]) -> dict[str, Any]:
    return dict(child(plan.children, "Deployment")["spec"]["template"]["spec"])


def revision(plan: Plan[CompactModelStatus]) -> str:
    return str(child(plan.children, "Deployment")["metadata"]["labels"][labels.REVISION])


def running(model: CompactModel, plan: Plan[CompactModelStatus], *nodes: NodeFacts) -> ModelFacts:
    """Return facts where a pod of the plan's Deployment has a node."""
    made = revision(plan)
    return facts_on(model, *nodes, deployment=a_deployment(made), pods=(a_pod(made),))


def after(model: CompactModel, plan: Plan[CompactModelStatus]) -> CompactModel:
    return model.model_copy(update={"status": plan.status})


# what auto takes


def test_auto_takes_the_least_and_tells_the_others() -> None:
    plan = plan_on("large", "all")
    assert choice(plan) == ("nvidia", "nvidia.com/mig-1g.10gb")
    told = others(plan)
    assert list(told)[:2] == ["nvidia nvidia.com/gpu", "nvidia nvidia.com/mig-3g.40gb"]
    assert "it needs CPU 13250m (the largest node has 8)" in told["cpu"]
    assert "does not run on gaudi" in told["gaudi"]
    assert "planned, and not run on such hardware" in resolved(plan).why
    hardware = resolved(plan).hardware
    assert hardware is not None
    assert hardware.proof == "Planned"


def test_auto_leaves_devices_alone_while_a_cpu_does() -> None:
    assert choice(plan_on("small", "all")) == ("cpu", "")
    plan = plan_on("busy", "all")
    assert choice(plan) == ("xeon", "")
    assert "whole cores" in others(plan)["cpu"]
    assert "takes whole cores, and one does for 450m" in others(plan_on("small", "all"))["xeon"]
    hardware = resolved(plan).hardware
    assert hardware is not None
    assert hardware.proof == ""


def test_auto_takes_a_device_where_a_server_could_not_use_enough_cores() -> None:
    model = a_model(runtime={"parallel": 64}, hardware={})
    header = a_header(parameters=3_000_000_000)
    huge = stored(model, settings=SETTINGS)
    artifact = replace(huge, text=huge.text.replace("134515008", str(header.parameters)))
    node_ = node(PLAIN, cpu_millicores=64000)
    facts = base_facts(model, artifacts=(artifact,), nodes=(node_, node(I915)))
    plan = plan_of(model, facts, settings=SETTINGS)
    assert choice(plan) == ("intel-gpu", "gpu.intel.com/i915")
    assert "slower than aimed at" in others(plan)["cpu"]


def test_a_wish_for_devices_rules_out_the_cpu() -> None:
    model = a_model(hardware={"count": 1})
    plan = on(model, node(PLAIN), node(XE))
    assert choice(plan) == ("intel-gpu", "gpu.intel.com/xe")
    refused = on(model, node(PLAIN))
    assert shown(refused, "Ready") == ("False", "HardwareMissing")
    assert "nvidia: no node offers nvidia.com/gpu" in message(refused, "Ready")
    assert "Deployment" not in kinds(refused)


def test_without_a_node_that_fits_the_cpu_waits_and_a_pool_that_comes_is_taken() -> None:
    model = a_model(**LARGE)
    first = on(model, node(PLAIN))
    assert choice(first) == ("cpu", "")
    assert "the largest node has 8" in message(first, "Placed")
    pending = replace(
        facts_on(model, node(PLAIN), node(XE)),
        deployment=a_deployment(revision(first)),
        pods=(waiting_pod(revision(first), node=""),),
    )
    second = plan_of(after(model, first), pending, settings=SETTINGS)
    assert choice(second) == ("intel-gpu", "gpu.intel.com/xe")
    assert resolved(second).image.endswith("server-intel-b11434")


def test_an_own_profile_is_chosen_by_name_unless_it_says_otherwise() -> None:
    model = a_model(**LARGE)
    values = {"base": "intel-gpu", "deviceMemory": "2Ti", "devices": [{"resource": "gpu.intel.com/i915"}]}
    kept_apart = own(shelf=values, **{"intel-gpu": {"byAuto": False}})
    assert choice(on(model, node(I915), settings=kept_apart)) == ("cpu", "")
    offered = own(shelf={**values, "byAuto": True}, **{"intel-gpu": {"byAuto": False}})
    assert choice(on(model, node(I915), settings=offered)) == ("shelf", "gpu.intel.com/i915")


# what is refused


@pytest.mark.parametrize(
    ("hardware", "machine", "reason", "said"),
    [
        ({"profile": "abacus"}, PLAIN, "ProfileUnknown", "hardware.profile abacus is none of cpu, xeon, nvidia"),
        ({"profile": "nvidia"}, PLAIN, "HardwareMissing", "no node offers nvidia.com/gpu (whole)"),
        ({"profile": "xeon"}, PLAIN, "HardwareMissing", "cpu-cpuid.AVX512F=true (looked at 1 node)"),
        (
            {"profile": "nvidia", "count": 4},
            WHOLE,
            "TooManyDevices",
            "4 nvidia.com/gpu on one node, and no node has",
        ),
        ({"profile": "amd", "sharing": "Shared"}, AMD, "HardwareMissing", "its devices do not come shared"),
        (
            {"profile": "gaudi"},
            GAUDI,
            "RuntimeUnsuitable",
            "LlamaCpp does not run on gaudi",
        ),
    ],
)
def test_what_no_node_can_meet_is_refused_before_any_pod(
    hardware: dict[str, object], machine: Any, reason: str, said: str
) -> None:
    plan = on(a_model(hardware=hardware), node(machine))
    assert "Deployment" not in kinds(plan)
    for condition in ("Ready", "Placed", "Serving"):
        assert shown(plan, condition) == ("False", reason)
    assert said in message(plan, "Ready")


def test_devices_that_are_too_small_name_the_count_that_would_do() -> None:
    model = a_model(hardware={"profile": "nvidia"}, runtime={"parallel": 64})
    small = node(WHOLE, labels={"nvidia.com/gpu.memory": "5000"})
    plan = on(model, small)
    assert shown(plan, "Placed") == ("False", "DeviceTooSmall")
    assert "on each of 1 nvidia.com/gpu, and the largest has 4.88Gi; hardware.count 2 would do" in message(
        plan, "Ready"
    )
    assert choice(on(a_model(hardware={"profile": "nvidia", "count": 2}, runtime={"parallel": 64}), small)) == (
        "nvidia",
        "nvidia.com/gpu",
    )


def test_taints_and_selectors_count_beside_what_the_profile_tolerates() -> None:
    tainted = node(WHOLE, taints=(TaintFacts(key="nvidia.com/gpu"), TaintFacts(key="team", value="other")))
    model = a_model(hardware={"profile": "nvidia"})
    plan = on(model, tainted)
    assert shown(plan, "Ready") == ("False", "HardwareMissing")
    assert "has the taint team=other:NoSchedule" in message(plan, "Ready")
    stood = a_model(
        hardware={"profile": "nvidia"}, scheduling={"tolerations": [{"key": "team", "operator": "Exists"}]}
    )
    assert choice(on(stood, tainted)) == ("nvidia", "nvidia.com/gpu")
    elsewhere = a_model(hardware={"profile": "nvidia"}, scheduling={"nodeSelector": {"zone": "b"}})
    assert "nodeSelector zone=b" in message(on(elsewhere, node(WHOLE)), "Ready")


def test_nodes_that_an_autoscaler_makes_are_waited_for() -> None:
    model = a_model(hardware={"profile": "nvidia"})
    plan = on(model, node(PLAIN), settings=own(nvidia={"onDemand": True}))
    assert "Deployment" in kinds(plan)
    assert "No node offers nvidia.com/gpu" in message(plan, "Placed")
    assert pod_of(plan)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_broken_edit_leaves_what_serves_alone_and_putting_it_right_heals() -> None:
    model = a_model()
    first = on(model, node(PLAIN))
    served = after(model, plan_of(after(model, first), running(model, first, node(PLAIN)), settings=SETTINGS))
    broken = edited(served, hardware={"profile": "nvidia"})
    plan = plan_of(broken, running(broken, first, node(PLAIN)), settings=SETTINGS)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "UpdateFailed")
    assert "Deployment" not in kinds(plan)
    assert not [item for item in plan.deletions if item.kind == "Deployment"]
    healed = edited(after(broken, plan))
    again = plan_of(healed, running(healed, first, node(PLAIN)), settings=SETTINGS)
    assert revision(again) == revision(first)


# what stays


@pytest.mark.parametrize("hardware", [{"profile": "nvidia"}, {}], ids=["named", "auto"])
def test_labels_and_devices_that_vanish_move_nothing(hardware: dict[str, object]) -> None:
    model = a_model(hardware=hardware, **LARGE)
    first = on(model, node(WHOLE))
    placed = plan_of(after(model, first), running(model, first, node(WHOLE)), settings=SETTINGS)
    hardware_ = resolved(placed).hardware
    assert hardware_ is not None
    assert hardware_.kept
    bare = node(PLAIN)
    flapped = plan_of(after(model, placed), running(model, first, bare), settings=SETTINGS)
    assert revision(flapped) == revision(first)
    assert flapped.status == placed.status
    # the pod is gone, too, and its successor waits: it is told, and still asks for the same
    gone = facts_on(model, bare, deployment=a_deployment(revision(first)), pods=())
    waits = plan_of(after(model, flapped), gone, settings=SETTINGS)
    assert revision(waits) == revision(first)
    assert "No node offers nvidia.com/gpu" in message(waits, "Placed")


def test_xeon_labels_that_vanish_move_nothing_and_better_nodes_tempt_nobody() -> None:
    model = a_model(**BUSY)
    first = on(model, node(XEON))
    placed = plan_of(after(model, first), running(model, first, node(XEON)), settings=SETTINGS)
    for nodes in ((node(PLAIN),), (node(PLAIN), node(XEON), node(WHOLE))):
        plan = plan_of(after(model, placed), running(model, first, *nodes), settings=SETTINGS)
        assert (choice(plan), revision(plan)) == (("xeon", ""), revision(first))
    changed = edited(after(model, placed), runtime={"parallel": 6})
    anew = plan_of(changed, running(changed, first, node(PLAIN)), settings=SETTINGS)
    assert choice(anew) == ("cpu", "")


def test_a_restart_scaling_and_suspending_decide_nothing_anew() -> None:
    model = a_model(**BUSY)
    first = on(model, node(XEON))
    placed = after(model, plan_of(after(model, first), running(model, first, node(XEON)), settings=SETTINGS))
    restarted = placed.model_copy(update={"restarted_at": "now"})
    scaled = placed.model_copy(update={"spec": placed.spec.model_copy(update={"replicas": 3}), "generation": 2})
    paused = placed.model_copy(update={"spec": placed.spec.model_copy(update={"suspend": True}), "generation": 2})
    for it in (restarted, scaled, paused):
        assert choice(plan_of(it, running(it, first, node(PLAIN)), settings=SETTINGS)) == ("xeon", "")


def test_an_upgrade_moves_no_model_that_was_placed_before_there_were_profiles() -> None:
    model = a_model(**BUSY)
    first = on(model, node(PLAIN))
    before = resolved(first).model_copy(update={"hardware": None})
    facts = running(model, first, node(XEON), node(WHOLE))
    stored_ = model.model_copy(
        update={
            "status": first.status.model_copy(
                update={"resolved": before.model_copy(update={"spec_hash": spec_hash_of(model, facts)})}
            )
        }
    )
    plan = plan_of(stored_, facts, settings=SETTINGS)
    assert choice(plan) == ("cpu", "")
    assert revision(plan) == revision(first)


def test_a_profile_that_is_taken_away_stops_nothing() -> None:
    model = a_model(hardware={"profile": "shelf"})
    first = on(model, node(I915))
    placed = after(model, plan_of(after(model, first), running(model, first, node(I915)), settings=SETTINGS))
    plan = plan_of(placed, replace(running(model, first, node(I915)), artifacts=(stored(model),)))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Stalled") == ("True", "ProfileUnknown")
    assert "The older spec serves on" in message(plan, "Ready")
    assert "Deployment" not in kinds(plan)


# security and policies


@pytest.mark.parametrize(
    ("level", "made"), [("", True), ("privileged", True), ("baseline", False), ("restricted", False)]
)
def test_a_profile_that_needs_more_than_the_namespace_allows_gets_no_pod(level: str, made: bool) -> None:
    model = a_model(hardware={"profile": "lab"})
    plan = on(model, node(GAUDI), pod_security=level)
    assert ("Deployment" in kinds(plan)) is made
    if made:
        hardware = resolved(plan).hardware
        assert hardware is not None
        assert hardware.needs == ["hostIPC"]
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
