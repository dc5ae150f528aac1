# SPDX-License-Identifier: Apache-2.0
"""The whole operator as a process: real API server and controllers, make-believe nodes and pods."""

import uuid
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.kwok import FakeNode
from nimblet import labels
from nimblet.cluster.lease import LEASE_NAME
from tests.cluster.operator_support import MISSING_REPOSITORY, NAMESPACE, Launcher, Process, View, eventually
from tests.cluster.settling import ready, resyncs, settled, started
from tests.cluster.stub_server import Stub

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
SOON = timedelta(seconds=15)
UNPLACED = ("PodScheduled", "False")


def test_a_model_is_resolved_run_asked_and_ready(launcher: Launcher, view: View, stub: Stub) -> None:
    process = launcher.start()
    view.create("small")
    ready(view, "small")
    assert view.condition("small", "Serving") == ("True", "Answering")
    assert view.condition("small", "Placed") == ("True", "Placed")
    assert set(view.children("Deployment")) == {"small-model"}
    assert set(view.children("Secret")) == {"small-key"}
    assert len(stub.keys) == 1
    eventually(lambda: not view.children("Job"), what="the resolver Job gone")
    metadata = view.model("small")["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata
    assert (process.probe("/livez"), process.probe("/readyz")) == (200, 200)


def unplaced_at(view: View) -> datetime:
    """Return when the scheduler recorded that it can't place a pod: until then there is nothing to tell."""
    conditions = [item for pod in view.children("Pod").values() for item in pod["status"].get("conditions", ())]
    times = [item["lastTransitionTime"] for item in conditions if (item["type"], item["status"]) == UNPLACED]
    return datetime.fromisoformat(min(times))


def test_a_claim_that_is_missing_is_named_and_healed_by_its_coming(launcher: Launcher, view: View) -> None:
    started(launcher)
    view.create("small", source={"uri": "pvc://weights/llm"})
    missing = ("False", "ClaimNotReady")
    eventually(lambda: view.condition("small", "Ready") == missing, what="the missing claim told")
    assert datetime.now(UTC) - unplaced_at(view) <= SOON
    message = next(item for item in view.model("small")["status"]["conditions"] if item["type"] == "Ready")[
        "message"
    ]
    assert 'persistentvolumeclaim "weights" not found' in message
    one = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    claim = {"name": "weights", "namespace": view.namespace}
    volume = {
        **one,
        "capacity": {"storage": "1Gi"},
        "claimRef": claim,
        "hostPath": {"path": "/weights"},
        "persistentVolumeReclaimPolicy": "Delete",
    }
    view.api.create("/api/v1/persistentvolumes", {"metadata": {"name": view.namespace}, "spec": volume})
    wanted = {**one, "resources": {"requests": {"storage": "1Gi"}}, "volumeName": view.namespace}
    claims = f"/api/v1/namespaces/{view.namespace}/persistentvolumeclaims"
    view.api.create(claims, {"metadata": claim, "spec": wanted})
    ready(view, "small")


def test_pods_with_a_roles_token_are_accepted(launcher: Launcher, view: View) -> None:
    launcher.start()
    role = "arn:aws:iam::123456789012:role/reader"
    view.create("small", source={"uri": "s3://models/small", "roleARN": role})
    ready(view, "small")


def test_nothing_is_written_while_nothing_changes(launcher: Launcher, view: View) -> None:
    process = launcher.start()
    view.create("small")
    ready(view, "small")
    before = settled(process, view)
    resyncs(process, 3)
    assert view.versions() == before


def test_drift_is_repaired_and_foreign_fields_are_kept(launcher: Launcher, view: View) -> None:
    launcher.start()
    view.create("small")
    ready(view, "small")
    api, deployment = view.api, view.path("Deployment", "small-model")
    foreign = {"example.com/mine": "kept"}
    api.apply(
        deployment,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "small-model", "annotations": foreign},
            "spec": {"replicas": 5},
        },
    )
    api.delete(view.path("Service", "small-model"))
    eventually(
        lambda: view.children("Deployment")["small-model"]["spec"]["replicas"] == 1, what="replicas repaired"
    )
    eventually(lambda: "small-model" in view.children("Service"), what="the Service made anew")
    assert foreign.items() <= view.children("Deployment")["small-model"]["metadata"]["annotations"].items()


def test_a_child_that_lost_its_label_gets_it_back(launcher: Launcher, view: View) -> None:
    launcher.start()
    view.create("small")
    ready(view, "small")
    stripped = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "small-model", "labels": {labels.MANAGED_BY: "rival"}},
    }
    view.api.apply(view.path("Service", "small-model"), stripped)
    eventually(lambda: "small-model" in view.children("Service"), what="the label repaired")


