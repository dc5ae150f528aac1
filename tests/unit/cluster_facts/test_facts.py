# SPDX-License-Identifier: Apache-2.0
"""Objects of the mirror as facts."""

import base64
from datetime import UTC, datetime

import pytest

from nimblet import labels
from nimblet.cluster.child import Owner, prepare
from nimblet.cluster.facts import (
    artifacts,
    children,
    deployment_facts,
    model_pods,
    pod_facts,
    workload_facts,
)
from nimblet.cluster.jobfacts import job_facts, lacks_result
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.named import secret_facts, text_facts
from nimblet.cluster.nodefacts import node_facts
from nimblet.cluster.observed import Job, Pod
from nimblet.plan.facts import FailureKind, SecretFacts
from tests.unit.cluster_facts.builders import (
    Json,
    child,
    condition,
    container,
    metadata,
    owner,
    pod,
    running,
    terminated,
    waiting,
)

SMALL = Key("CompactModel", "team", "small")
NOW = datetime(2026, 1, 1, 10, 6, tzinfo=UTC)
MASTER = b"k" * 32


def job(*conditions: Json, active: int = 0, created: str = "2026-01-01T10:00:00Z") -> Json:
    return {
        "kind": "Job",
        "metadata": metadata(
            "small-resolve-src1-2",
            labels={"nimblet.dev/source-hash": "src1", "nimblet.dev/model": "small"},
            annotations={"nimblet.dev/attempt": "2", "nimblet.dev/credentials-hash": "c1"},
            ownerReferences=[owner("CompactModel", "small", "uid-small", "nimblet.dev/v1alpha1")],
            creationTimestamp=created,
        ),
        "spec": {},
        "status": {"active": active, "conditions": list(conditions)},
    }


def resolver_pod(state: Json, **extra: object) -> Pod:
    body = pod(
        "resolver-pod",
        labels={"app.kubernetes.io/component": "resolver"},
        owners=[owner("Job", "small-resolve-src1-2", "uid-small-resolve-src1-2", "batch/v1")],
        status={"containerStatuses": [container("resolver", state)], **extra},
    )
    return Pod.model_validate(body)


def test_a_job_that_succeeded_brings_its_pods_words() -> None:
    facts = job_facts(
        Job.model_validate(job(condition("Complete", "True"))),
        [resolver_pod(terminated(0, "Completed", '{"version":1}'))],
        now=NOW,
    )
    assert (facts.succeeded, facts.failed, facts.result, facts.exit_code) == (True, False, '{"version":1}', 0)
    assert (facts.attempt, facts.source_hash, facts.credentials_hash) == (2, "src1", "c1")
    assert facts.finished_at == datetime(2026, 1, 1, 10, 5, tzinfo=UTC)
    assert facts.failure is None


def test_a_job_that_failed_brings_exit_code_and_words() -> None:
    facts = job_facts(
        Job.model_validate(job(condition("Failed", "True", "BackoffLimitExceeded", "too often"))),
        [resolver_pod(terminated(10, message='{"version":1,"error":{}}'))],
        now=NOW,
    )
    assert (facts.failed, facts.exit_code, facts.result) == (True, 10, '{"version":1,"error":{}}')
    assert facts.message == "too often"
    assert facts.failure is None


def test_a_finished_job_whose_pod_is_unseen_lacks_its_result() -> None:
    facts = job_facts(Job.model_validate(job(condition("Failed", "True"))), [], now=NOW)
    assert lacks_result(facts)
    assert facts.failure is None


def test_a_resolver_that_cannot_start_is_a_failure() -> None:
    facts = job_facts(
        Job.model_validate(job(active=1)), [resolver_pod(waiting("ErrImagePull", "no such image"))], now=NOW
    )
    assert facts.failure is not None
    assert facts.failure.kind is FailureKind.IMAGE_PULL


def test_a_job_without_a_pod_was_refused_once_time_has_passed() -> None:
    late = job_facts(Job.model_validate(job()), [], now=NOW)
    early = job_facts(Job.model_validate(job(created="2026-01-01T10:05:55Z")), [], now=NOW)
    assert late.failure is not None
    assert late.failure.kind is FailureKind.REFUSED
    assert early.failure is None


