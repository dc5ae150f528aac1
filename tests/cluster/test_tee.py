# SPDX-License-Identifier: Apache-2.0
"""TEEPolicies on a real API server with make-believe pools: placements, and policies that come later."""

from typing import Any

import pytest

from e2e.cluster.api import Api
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.kwok import FakeNode
from nimblet.plan.facts import ModelFacts
from nimblet.plan.places import EPC_RESOURCE, GPU_RESOURCE
from nimblet.plan.teefacts import TEEFacts
from tests.builders import a_model, base_facts, plan_of
from tests.cluster.operator_support import Launcher, View, condition_of, eventually
from tests.cluster.settling import ready, settled, started
from tests.cluster.tee_support import POLICIES as PATH
from tests.cluster.tee_support import install_classes, label_namespace, put_policy, refusal
from tests.teepools import POLICIES, POOLS, SIMULATED, SNP, a_policy, nodes_of, placement, runtime_classes, slug

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
DEVICES = {GPU_RESOURCE: "8", EPC_RESOURCE: "64Gi"}
MODEL = "small"
BOUND = {"matchLabels": {"a": "b"}}


def classes(view: View, kind: str) -> set[str]:
    """Return the RuntimeClasses of a namespace's workloads of a kind; `outside` for none."""
    pods = (item["spec"]["template"]["spec"] for item in view.children(kind).values())
    return {pod.get("runtimeClassName", "outside") for pod in pods}


def outcome(view: View) -> str:
    """Return where the first pods go, or the reason why there are none; "" while neither shows."""
    made = classes(view, "Job") | classes(view, "Deployment")
    if made:
        return ", ".join(sorted(made))
    told = condition_of(view.model(MODEL), "PolicyEnforced")
    return told[1] if told is not None and told[0] == "False" else ""


def make_namespace(api: Api, pool: str, policy: str) -> View:
    """Return a view of a namespace that one policy binds, with a model in it."""
    name = slug(f"{pool}-{policy}")
    label_namespace(api, name, {"tee": slug(policy)})
    view = View(api=api, namespace=name)
    view.create(MODEL)
    return view


def test_every_policy_meets_every_pool(plane: ControlPlane, launcher: Launcher) -> None:
    api = plane.api
    install_classes(api)
    for policy, spec in POLICIES.items():
        selected = {"namespaceSelector": {"matchLabels": {"tee": slug(policy)}}}
        put_policy(api, slug(policy), {**spec, **selected})
    started(launcher)
    for pool, nodes in POOLS.items():
        names = [f"{slug(pool)}-{at}" for at in range(len(nodes))]
        for name, labels_ in zip(names, nodes, strict=True):
            plane.add_node(FakeNode(name, labels=labels_, allocatable=DEVICES))
        views = {policy: make_namespace(api, pool, policy) for policy in POLICIES}
        for policy, view in views.items():
            resolving, serving = placement(policy, pool, server=False), placement(policy, pool)
            wanted = {resolving, serving, ", ".join(sorted({resolving, serving}))}
            eventually(
                lambda view=view, wanted=wanted: outcome(view) in wanted,  # type: ignore[misc]
                what=f"{policy} on {pool}: one of {wanted}",
            )
        if pool == "all":
            served = [policy for policy in views if not placement(policy, pool).startswith(("No", "Attest"))]
            for policy in served:
                view, place = views[policy], placement(policy, pool)
                eventually(
                    lambda view=view, place=place: classes(view, "Deployment") == {place},  # type: ignore[misc]
                    what=f"the server of {policy} by {place}",
                )
        for view in views.values():
            api.delete(f"/api/v1/namespaces/{view.namespace}")
        for name in names:
            plane.delete_node(name)
    for policy in POLICIES:
        api.delete(f"{PATH}/{slug(policy)}")


PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
}


def test_the_server_takes_gates_as_they_are_rendered(plane: ControlPlane, view: View) -> None:
    bound = a_policy("p", {**POLICIES["Required TDX, Hardware by a verifier"], "namespaceSelector": BOUND})
    put_policy(plane.api, "gated", bound.spec.model_dump(mode="json", by_alias=True, exclude_none=True))
    tee = TEEFacts(
        policies=(bound,), namespace_labels={"a": "b"}, runtime_classes=runtime_classes(), operator_namespace="ops"
    )
    model = a_model()
    resolving = plan_of(model, ModelFacts(nodes=nodes_of("TDX"), tee=tee))
    serving = plan_of(model, base_facts(model, nodes=nodes_of("TDX"), tee=tee))
    children = [item for plan in (resolving, serving) for item in plan.children if item["kind"] in PATHS]
    assert {str(item["kind"]) for item in children} == set(PATHS)
    for item in children:
        metadata: Any = item["metadata"]
        placed = {**item, "metadata": {**metadata, "namespace": view.namespace}}
        assert refusal(plane.api, PATHS[str(item["kind"])].format(view.namespace), placed) == ""
    plane.api.delete(f"{PATH}/gated")