def test_scale_reaches_the_deployment_and_the_status(launcher: Launcher, view: View) -> None:
    launcher.start()
    view.create("small")
    ready(view, "small")
    view.scale("small", 2)
    eventually(lambda: view.is_ready("small"), what="two replicas Ready")
    seen = view.api.get(f"{view.models()}/small/scale")
    assert seen["status"] == {"replicas": 2, "selector": view.model("small")["status"]["selector"]}
    assert len(view.children("PodDisruptionBudget")) == 1
    assert len([name for name in view.children("Pod") if "-model-" in name]) == 2


def servers(view: View) -> dict[str, Any]:
    return {name: pod for name, pod in view.children("Pod").items() if "-model-" in name}


def test_a_key_is_rotated_though_the_operator_is_killed_on_the_way(
    launcher: Launcher, view: View, stub: Stub
) -> None:
    launcher.timing = {**launcher.timing, "drainSeconds": 1}
    process = launcher.start()
    view.create("small")
    ready(view, "small")
    before = view.children("Secret")["small-key"]["data"]["api-key"]
    view.edit("small", access={"keyVersion": 2, "keyGraceSeconds": 3})
    versions = f"metadata.labels.{labels.KEY_VERSIONS}"
    for label in ("1-2", "2"):
        eventually(
            lambda label=label: any(  # type: ignore[misc]
                pod["metadata"]["labels"].get(labels.KEY_VERSIONS) == label for pod in servers(view).values()
            ),
            what=f"a pod with {versions} {label}",
        )
        process.kill()
        process = launcher.start()
    ready(view, "small")
    eventually(lambda: len(servers(view)) == 1, what="the older pods gone")
    resyncs(process, 2)
    secret = view.children("Secret")["small-key"]
    assert set(secret["data"]) == {"api-key", "keys-2"}
    assert secret["data"]["api-key"] != before
    assert secret["metadata"]["annotations"][labels.KEY_VERSION] == "2"
    after = secret["data"]["api-key"]
    assert {f"Bearer {b64decode(key).decode()}" for key in (before, after)} <= stub.keys
    settled_at = settled(process, view)
    resyncs(process, 2)
    assert view.versions() == settled_at


def test_a_suspended_model_keeps_all_but_its_pods_and_comes_back(launcher: Launcher, view: View) -> None:
    launcher.start()
    view.create("small")
    ready(view, "small")
    view.edit("small", suspend=True)
    eventually(lambda: view.condition("small", "Ready") == ("False", "Suspended"), what="Suspended")
    eventually(lambda: not servers(view), what="no pod")
    eventually(lambda: view.condition("small", "Serving") == ("False", "Suspended"), what="not Serving")
    assert view.condition("small", "Stalled") is None
    assert "small-model" in view.children("Deployment")
    view.edit("small", suspend=False)
    ready(view, "small")


def test_a_restart_makes_other_pods(launcher: Launcher, view: View) -> None:
    launcher.start()
    view.create("small")
    ready(view, "small")
    before = set(servers(view))
    view.edit("small", annotations={labels.RESTARTED_AT: "2026-01-02T03:04:05Z"})
    eventually(lambda: bool(servers(view)) and not before & set(servers(view)), what="other pods")
    ready(view, "small")