def test_pods_of_other_jobs_do_not_count() -> None:
    stranger = pod("stranger", owners=[owner("Job", "other", "uid-other", "batch/v1")])
    facts = job_facts(Job.model_validate(job(active=1)), [Pod.model_validate(stranger)], now=NOW)
    assert facts.result is None


def test_children_are_those_that_the_resource_controls() -> None:
    mirror = Mirror()
    mirror.put("Service", child("Service", "small-model"))
    labelled = child("ConfigMap", "labelled")
    labelled["metadata"]["ownerReferences"] = []  # type: ignore[index]
    mirror.put("ConfigMap", labelled)
    mirror.put("Pod", pod())
    assert [ref.name for ref in children(mirror, SMALL, uid="uid-small")] == ["small-model"]
    assert children(mirror, SMALL, uid="uid-of-another-life") == ()


def test_artifacts_are_config_maps_of_their_component() -> None:
    mirror = Mirror()
    body = child("ConfigMap", "small-artifact-src1", data={"artifact.json": "{}"})
    body["metadata"]["labels"] |= {  # type: ignore[index]
        "app.kubernetes.io/component": "artifact",
        "nimblet.dev/source-hash": "src1",
    }
    mirror.put("ConfigMap", body)
    mirror.put("ConfigMap", child("ConfigMap", "small-fetch", data={"policy.json": "{}"}))
    assert [(a.name, a.source_hash, a.text) for a in artifacts(mirror, SMALL, uid="uid-small")] == [
        ("small-artifact-src1", "src1", "{}")
    ]


def test_a_deployment_as_observed() -> None:
    mirror = Mirror()
    containers = {"containers": [{"image": "server:1"}], "initContainers": [{"image": "loader:1"}]}
    template = {
        "metadata": {"labels": {"nimblet.dev/revision": "r2", "nimblet.dev/source-hash": "src1"}},
        "spec": containers,
    }
    body = child("Deployment", "small-model", spec={"replicas": 2, "template": template})
    body["metadata"]["generation"] = 3  # type: ignore[index]
    body["status"] = {
        "observedGeneration": 2,
        "replicas": 2,
        "updatedReplicas": 1,
        "conditions": [
            condition("Progressing", "False", "ProgressDeadlineExceeded"),
            condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota"),
        ],
    }
    mirror.put("Deployment", body)
    facts = deployment_facts(mirror, SMALL, uid="uid-small")
    assert facts is not None
    assert (facts.generation, facts.observed_generation, facts.revision) == (3, 2, "r2")
    assert (facts.replicas, facts.updated_replicas) == (2, 1)
    assert facts.progress_deadline_exceeded
    assert facts.refused == "exceeded quota"
    assert facts.images == frozenset({"server:1", "loader:1"})


def test_images_that_admission_wrote_otherwise_are_known_as_they_were_applied_too() -> None:
    # given a Deployment of ours whose image a webhook took to a mirror
    def template(image: str) -> Json:
        return {"template": {"spec": {"containers": [{"name": "server", "image": image}]}}}

    whose = Owner(api_version=labels.API_VERSION, kind="CompactModel", name="small", uid="uid", namespace="team")
    ours = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "small-model"}}
    applied = prepare({**ours, "spec": template("server:1")}, whose).manifest
    # when it is seen
    found = workload_facts({**applied, "spec": template("mirror.example/server:1")})
    # then both are its images, and an upgrade of the operator keeps the one that the status names
    assert found.runs("server:1")
    assert found.runs("mirror.example/server:1")
    assert not found.runs("evil.example/thief:1")


def test_a_model_pod_as_observed() -> None:
    status = {
        "podIP": "10.0.0.7",
        "conditions": [condition("Ready", "True")],
        "initContainerStatuses": [container("loader", terminated(0, "Completed"))],
        "containerStatuses": [container("server", running(), ready=True)],
    }
    facts = pod_facts(Pod.model_validate(pod(status=status)))
    assert (facts.ready, facts.loading, facts.terminating, facts.failure) == (True, False, False, None)
    assert (facts.ip, facts.node, facts.container_id) == ("10.0.0.7", "node-1", "containerd://server-0")
    assert (facts.revision, facts.source_hash) == ("rev1", "src1")


