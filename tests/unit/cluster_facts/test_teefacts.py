# SPDX-License-Identifier: Apache-2.0
"""What decides on confidential places is read, and what can't be read is told and not guessed."""

from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web

from nimblet.api.common import PolicyRef
from nimblet.cluster.errors import Transient
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.teefacts import Bound, tee_facts
from nimblet.plan.teefacts import AttestationTexts, LivePod, LiveWorkload, RuntimeClassFacts, TEEFacts
from tests.unit.cluster_facts.builders import Json, child
from tests.unit.loopback import connected

pytestmark = pytest.mark.asyncio
BOUND = Bound(
    key=Key("CompactModel", "team", "small"), ref=PolicyRef(name="p"), operator_namespace="nimblet-system"
)
SPEC: Json = {
    "technologies": ["TDX"],
    "enforcement": "Required",
    "attestation": {
        "mode": "Simulated",
        "initdata": {"configMapRef": {"name": "guest", "key": "text"}, "sha256": "0" * 64},
    },
}
POLICIES = "/apis/nimblet.dev/v1alpha1/teepolicies"
NAMESPACE = "/api/v1/namespaces/team"
NODES = "/api/v1/nodes"
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
GUEST = "/api/v1/namespaces/nimblet-system/configmaps/guest"


def listed(*items: Json) -> Json:
    return {"metadata": {"resourceVersion": "1"}, "items": list(items)}


def policy(spec: Json = SPEC) -> Json:
    return {"metadata": {"name": "p"}, "spec": spec}


@dataclass
class Cluster:
    """Answers by path; `status` is that of the paths in `refused`."""

    answers: dict[str, Json] = field(
        default_factory=lambda: {
            POLICIES: listed(policy()),
            NAMESPACE: {"metadata": {"name": "team", "labels": {"a": "b"}}},
            CLASSES: listed(
                {
                    "metadata": {"name": "kata-qemu-tdx"},
                    "overhead": {"podFixed": {"memory": "2Gi", "cpu": "1"}},
                    "scheduling": {"nodeSelector": {"kata": "true"}},
                },
                {"metadata": {"name": "plain"}, "overhead": None},
            ),
            GUEST: {"metadata": {"name": "guest"}, "data": {"text": "H4sI\n"}},
        }
    )
    refused: tuple[str, ...] = ()
    status: int = 403
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path in self.refused:
            body = {"kind": "Status", "reason": "Refused", "message": "no rights", "code": self.status}
            return web.json_response(body, status=self.status)
        return web.json_response(self.answers[request.path])


async def read(cluster: Cluster, mirror: Mirror | None = None) -> TEEFacts:
    async with connected(cluster.handle) as client:
        return await tee_facts(client, mirror or Mirror(), BOUND)


async def test_all_that_binds_is_read() -> None:
    mirror = Mirror()
    template = {"template": {"spec": {"runtimeClassName": "kata-qemu-tdx"}}}
    mirror.put("Deployment", child("Deployment", "small-model", version=3, spec=template))
    mirror.put(
        "Pod", child("Pod", "small-model-x", version=4, spec={"nodeName": "n", "nodeSelector": {"tdx": "true"}})
    )
    facts = await read(Cluster(), mirror)
    assert facts.unreadable == ""
    assert facts.namespace_labels == {"a": "b"}
    assert facts.runtime_classes == (
        RuntimeClassFacts(
            name="kata-qemu-tdx", memory_bytes=2 * 2**30, cpu_millicores=1000, node_labels={"kata": "true"}
        ),
        RuntimeClassFacts(name="plain"),
    )
    assert facts.initdata == {"p": "H4sI"}
    assert [(item.kind, item.runtime_class) for item in facts.workloads] == [("Deployment", "kata-qemu-tdx")]
    assert isinstance(facts.workloads[0], LiveWorkload)
    (pod,) = facts.pods
    assert replace(pod, created_at=None) == LivePod(
        name="small-model-x", uid="uid-small-model-x", node="n", node_selector={"tdx": "true"}
    )


@pytest.mark.parametrize(
    ("owner", "counts"),
    [
        ({}, True),
        ({"kind": "Canary", "apiVersion": "flagger.app/v1beta1"}, False),
        ({"kind": "CompactModel", "apiVersion": "nimblet.dev/v1alpha1", "name": "other"}, False),
    ],
    ids=["ours", "of another operator, with our labels", "another model's"],
)
async def test_a_workload_that_somebody_else_controls_is_not_ours_to_end(owner: Json, counts: bool) -> None:
    body = child("Deployment", "small-model", version=3)
    metadata = body["metadata"]
    assert isinstance(metadata, dict)
    metadata["ownerReferences"] = [{**metadata["ownerReferences"][0], **owner}]
    mirror = Mirror()
    mirror.put("Deployment", body)
    found = (await read(Cluster(), mirror)).workloads
    assert [(item.name, item.version) for item in found] == ([("small-model", "3")] if counts else [])