def test_scheduling_and_a_chat_template_reach_the_pods(launcher: Launcher, view: View) -> None:
    launcher.start()
    scheduling = {
        "tolerations": [{"operator": "Exists", "key": "spot"}],
        "spread": [{"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}],
        "podLabels": {"team": "blue"},
    }
    template = {"chatTemplate": {"name": "prompts", "key": "chat"}}
    view.create("small", scheduling=scheduling, runtime=template)
    eventually(lambda: view.condition("small", "Ready") == ("False", "ConfigMapMissing"), what="ConfigMapMissing")
    assert not view.children("Deployment")
    made = {"metadata": {"name": "prompts", "namespace": view.namespace}, "data": {"chat": "{{ messages }}"}}
    view.api.create(f"/api/v1/namespaces/{view.namespace}/configmaps", made)
    ready(view, "small")
    (pod,) = servers(view).values()
    assert pod["metadata"]["labels"]["team"] == "blue"
    assert scheduling["tolerations"][0] in pod["spec"]["tolerations"]  # type: ignore[index]  # a list


def test_a_deleted_model_leaves_nothing(launcher: Launcher, view: View) -> None:
    launcher.start()
    view.create("small")
    ready(view, "small")
    view.api.delete(f"{view.models()}/small")
    eventually(lambda: not view.versions(), what="nothing left")


def test_a_namespace_goes_with_the_operator_up(launcher: Launcher, view: View) -> None:
    launcher.start()
    view.create("small")
    ready(view, "small")
    gone = View(api=view.api, namespace=f"going-{uuid.uuid4().hex[:8]}")
    path = f"/api/v1/namespaces/{gone.namespace}"
    view.api.create("/api/v1/namespaces", {"metadata": {"name": gone.namespace}})
    gone.create("small")
    ready(gone, "small")
    view.api.delete(path)
    eventually(lambda: gone.is_gone(path), what="the namespace gone")


def test_a_missing_repository_is_told_with_the_next_step(launcher: Launcher, view: View) -> None:
    launcher.start()
    view.create(MISSING_REPOSITORY)
    eventually(
        lambda: view.condition(MISSING_REPOSITORY, "Ready") == ("False", "RepositoryNotFound"),
        what="the loader's reason",
    )
    assert view.condition(MISSING_REPOSITORY, "Stalled") == ("True", "RepositoryNotFound")
    assert not view.children("Deployment")
    first = set(view.children("Job"))
    eventually(lambda: set(view.children("Job")) - first != set(), what="another try")


def test_a_model_without_a_node_says_so_and_takes_the_node_that_comes(
    launcher: Launcher, view: View, plane: ControlPlane
) -> None:
    launcher.start()
    view.create("small", resources={"memory": "100Gi"})
    eventually(lambda: view.condition("small", "Ready") == ("False", "Unschedulable"), what="Unschedulable")
    assert view.condition("small", "Placed") == ("False", "Unschedulable")
    plane.add_node(FakeNode("large", allocatable={"memory": "200Gi"}))
    ready(view, "small")
    assert view.condition("small", "Placed") == ("True", "Placed")


def test_a_pod_that_does_not_answer_keeps_the_model_from_ready(launcher: Launcher, view: View, stub: Stub) -> None:
    stub.healthy = False
    launcher.start()
    view.create("small")
    eventually(lambda: view.condition("small", "Ready") == ("False", "NotAnswering"), what="NotAnswering")
    stub.healthy = True
    ready(view, "small")


def test_an_operator_killed_at_any_time_converges_to_the_same(launcher: Launcher, view: View) -> None:
    names = [f"m{number}" for number in range(4)]
    for name in names:
        view.create(name)
    for writes in (1, 6, 14, 25):
        process = launcher.start()
        eventually(
            lambda process=process, writes=writes: _written(process, view) >= writes,  # type: ignore[misc]
            what=f"{writes} writes",
        )
        process.kill()
    process = launcher.start()
    ready(view, *names)
    before = settled(process, view)
    assert set(view.children("Deployment")) == {f"{name}-model" for name in names}
    assert len(view.children("ConfigMap")) == 2 * len(names)
    resyncs(process, 1)
    assert view.versions() == before


def _written(process: Process, view: View) -> int:
    assert process.popen.poll() is None, process.log.read_text()
    return len(view.versions())


def test_an_api_server_that_was_away_is_taken_up_again(
    launcher: Launcher, view: View, plane: ControlPlane
) -> None:
    process = launcher.start()
    view.create("before")
    ready(view, "before")
    plane.stop_component("kube-apiserver")
    eventually(lambda: process.metric('nimblet_resyncs_total{outcome="failed"}') >= 1, what="a failed resync")
    plane.start_component("kube-apiserver")
    view.create("after")
    ready(view, "before", "after")
    assert process.popen.poll() is None


def test_a_restart_does_not_flap_the_status(launcher: Launcher, view: View) -> None:
    first = launcher.start()
    view.create("small")
    ready(view, "small")
    before = settled(first, view)
    assert first.terminate() == 0
    second = launcher.start()
    resyncs(second, 2)
    assert view.versions() == before


def holder(view: View) -> str:
    """Return who has the lease, "" where nobody has."""
    lease: Any = view.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE_NAME}")
    return str(lease["spec"].get("holderIdentity") or "")


def test_one_leader_at_a_time_and_a_prompt_hand_over(launcher: Launcher, view: View) -> None:
    first = launcher.start(elect=True)
    eventually(lambda: first.probe("/readyz") == 200, what="a leader")
    eventually(lambda: first.metric("nimblet_leader") == 1, what="a leader")
    second = launcher.start(elect=True)
    eventually(lambda: second.probe("/livez") == 200, what="a live standby")
    view.create("small")
    ready(view, "small")
    assert second.metric("nimblet_leader") == 0
    leader = holder(view)
    assert leader
    assert first.terminate() == 0
    # given up: the standby need not wait until the lease has run out
    assert holder(view) != leader
    eventually(lambda: second.metric("nimblet_leader") == 1, what="the standby leads")
    second.kill()
    third = launcher.start(elect=True)
    eventually(lambda: third.metric("nimblet_leader") == 1, what="the lease run out and taken")