def enforced(view: View) -> tuple[str, str] | None:
    return condition_of(view.model(MODEL), "PolicyEnforced")


def notes(view: View) -> str:
    """Return the words of all Events of the namespace."""
    listed: Any = view.api.get(f"/apis/events.k8s.io/v1/namespaces/{view.namespace}/events")
    return " ".join(str(item.get("note", "")) for item in listed["items"])


def test_a_policy_that_comes_later_keeps_evicts_and_lets_in(
    plane: ControlPlane, launcher: Launcher, view: View
) -> None:
    api = plane.api
    install_classes(api)
    spec = {"technologies": ["SNP"], "enforcement": "Required", "attestation": SIMULATED}
    spec["namespaceSelector"] = {"matchLabels": {"tee": "later"}}
    process = started(launcher)
    view.create(MODEL)
    ready(view, MODEL)
    label_namespace(api, view.namespace, {"tee": "later"})
    put_policy(api, "later", spec)

    eventually(lambda: enforced(view) == ("False", "NoConfidentialPlace"), what="a policy that is not met")
    assert classes(view, "Deployment") == {"outside"}
    assert condition_of(view.model(MODEL), "Serving") == ("True", "Answering")
    assert condition_of(view.model(MODEL), "Ready") == ("False", "NoConfidentialPlace")
    settled(process, view)  # it writes nothing more

    put_policy(api, "later", {**spec, "onViolation": "Evict"})
    eventually(lambda: not view.children("Deployment"), what="the Deployment evicted")
    eventually(lambda: not view.children("Pod"), what="no pod")
    # naming another policy, or none, frees nothing
    put_policy(
        api, "loose", {**spec, "enforcement": "Preferred", "namespaceSelector": {"matchLabels": {"x": "y"}}}
    )
    view.edit(MODEL, teePolicyRef={"name": "loose"})
    eventually(lambda: view.model(MODEL)["status"]["observedGeneration"] == 2, what="the edit seen")
    assert enforced(view) == ("False", "NoConfidentialPlace")
    assert not view.children("Deployment")

    plane.add_node(FakeNode("snp-late", labels=SNP))
    eventually(lambda: enforced(view) == ("True", "Simulated"), what="the policy met")
    ready(view, MODEL)
    assert classes(view, "Deployment") == {"kata-qemu-snp"}
    (pod,) = view.children("Pod").values()
    assert pod["spec"]["overhead"] == {"cpu": "1", "memory": "2Gi"}
    assert pod["spec"]["nodeName"] == "snp-late"
    eventually(lambda: "simulated" in notes(view), what="an Event that says simulated")
    words = f"{view.model(MODEL)['status']} {notes(view)}"
    assert "attested" not in words.lower()
    settled(process, view)

    api.delete(f"{PATH}/loose")
    eventually(lambda: enforced(view) == ("False", "PolicyMissing"), what="the named policy missed")
    assert classes(view, "Deployment") == {"kata-qemu-snp"}
    api.delete(f"{PATH}/later")
    plane.delete_node("snp-late")


def test_a_policy_that_asks_for_other_nodes_finds_what_runs(
    plane: ControlPlane, launcher: Launcher, view: View
) -> None:
    api = plane.api
    install_classes(api)
    others = {"pool": "certified"}
    spec = {"technologies": ["SNP"], "enforcement": "Required", "attestation": SIMULATED}
    spec["namespaceSelector"] = {"matchLabels": {"tee": "narrowed"}}
    narrowed = {**spec, "overrides": [{"technology": "SNP", "nodeLabels": others}]}
    label_namespace(api, view.namespace, {"tee": "narrowed"})
    put_policy(api, "narrowed", spec)
    plane.add_node(FakeNode("snp-old", labels=SNP))
    process = started(launcher)
    view.create(MODEL)
    ready(view, MODEL)
    assert enforced(view) == ("True", "Simulated")

    put_policy(api, "narrowed", narrowed)
    eventually(
        lambda: enforced(view) == ("False", "NoConfidentialPlace"), what="a node that is not admitted found"
    )
    assert "(on node snp-old)" in str(view.model(MODEL)["status"])
    assert condition_of(view.model(MODEL), "Serving") == ("True", "Answering")
    settled(process, view)  # Keep: it writes nothing more

    put_policy(api, "narrowed", {**narrowed, "onViolation": "Evict"})
    eventually(lambda: not view.children("Deployment"), what="the Deployment evicted")
    eventually(lambda: not view.children("Pod"), what="no pod")  # the garbage collector takes them after it
    plane.add_node(FakeNode("snp-new", labels={**SNP, **others}))
    eventually(lambda: enforced(view) == ("True", "Simulated"), what="the policy met")
    ready(view, MODEL)
    (pod,) = view.children("Pod").values()
    assert pod["spec"]["nodeName"] == "snp-new"
    api.delete(f"{PATH}/narrowed")
    for name in ("snp-old", "snp-new"):
        plane.delete_node(name)
