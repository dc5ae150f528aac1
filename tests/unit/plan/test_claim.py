# SPDX-License-Identifier: Apache-2.0
"""The cache's claim: what it asks for, what it can't become, and why it has no volume."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from pydantic import ValidationError

from nimblet import labels
from nimblet.plan.facts import (
    ClaimFacts,
    ContainerFailure,
    FailureKind,
    JobFacts,
    StorageClassFacts,
    WriteFailure,
)
from tests.builders import NOW, SMOLLM2_FILE, a_model, a_spec, artifact_text, child, edited, kinds, plan_of, stored
from tests.cached import DEFAULT, RWO, RWX, SHARED, a_claim, a_fill, facts_of, running_facts
from tests.conditions import message, shown


@pytest.mark.parametrize(
    ("spec", "classes", "words"),
    [
        (RWX, (DEFAULT,), "There is no StorageClass shared; there is: standard."),
        (RWO, (SHARED,), "no StorageClass is the default; there is: shared."),
        (RWO, (), "there is: none."),
    ],
)
def test_a_missing_storage_class_is_told_before_any_claim_is_made(
    spec: dict[str, Any], classes: tuple[StorageClassFacts, ...], words: str
) -> None:
    model = a_model(**spec)
    plan = plan_of(model, facts_of(model, storage_classes=classes))
    assert shown(plan, "Ready") == ("False", "StorageClassMissing")
    assert words in message(plan, "Ready")
    assert "PersistentVolumeClaim" not in kinds(plan)
    assert plan.requeue_after == 5.0


def test_unreadable_storage_classes_leave_it_to_the_cluster() -> None:
    model = a_model(**RWX)
    assert "PersistentVolumeClaim" in kinds(plan_of(model, facts_of(model, storage_classes=None)))


def unbound_fill(words: str, *, seconds: float) -> JobFacts:
    failure = ContainerFailure(kind=FailureKind.UNSCHEDULABLE, container="", message=words)
    return a_fill(created_at=NOW - timedelta(seconds=seconds), failure=failure if words else None)


UNBOUND: Final = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."


@pytest.mark.parametrize(
    ("class_", "job", "ready"),
    [
        ("shared", unbound_fill(UNBOUND, seconds=5), ("Unknown", "ClaimPending")),
        ("shared", unbound_fill(UNBOUND, seconds=70), ("False", "ClaimPending")),
        ("standard", unbound_fill("", seconds=70), ("False", "ClaimPending")),
        (
            "standard",
            unbound_fill("0/1 nodes are available: 1 Insufficient cpu.", seconds=70),
            ("False", "Unschedulable"),
        ),
    ],
    ids=["provisioning", "immediate too long", "first consumer too long", "no room for the filler"],
)
def test_an_unbound_claim_is_told(class_: str, job: JobFacts, ready: tuple[str, str]) -> None:
    model = a_model(cache={})
    created = job.created_at
    claim = a_claim(phase="Pending", capacity="", storage_class=class_, created_at=created)
    plan = plan_of(model, facts_of(model, claim=claim, fills=(job,)))
    assert shown(plan, "Ready") == ready


def test_waiting_for_the_first_consumer_is_no_failure() -> None:
    model = a_model(cache={})
    claim = a_claim(phase="Pending", capacity="", storage_class="standard", created_at=NOW - timedelta(hours=1))
    plan = plan_of(model, facts_of(model, claim=claim))
    assert shown(plan, "Ready") == ("Unknown", "Downloading")
    assert "Job" in kinds(plan)


@pytest.mark.parametrize("claim", [a_claim(phase="Lost"), a_claim(deleting=True)], ids=["lost", "deleted"])
def test_a_claim_that_is_lost_is_told_and_the_pods_stay(claim: ClaimFacts) -> None:
    model = a_model(**RWX)
    plan = plan_of(model, running_facts(model, claim=claim))
    assert shown(plan, "Ready") == ("False", "ClaimLost")
    assert shown(plan, "Serving") == ("True", "Answering")


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        ({"storageClassName": "standard"}, "storageClassName can't be changed from shared to standard"),
        ({"size": "512Mi"}, "size can't be changed from 1Gi to the smaller 512Mi"),
    ],
)
def test_an_edit_that_the_claim_does_not_take_is_told_and_nothing_is_written(
    cache: dict[str, Any], words: str
) -> None:
    model = edited(a_model(**RWX), cache=cache)
    plan = plan_of(model, running_facts(a_model(**RWX)))
    assert shown(plan, "Ready") == ("False", "ImmutableField")
    assert words in message(plan, "Ready")
    assert "PersistentVolumeClaim" not in kinds(plan)


def test_a_class_that_the_spec_names_no_more_is_not_taken_from_the_claim() -> None:
    # given a claim of a class that the spec named, or that a retained claim came with
    model = a_model(cache={})
    plan = plan_of(model, facts_of(model, claim=a_claim()))
    # then it is applied as it is: leaving out what was applied once is refused as a change
    assert child(plan.children, "PersistentVolumeClaim")["spec"]["storageClassName"] == "shared"
    assert shown(plan, "Stalled") is None
    # and where there is no claim yet, the cluster chooses
    first = child(plan_of(model, facts_of(model)).children, "PersistentVolumeClaim")
    assert "storageClassName" not in first["spec"]


def test_another_access_mode_is_told() -> None:
    model = a_model(**RWO)
    plan = plan_of(model, facts_of(model, claim=a_claim()))
    assert "accessModes can't be changed from ReadWriteMany to ReadWriteOnce" in message(plan, "Ready")


@pytest.mark.parametrize(
    ("size", "expandable", "requested"),
    [("5Gi", True, "5Gi"), (None, True, "3Gi"), (None, False, "1Gi")],
    ids=["asked for", "computed", "computed, no expansion"],
)
def test_growth_is_applied_where_the_class_allows_it(size: str | None, expandable: bool, requested: str) -> None:
    model = a_model(cache={"storageClassName": "shared", **({"size": size} if size else {})})
    files = [{"path": SMOLLM2_FILE, "size": 2**30, "sha256": "0" * 64}]

    artifacts = (stored(model, artifact_text(files=files)),)
    classes = (replace(SHARED, expandable=expandable),)
    plan = plan_of(model, facts_of(model, artifacts=artifacts, claim=a_claim(), storage_classes=classes))
    claim = child(plan.children, "PersistentVolumeClaim")
    assert claim["spec"]["resources"]["requests"]["storage"] == requested


def test_growth_that_the_class_refuses_is_told() -> None:
    model = a_model(cache={"storageClassName": "shared", "size": "5Gi"})
    classes = (replace(SHARED, expandable=False),)
    plan = plan_of(model, facts_of(model, claim=a_claim(), storage_classes=classes))
    assert "StorageClass shared does not allow it" in message(plan, "Ready")


def test_a_retained_claim_says_for_whom() -> None:
    model = a_model(cache={"retention": "Retain"})
    claim = child(plan_of(model, facts_of(model)).children, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {labels.RETAINED_FOR: "CompactModel.smollm2"}
    kept = child(plan_of(a_model(cache={}), facts_of(a_model(cache={}))).children, "PersistentVolumeClaim")
    assert "annotations" not in kept["metadata"]


def test_a_claim_of_somebody_else_is_a_conflict() -> None:
    model = a_model(**RWX)
    refused = WriteFailure(
        kind="PersistentVolumeClaim", name="smollm2-cache", category="Conflict", message="taken"
    )
    plan = plan_of(model, facts_of(model, write_failures=(refused,)))
    assert shown(plan, "Ready") == ("False", "Conflict")


@pytest.mark.parametrize(
    "spec",
    [
        {"cache": {"accessMode": "ReadWriteOnce"}},
        {"cache": {"accessMode": "ReadWriteOnce"}, "rollout": {"strategy": "Recreate"}, "replicas": 2},
    ],
)
def test_readwriteonce_needs_one_replica_and_recreate(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="ReadWriteOnce cache is for one node"):
        a_spec(**spec)
