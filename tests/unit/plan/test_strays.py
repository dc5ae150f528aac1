# SPDX-License-Identifier: Apache-2.0
"""Pods on nodes that a changed TEEPolicy does not admit: which they are, and what becomes of them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from nimblet.plan.facts import NodeFacts
from nimblet.plan.guarded import hold
from nimblet.plan.tee import plan_guard
from nimblet.plan.teefacts import LivePod, LiveWorkload
from tests.builders import NOW, a_model, plan_of, serving_facts
from tests.conditions import message, shown
from tests.teepools import TDX, nodes_of, runtime_classes
from tests.unit.plan.test_tee import REF, facts, guard_of, pod_of, policy, runtime_class

OTHERS = {"pool": "certified"}
NARROWED = [{"technology": "TDX", "nodeLabels": OTHERS}]
ON_TDX = LivePod(
    name="pod-1", runtime_class="kata-qemu-tdx", component="model", node="tdx-1", node_selector=TDX, created_at=NOW
)
LIVES = LiveWorkload(
    kind="Deployment",
    name="smollm2-model",
    uid="uid-deployment",
    runtime_class="kata-qemu-tdx",
    component="model",
    created_at=NOW,
)


def a_node(name: str, **labels_: str) -> NodeFacts:
    return NodeFacts(name=name, labels=labels_, memory_bytes=2**34, cpu_millicores=8000)


@pytest.mark.parametrize(
    ("pod", "node", "keep", "evict"),
    [
        (ON_TDX, a_node("tdx-1", **TDX, **OTHERS), "", ""),  # what it runs on is admitted
        (ON_TDX, a_node("tdx-1", **TDX), "stray", "stray"),  # the policy asks for more than it did
        (ON_TDX, a_node("other", **TDX, **OTHERS), "stray", "stray"),  # its node is not known
        (replace(ON_TDX, node=""), a_node("tdx-1", **TDX, **OTHERS), "stray", "stray"),  # it may start anywhere
        # the label vanished from its node since: that moves nobody but where the policy evicts
        (replace(ON_TDX, node_selector=OTHERS), a_node("tdx-1", **TDX), "", "stray"),
        (replace(ON_TDX, node_selector=OTHERS), a_node("other"), "", ""),  # its node is gone, and so will it be
        (replace(ON_TDX, node_selector=OTHERS, node=""), a_node("other"), "", ""),  # it waits for such a node
        (replace(ON_TDX, runtime_class="runc"), a_node("tdx-1"), "", ""),  # told by its RuntimeClass
    ],
)
def test_a_pod_strays_where_a_changed_policy_does_not_admit_its_node(
    pod: LivePod, node: NodeFacts, keep: str, evict: str
) -> None:
    for violation, expected in (("Keep", keep), ("Evict", evict)):
        changed = policy(overrides=NARROWED, onViolation=violation)
        tee = facts(changed, pods=(pod,), workloads=(LIVES,))
        guard = plan_guard(replace(REF, before="TDX"), tee, (node,))
        assert ("stray" if guard.strays else "") == expected, violation


def test_what_only_prefers_a_place_has_no_strays() -> None:
    wish = policy(overrides=NARROWED, enforcement="Preferred")
    guard = guard_of(wish, pool="TDX", subject=replace(REF, before="TDX"), pods=(ON_TDX,), workloads=(LIVES,))
    assert (guard.strays, runtime_class(guard)) == ((), "kata-qemu-tdx")


def test_the_labels_of_a_runtime_class_count_too() -> None:
    classes = tuple(replace(item, node_labels={"kata": "true"}) for item in runtime_classes())
    for selector, strays in (({**TDX, "kata": "true"}, 0), (TDX, 1)):
        pod = replace(ON_TDX, node_selector=selector)
        assert len(guard_of(policy(), pods=(pod,), runtime_classes=classes).strays) == strays


@pytest.mark.parametrize("elsewhere", [False, True])
def test_strays_are_kept_or_evicted_as_the_policy_says(elsewhere: bool) -> None:
    model = a_model()
    nodes = (*nodes_of("TDX"), *((a_node("new", **OTHERS),) if elsewhere else ()))
    for violation in ("Keep", "Evict"):
        changed = policy(overrides=NARROWED, onViolation=violation)
        tee = facts(changed, pods=(ON_TDX,), workloads=(LIVES,))
        plan = plan_of(model, serving_facts(model, tee=tee, nodes=nodes))
        expected = "PolicyViolated" if elsewhere else "NoConfidentialPlace"
        assert shown(plan, "PolicyEnforced") == ("False", expected)
        assert "pod-1 (on node tdx-1)" in message(plan, "PolicyEnforced")
        made = [item for item in plan.children if item["kind"] == "Deployment"]
        if violation == "Evict":
            assert [ref.uid for ref in plan.deletions] == ["uid-deployment"]
            assert made == []
        else:
            assert plan.deletions == ()
            assert [pod_of(item)["nodeSelector"] for item in made] == ([OTHERS] if elsewhere else [])


def test_a_workload_made_anew_is_not_evicted_for_pods_of_the_one_before() -> None:
    tee = facts(
        policy(overrides=NARROWED, onViolation="Evict"),
        pods=(ON_TDX,),
        workloads=(replace(LIVES, created_at=NOW + timedelta(seconds=30)), replace(LIVES, component="resolver")),
    )
    guard = plan_guard(REF, tee, nodes_of("TDX"))
    assert guard.strays == (ON_TDX,)
    assert hold(guard, tee, children=(), deletions=()).deletions == ()