def a_node(version: int, **labels: str) -> Json:
    return {"metadata": {"name": "n", "uid": "uid-n", "resourceVersion": str(version), "labels": labels}}


@pytest.mark.parametrize(
    ("violation", "seen", "asked"),
    [
        ("Evict", a_node(5, os="linux"), 1),  # the pod was seen earlier than the label that it was placed by
        ("Evict", a_node(5, tdx="true"), 0),
        ("Keep", a_node(5, os="linux"), 0),  # nothing ends for it
    ],
)
async def test_a_node_is_read_anew_before_its_pods_may_be_taken_for_strays(
    violation: str, seen: Json, asked: int
) -> None:
    cluster = Cluster()
    cluster.answers |= {
        POLICIES: listed(policy({**SPEC, "onViolation": violation})),
        NODES: listed(a_node(9, tdx="true")),
    }
    mirror = Mirror()
    mirror.put("Node", seen)
    placed = {"nodeName": "n", "nodeSelector": {"tdx": "true"}}
    mirror.put("Pod", child("Pod", "small-model-x", version=7, spec=placed))
    await read(cluster, mirror)
    assert cluster.asked.count(NODES) == asked
    node = mirror.get("Node", "", "n")
    assert node is not None
    assert metadata_of(node).resource_version == ("9" if asked else "5")


@pytest.mark.parametrize("refused", [POLICIES, NAMESPACE, CLASSES, GUEST])
async def test_what_is_refused_is_told(refused: str) -> None:
    facts = await read(Cluster(refused=(refused,)))
    assert (facts.policies, facts.unreadable) == ((), "What TEEPolicies ask for can't be read: no rights.")


async def test_a_definition_that_is_not_there_is_no_permission() -> None:
    assert (await read(Cluster(refused=(POLICIES,), status=404))).unreadable != ""


async def test_a_passing_failure_ends_the_pass() -> None:
    with pytest.raises(Transient):
        await read(Cluster(refused=(POLICIES,), status=503))


async def test_a_policy_of_a_newer_operator_may_bind_anybody() -> None:
    cluster = Cluster()
    cluster.answers[POLICIES] = listed(policy({**SPEC, "technologies": ["CCA"]}))
    assert "TEEPolicy p is not understood: spec.technologies.0" in (await read(cluster)).unreadable


async def test_without_policies_nothing_more_is_asked() -> None:
    cluster = Cluster()
    cluster.answers[POLICIES] = listed()
    assert await read(cluster) == TEEFacts()
    assert cluster.asked == [POLICIES]


GATED: Json = {
    **SPEC,
    "attestation": {"mode": "Hardware", "verifier": {"configMapRef": {"name": "guest", "key": "k"}}},
}


def gated_pod(name: str, *others: Json, **gate: object) -> Json:
    status = {"podIP": "192.0.2.1", "initContainerStatuses": [{"name": "attest", **gate}], "phase": "Pending"}
    status |= {"containerStatuses": list(others)}
    return {**child("Pod", name, version=4, spec={"nodeName": "n"}), "status": status}


async def test_gates_are_seen_and_the_texts_that_they_need_are_read() -> None:
    mirror = Mirror()
    mirror.put("Pod", gated_pod("open", ready=True, state={"running": {}}))
    mirror.put("Pod", gated_pod("shut", ready=False, lastState={"terminated": {"exitCode": 90}}))
    # a gate that was killed, with what it had let through before still at work
    working: Json = {"name": "model", "ready": True, "state": {"running": {}}}
    mirror.put("Pod", gated_pod("down", working, ready=False, lastState={"terminated": {"exitCode": 137}}))
    begun = {"phase": "Running", "containerStatuses": [{"name": "model", "ready": True}]}
    mirror.put("Pod", {**child("Pod", "older", version=4, spec={"nodeName": "n"}), "status": begun})
    cluster = Cluster()
    cluster.answers[POLICIES] = listed(policy(GATED))
    cluster.answers[GUEST] = {"metadata": {"name": "guest"}, "data": {"k": "the keys"}}
    facts = await read(cluster, mirror)
    pods = {pod.name: (pod.gated, pod.opened, pod.gate_exit) for pod in facts.pods}
    assert pods == {
        "open": (True, True, None),
        "shut": (True, False, 90),
        "down": (True, True, 137),
        "older": (False, False, None),
    }
    assert facts.texts == {"p": AttestationTexts(keys="the keys")}
    assert (facts.reports, facts.operator_namespace) == (
        {},
        "nimblet-system",
    )  # a plan that is only shown asks nobody