@pytest.mark.parametrize(
    ("message", "code", "found"),
    [
        ('{"version":1,"files":1,"sha256":{"m.gguf":"' + "a" * 64 + '"}}', 0, {"m.gguf": "a" * 64}),
        ('{"version":1,"files":1,"sha256":{"m.gguf":"' + "a" * 64 + '"}}', 1, {}),
        ('{"version":1,"sha256":{"m.gguf":"short"}}', 0, {}),
        ('{"version":1,"files":1}', 0, {}),
        ("no report", 0, {}),
    ],
)
def test_what_a_loader_found_is_read_from_its_last_words(message: str, code: int, found: dict[str, str]) -> None:
    ended = terminated(code, "Completed", message)
    status = {"initContainerStatuses": [container("loader", ended)]}
    assert pod_facts(Pod.model_validate(pod(status=status))).digests == found


def test_a_downloading_pod_is_loading() -> None:
    status = {"initContainerStatuses": [container("loader", running())]}
    assert pod_facts(Pod.model_validate(pod(status=status))).loading


def test_resolver_pods_are_no_model_pods() -> None:
    mirror = Mirror()
    mirror.put("Pod", pod("a"))
    mirror.put("Pod", pod("b", labels={"app.kubernetes.io/component": "resolver"}))
    assert [each.name for each in model_pods(mirror, SMALL)] == ["a"]


def test_a_secret_leaves_nothing_but_a_keyed_hash() -> None:
    value = base64.b64encode(b"hf_canary").decode()
    body = {
        "metadata": metadata(
            "hub",
            labels={"nimblet.dev/use": "true"},
            annotations={"nimblet.dev/hosts": "huggingface.co, Mirror.example ,"},
        ),
        "data": {"token": value},
    }
    facts = secret_facts(body, master_key=MASTER)
    assert isinstance(facts, SecretFacts)
    assert (facts.usable, facts.hosts, facts.keys) == (True, ("huggingface.co", "mirror.example"), ("token",))
    assert value not in repr(facts)
    assert "hf_canary" not in repr(facts)
    assert facts.content_hash != secret_facts(body, master_key=b"o" * 32).content_hash


def test_a_secret_without_the_label_is_not_usable() -> None:
    assert not secret_facts({"metadata": metadata("hub"), "data": None}, master_key=MASTER).usable


def node(*taints: Json, unschedulable: bool = False) -> Json:
    return {
        "metadata": {"name": "n", "labels": {"a": "b"}},
        "spec": {"taints": list(taints), "unschedulable": unschedulable},
        "status": {"allocatable": {"cpu": "7910m", "memory": "31Gi"}},
    }


def test_a_node_is_its_totals() -> None:
    facts = node_facts(node())
    assert (facts.cpu_millicores, facts.memory_bytes, facts.schedulable) == (7910, 31 * 2**30, True)


def test_a_nodes_devices_are_their_totals() -> None:
    allocatable = {"cpu": "8", "memory": "31Gi", "pods": "110", "habana.ai/gaudi": "8", "hugepages-1Gi": "2Gi"}
    facts = node_facts({**node(), "status": {"allocatable": allocatable}})
    assert facts.resources == {"habana.ai/gaudi": 8, "hugepages-1Gi": 2 * 2**30}


def test_what_keeps_pods_from_a_node() -> None:
    passing: Json = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    lasting: Json = {"key": "dedicated", "effect": "NoSchedule", "value": "db"}
    soft: Json = {"key": "dedicated", "effect": "PreferNoSchedule"}
    found = [[str(taint) for taint in node_facts(node(taint)).taints] for taint in (passing, lasting, soft)]
    assert found == [[], ["dedicated=db:NoSchedule"], []]
    assert not node_facts(node(unschedulable=True)).schedulable


def test_a_config_map_is_its_keys_and_a_hash_of_the_named_text() -> None:
    body: Json = {"metadata": metadata("chat"), "data": {"a": "text", "empty": "\n"}}
    assert text_facts(body, key="a").keys == ("a", "empty")
    assert text_facts(body, key="a").content_hash
    assert text_facts(body, key="a") != text_facts({**body, "data": {"a": "other", "empty": ""}}, key="a")
    assert [text_facts(body, key=key).content_hash for key in ("empty", "absent")] == ["", ""]
