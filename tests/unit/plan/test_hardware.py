# SPDX-License-Identifier: Apache-2.0
"""Which hardware a model gets: what auto takes, and what is refused before any pod."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet.plan.facts import TaintFacts
from tests.builders import a_deployment, a_header, a_model, base_facts, edited, kinds, plan_of, stored, waiting_pod
from tests.conditions import message, shown
from tests.hardwarepools import AMD, GAUDI, I915, PLAIN, SETTINGS, WHOLE, XE, plan_on
from tests.unit.plan.hardwareplans import (
    LARGE,
    after,
    choice,
    facts_on,
    hardware_of,
    node,
    on,
    others,
    own,
    pod_of,
    resolved,
    revision,
    running,
)

# what auto takes


def test_auto_takes_the_least_and_tells_the_others() -> None:
    plan = plan_on("large", "all")
    assert choice(plan) == ("nvidia", "nvidia.com/mig-1g.10gb")
    told = others(plan)
    assert list(told)[:2] == ["nvidia nvidia.com/gpu", "nvidia nvidia.com/mig-3g.40gb"]
    assert "it needs CPU 13250m (the largest node has 8)" in told["cpu"]
    assert "does not run on gaudi" in told["gaudi"]
    assert "planned, and not run on such hardware" in resolved(plan).why
    assert hardware_of(plan).proof == "Planned"


def test_auto_leaves_devices_alone_while_a_cpu_does() -> None:
    assert choice(plan_on("small", "all")) == ("cpu", "")
    plan = plan_on("busy", "all")
    assert choice(plan) == ("xeon", "")
    assert "whole cores" in others(plan)["cpu"]
    assert "takes whole cores, and one does for 450m" in others(plan_on("small", "all"))["xeon"]
    assert hardware_of(plan).proof == ""


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
