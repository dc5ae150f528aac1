# SPDX-License-Identifier: Apache-2.0
"""The truth table of Serving and Ready: what the pods show, and what the conditions then say."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nimblet import labels
from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import ConditionType
from nimblet.merging import find
from nimblet.plan.compactmodel import plan_invalid
from nimblet.plan.facts import (
    Answer,
    ContainerFailure,
    FailureKind,
    ModelFacts,
    Observation,
    WriteFailure,
)
from tests.builders import (
    DIGEST,
    NOW,
    SETTINGS,
    SMOLLM2_FILE,
    SMOLLM2_URI,
    a_deployment,
    a_job,
    a_model,
    a_node,
    a_pod,
    artifact_text,
    base_facts,
    child,
    edited,
    failing,
    plan_of,
    revision_of,
    served,
    serving_facts,
    starting_facts,
    stored,
    waiting_pod,
)
from tests.conditions import message, shown


def revision_with(model: CompactModel, text: str) -> str:
    """Return the hash of the template that a model with this artifact has."""
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, text),)))
    labels_: dict[str, str] = child(plan.children, "Deployment")["metadata"]["labels"]
    return labels_[labels.REVISION]


BUSY = Observation(answer=Answer.BUSY)
SILENT = Observation(answer=Answer.FAILED, detail="HTTP 500")


def test_all_pods_answer() -> None:
    model = a_model(replicas=2)
    plan = plan_of(model, serving_facts(model))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("True", "Ready")
    assert shown(plan, "Placed") == ("True", "Placed")
    assert shown(plan, "Reconciling") is None
    assert shown(plan, "Stalled") is None
    assert (plan.status.replicas, plan.status.ready_replicas, plan.status.updated_replicas) == (2, 2, 2)
    assert plan.requeue_after is None


def test_draining_pods_keep_serving_true_while_the_new_one_is_asked() -> None:
    model = served(a_model())
    draining = a_pod("older", "pod-0", terminating=True)
    facts = serving_facts(model, pods=(draining, a_pod(revision_of(model), observation=BUSY)))
    plan = plan_of(edited(model), replace(facts, deployment=a_deployment(revision_of(model))))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("Unknown", "Starting")
    assert plan.status.ready_replicas == 0


def test_draining_pods_of_a_model_scaled_to_zero_do_not_serve() -> None:
    model = a_model(replicas=0)
    plan = plan_of(model, serving_facts(model, pods=(a_pod(revision_of(model), terminating=True),)))
    assert shown(plan, "Serving") == ("False", "ScaledToZero")


def test_ready_by_the_probe_is_not_ready_without_an_answer() -> None:
    model = a_model()
    revision = revision_of(model)
    facts = serving_facts(model, pods=(a_pod(revision, observation=None),))
    plan = plan_of(model, facts)
    assert shown(plan, "Serving") == ("False", "Starting")
    assert shown(plan, "Ready") == ("Unknown", "Starting")
    assert plan.requeue_after == SETTINGS.timing.probe_retry_seconds


def test_pod_that_gives_no_token_is_not_answering() -> None:
    model = a_model()
    facts = serving_facts(model, pods=(a_pod(revision_of(model), observation=SILENT),))
    plan = plan_of(model, facts)
    assert shown(plan, "Serving") == ("False", "NotAnswering")
    assert shown(plan, "Ready") == ("False", "NotAnswering")
    assert "HTTP 500" in message(plan, "Ready")
    assert plan.requeue_after == SETTINGS.timing.probe_retry_seconds


def test_busy_pod_after_an_operator_restart_keeps_serving_and_ready() -> None:
    model = served(a_model())
    plan = plan_of(model, serving_facts(model, pods=(a_pod(revision_of(model), observation=BUSY),)))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("True", "Ready")


@pytest.mark.parametrize("name", ["replaced", "restarted"])
def test_busy_pod_that_came_up_while_no_operator_looked_proves_nothing(name: str) -> None:
    # Given a status that was last written before this run of the pod began
    model, later = served(a_model()), NOW + timedelta(hours=1)
    killed = failing(FailureKind.OOM_KILLED, at=later, running_again=True)
    pod = a_pod(revision_of(model), observation=BUSY)
    pod = replace(pod, created_at=later) if name == "replaced" else replace(pod, failure=killed)
    plan = plan_of(model, serving_facts(model, pods=(pod,)), now=later + timedelta(hours=1))
    assert shown(plan, "Serving") == ("False", "Starting")
    assert shown(plan, "Ready") == ("Unknown", "Starting")


@pytest.mark.parametrize("name", ["replaced", "restarted"])
def test_busy_pod_of_an_older_spec_that_came_up_while_no_operator_looked_proves_nothing(name: str) -> None:
    # Given an edit, and a status that was last written before this run of the older pod began
    model, later = edited(served(a_model()), runtime={"contextLength": 1024}), NOW + timedelta(hours=1)
    killed = failing(FailureKind.OOM_KILLED, at=later, running_again=True)
    older = a_pod("older", observation=BUSY)
    older = replace(older, created_at=later) if name == "replaced" else replace(older, failure=killed)
    plan = plan_of(model, serving_facts(model, pods=(older,)), now=later + timedelta(hours=1))
    # Then nobody says that it answers; of one that ran then the status still holds
    assert shown(plan, "Serving") == ("False", "Progressing")
    ran = serving_facts(model, pods=(a_pod("older", observation=BUSY),))
    assert shown(plan_of(model, ran, now=later), "Serving") == ("True", "Answering")


def test_busy_pod_that_never_answered_proves_nothing() -> None:
    model = a_model()
    plan = plan_of(model, serving_facts(model, pods=(a_pod(revision_of(model), observation=BUSY),)))
    assert shown(plan, "Serving") == ("False", "Starting")


def test_busy_pod_of_an_edit_does_not_make_the_edit_ready() -> None:
    old = a_model()
    new = edited(served(old), runtime={"contextLength": 1024})
    plan = plan_of(new, serving_facts(new, pods=(a_pod(revision_of(new), observation=BUSY),)))
    assert shown(plan, "Ready") == ("Unknown", "Starting")


def test_download_shows_its_progress_in_steps_of_ten() -> None:
    plan = plan_of(a_model(), starting_facts(loading=True, download_percent=57))
    assert plan.status.download_percent == 50
    assert shown(plan, "Ready") == ("Unknown", "Downloading")
    assert message(plan, "Reconciling") == "Fetching and checking the weights: 50 %."
    assert shown(plan, "Verified") == ("Unknown", "Pending")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FailureKind.UNSCHEDULABLE, "Unschedulable"),
        (FailureKind.IMAGE_PULL, "ImagePullFailed"),
        (FailureKind.MOUNT, "MountFailed"),
        (FailureKind.SANDBOX, "SandboxFailed"),
        (FailureKind.CONFIG, "ContainerConfigError"),
        (FailureKind.OOM_KILLED, "OOMKilled"),
        (FailureKind.CRASH_LOOP, "CrashLoopBackOff"),
        (FailureKind.EXITED, "ContainerExited"),
        (FailureKind.EVICTED, "Evicted"),
        (FailureKind.REFUSED, "PodRefused"),
        (FailureKind.LOADER, "LoaderFailed"),
    ],
)
def test_recorded_failure_is_the_reason(kind: FailureKind, reason: str) -> None:
    plan = plan_of(a_model(), starting_facts(failing(kind)))
    for type_, status in (("Ready", "False"), ("Serving", "False"), ("Stalled", "True")):
        assert shown(plan, type_) == (status, reason)
    assert message(plan, "Ready").endswith(".")
    assert ".." not in message(plan, "Ready")


def test_cluster_message_is_quoted_as_it_is() -> None:
    plan = plan_of(a_model(), starting_facts(failing(FailureKind.CRASH_LOOP, "loading ... failed.", exit_code=3)))
    assert "with exit code 3: loading ... failed. See the log" in message(plan, "Ready")


def test_loader_in_a_pod_tells_its_own_reason() -> None:
    report = '{"version":1,"error":{"reason":"DigestMismatch","message":"Expected abc, found def."}}'
    plan = plan_of(a_model(), starting_facts(failing(FailureKind.LOADER, report)))
    assert shown(plan, "Ready") == ("False", "DigestMismatch")
    assert shown(plan, "Verified") == ("False", "DigestMismatch")
    assert "Expected abc, found def." in message(plan, "Ready")


def test_killed_server_that_runs_again_serves_but_is_not_ready_until_stable() -> None:
    model = a_model()
    failure = failing(FailureKind.OOM_KILLED, at=NOW - timedelta(seconds=5), running_again=True)
    facts = serving_facts(model, pods=(a_pod(revision_of(model), failure=failure),))
    plan = plan_of(model, facts)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "OOMKilled")
    assert plan.requeue_after == 15
    later = plan_of(model, facts, now=NOW + timedelta(seconds=15))
    assert shown(later, "Ready") == ("True", "Ready")


@pytest.mark.parametrize(
    ("kind", "ended"),
    [(FailureKind.EVICTED, False), (FailureKind.REFUSED, False), (FailureKind.EXITED, True)],
)
def test_lost_pod_stays_listed_but_its_replacement_counts(kind: FailureKind, ended: bool) -> None:
    model = a_model()
    revision = revision_of(model)
    lost = waiting_pod(revision, "pod-0", failure=failing(kind), ended=ended)
    facts = serving_facts(model, pods=(lost, a_pod(revision)))
    plan = plan_of(model, facts)
    assert shown(plan, "Ready") == ("True", "Ready")
    assert plan.status.replicas == 1


def test_an_eviction_is_told_until_the_replacement_answers_or_it_is_old() -> None:
    # Given a pod that was evicted ten seconds ago, and a replacement that starts already
    model = a_model()
    revision = revision_of(model)
    failure = failing(FailureKind.EVICTED, at=NOW - timedelta(seconds=10))
    lost = waiting_pod(revision, "pod-0", failure=failure, ended=True)
    facts = serving_facts(model, pods=(lost, waiting_pod(revision, "pod-1")))
    # Then the eviction is the reason, and not for ever
    plan = plan_of(model, facts)
    assert shown(plan, "Ready") == ("False", "Evicted")
    assert plan.requeue_after == 50
    assert shown(plan_of(model, facts, now=NOW + timedelta(seconds=50)), "Ready") == ("Unknown", "Starting")


@pytest.mark.parametrize(
    "words",
    [
        '0/1 nodes are available: persistentvolumeclaim "weights" not found. not found',
        "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
    ],
)
def test_a_claim_that_keeps_a_pod_waiting_is_named(words: str) -> None:
    model = a_model(source={"uri": "pvc://weights/llm"})
    failure = ContainerFailure(kind=FailureKind.UNSCHEDULABLE, container="", message=words)
    plan = plan_of(model, ModelFacts(jobs=(a_job(model, failure=failure),)))
    assert shown(plan, "Ready") == ("False", "ClaimNotReady")
    assert words.rstrip(".") in message(plan, "Ready")
    assert "kubectl describe pvc" in message(plan, "Ready")


def test_verified_stays_while_another_replica_starts() -> None:
    model = a_model(replicas=2, integrity={"sha256": {SMOLLM2_FILE: DIGEST}})
    revision = revision_of(model)
    facts = serving_facts(
        model,
        artifacts=(stored(model, artifact_text(digestSource="Spec")),),
        pods=(a_pod(revision), waiting_pod(revision, "pod-2")),
    )
    plan = plan_of(model, facts)
    assert shown(plan, "Ready") == ("Unknown", "Starting")
    assert shown(plan, "Verified") == ("True", "DigestsMatch")


@pytest.mark.parametrize(
    ("digest_source", "expected"),
    [
        ("Spec", ("False", "Unverified")),  # the artifact says so, and the spec demands nothing: it was forged
        ("Source", ("Unknown", "Pinned")),
        ("Resolver", ("Unknown", "Pinned")),
        ("None", ("False", "Unverified")),
    ],
)
def test_verified_says_who_vouches(digest_source: str, expected: tuple[str, str]) -> None:
    model = a_model()
    artifact = stored(model, artifact_text(digestSource=digest_source))
    assert shown(plan_of(model, serving_facts(model, artifacts=(artifact,))), "Verified") == expected


def test_a_digest_that_only_the_loader_found_is_told_and_kept() -> None:
    model = a_model()
    text = artifact_text(digestSource="None", files=[{"path": "m.gguf", "size": 10}])
    revision = revision_with(model, text)
    found = replace(a_pod(revision), digests={"m.gguf": DIGEST, "other": "0" * 64})
    facts = serving_facts(model, artifacts=(stored(model, text),), pods=(found,))
    status = plan_of(model, facts).status
    assert status.artifact is not None
    assert [file.sha256 for file in status.artifact.files] == [DIGEST]
    later = model.model_copy(update={"status": status})
    kept = plan_of(later, serving_facts(model, artifacts=facts.artifacts, pods=())).status
    assert kept.artifact == status.artifact
    assert shown(plan_of(model, facts), "Verified") == ("False", "Unverified")


@pytest.mark.parametrize(
    ("category", "reason"),
    [
        ("Conflict", "Conflict"),
        ("Contested", "Contested"),
        ("ImmutableField", "ImmutableField"),
        ("Refused", "ApplyRefused"),
        ("Unknown", "ApplyRefused"),
    ],
)
def test_refused_write_is_told_with_the_object(category: str, reason: str) -> None:
    model = a_model()
    failure = WriteFailure(kind="Service", name="smollm2-model", category=category, message="not ours.")
    plan = plan_of(model, serving_facts(model, write_failures=(failure,)))
    assert shown(plan, "Ready") == ("False", reason)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert message(plan, "Ready").startswith("Service smollm2-model: not ours.")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"refused": "exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0"}, "QuotaExceeded"),
        ({"refused": "failed quota: small: must specify limits.cpu for: server"}, "QuotaExceeded"),
        ({"refused": "maximum memory usage per Container is 64Mi, but limit is 192Mi"}, "LimitRangeViolated"),
        ({"refused": "memory max limit to request ratio per Pod is 1, but"}, "LimitRangeViolated"),
        ({"refused": 'violates PodSecurity "restricted:latest": privileged'}, "PodSecurityRefused"),
        ({"refused": "denied by somebody's webhook"}, "PodRefused"),
        ({"progress_deadline_exceeded": True}, "ProgressDeadlineExceeded"),
    ],
)
def test_deployments_own_conditions_are_told(fields: dict[str, Any], reason: str) -> None:
    model = a_model()
    revision = revision_of(model)
    facts = base_facts(model, deployment=a_deployment(revision, **fields))
    assert shown(plan_of(model, facts), "Ready") == ("False", reason)
    stale = base_facts(model, deployment=a_deployment("older", **fields))
    assert shown(plan_of(model, stale), "Ready") == ("Unknown", "Starting")


def test_pod_that_is_not_ready_on_a_node_that_is_away_names_the_node() -> None:
    model = a_model()
    facts = serving_facts(model)
    gone = tuple(replace(pod, ready=False, observation=None, node="node-1") for pod in facts.pods)
    away = replace(facts, pods=gone, nodes=(a_node(reachable=False),))
    plan = plan_of(served(model), away)
    assert shown(plan, "Serving") == ("False", "NodeNotReady")
    assert shown(plan, "Ready") == ("False", "NodeNotReady")
    assert "node-1" in message(plan, "Ready")
    still_ready = replace(facts, nodes=(a_node(reachable=False),))
    assert shown(plan_of(served(model), still_ready), "Ready") == ("True", "Ready")


def test_invalid_spec_touches_nothing_and_keeps_serving() -> None:
    status = served(a_model()).status
    plan = plan_invalid(
        generation=7, status=status, errors="spec.replicas: expected a number.", ready=True, now=NOW
    )
    assert (plan.children, plan.deletions) == ((), ())
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "InvalidSpec")
    assert shown(plan, "Stalled") == ("True", "InvalidSpec")
    assert plan.status.observed_generation == 7


def test_invalid_spec_keeps_no_serving_once_no_pod_is_ready() -> None:
    status, flaw = served(a_model()).status, "spec.replicas: expected a number."
    plan = plan_invalid(generation=7, status=status, errors=flaw, ready=False, now=NOW)
    assert (plan.children, plan.deletions) == ((), ())
    assert shown(plan, "Serving") == ("False", "InvalidSpec")
    # a pod that is ready again is not asked: nothing says that it answers
    again = plan_invalid(generation=7, status=plan.status, errors=flaw, ready=True, now=NOW)
    assert again.status == plan.status


def test_second_look_at_the_same_facts_changes_nothing() -> None:
    model = served(a_model())
    again = plan_of(model, serving_facts(model), now=NOW + timedelta(hours=1))
    assert again.status == model.status


def test_transition_time_moves_only_with_the_status() -> None:
    model = served(a_model())
    later = NOW + timedelta(hours=1)
    plan = plan_of(model, serving_facts(model, pods=(a_pod(revision_of(model), observation=SILENT),)), now=later)
    ready, placed = (
        find(plan.status.conditions, ConditionType.READY),
        find(plan.status.conditions, ConditionType.PLACED),
    )
    assert ready is not None
    assert placed is not None
    assert ready.last_transition_time == later
    assert placed.last_transition_time == NOW


def test_source_uri_is_in_the_resolved_message() -> None:
    model = a_model()
    assert SMOLLM2_URI in message(plan_of(model, serving_facts(model)), "Resolved")
