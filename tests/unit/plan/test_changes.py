# SPDX-License-Identifier: Apache-2.0
"""Changes of a model: rolling, broken and undone edits, scaling, newer images."""

import json
from dataclasses import replace
from typing import Any

import pytest

from nimblet.plan.facts import (
    ChildRef,
    FailureKind,
    ModelFacts,
)
from nimblet.settings import Images, Settings
from tests.builders import (
    SMOLLM2,
    SMOLLM2_URI,
    a_deployment,
    a_model,
    a_pod,
    artifact_text,
    base_facts,
    child,
    edited,
    failed_job,
    failing,
    kinds,
    plan_of,
    revision_of,
    served,
    serving_facts,
    stored,
    waiting_pod,
)
from tests.conditions import message, shown


def test_rolling_change_serves_and_reconciles() -> None:
    old = a_model()
    new = edited(served(old), runtime={"contextLength": 1024})
    pods = (a_pod(revision_of(old)), waiting_pod(revision_of(new), "pod-2"))
    plan = plan_of(new, base_facts(new, deployment=a_deployment(revision_of(new)), pods=pods))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("Unknown", "Progressing")
    assert shown(plan, "Reconciling") == ("True", "Progressing")
    assert message(plan, "Ready") == "0 of 1 replicas of the new spec answer; 1 older remain."


def broken(old: Any, how: str) -> tuple[Any, ModelFacts]:
    """Return an edit that can't work, and the facts while the old spec serves on."""
    facts = serving_facts(old)
    if how == "source":
        new = edited(served(old), source={"uri": "hf://no/model"})
        return new, replace(facts, jobs=(failed_job(new),))
    if how == "secret":
        return edited(served(old), source={"uri": SMOLLM2_URI, "credentialsSecretRef": {"name": "none"}}), facts
    if how == "context":
        return edited(served(old), runtime={"contextLength": 9000}), facts
    new = edited(served(old), source={"uri": "hf://no/model"})
    header = {**SMOLLM2, "architecture": "quantum-9000"} if how == "architecture" else HEADERLESS
    embedder = stored(new, artifact_text(header=header))
    return new, replace(facts, artifacts=(*facts.artifacts, embedder))


HEADERLESS = {
    "architecture": "clip",
    "parameters": 1,
    "tensorBytes": 1,
    "contextLength": 0,
    "embeddingLength": 0,
    "blockCount": 0,
}


def test_secret_that_went_is_missed_only_by_new_pods() -> None:
    model = a_model(source={"uri": SMOLLM2_URI, "credentialsSecretRef": {"name": "gone"}})
    revision = revision_of(model)
    pods = (a_pod(revision),)
    facts = base_facts(model, deployment=a_deployment(revision), pods=pods)
    assert shown(plan_of(model, facts), "Ready") == ("True", "Ready")
    spec = model.spec.model_dump(by_alias=True, exclude_none=True)
    plan = plan_of(edited(served(model), source=spec["source"], runtime={"contextLength": 1024}), facts)
    assert shown(plan, "Stalled") == ("True", "SecretMissing")
    assert "Deployment" not in kinds(plan)
    assert plan.requeue_after == 5


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("source", "RepositoryNotFound"),
        ("context", "ContextTooLong"),
        ("header", "UnsupportedModel"),
        ("architecture", "UnsupportedModel"),
        ("secret", "SecretMissing"),
    ],
)
def test_broken_edit_leaves_the_deployment_alone_and_says_both(how: str, reason: str) -> None:
    new, facts = broken(a_model(), how)
    plan = plan_of(new, facts)
    assert "Deployment" not in kinds(plan)
    assert "Deployment" not in [item.kind for item in plan.deletions]
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "UpdateFailed")
    assert shown(plan, "Stalled") == ("True", reason)
    assert message(plan, "Ready").startswith(f"The older spec serves on; the new one does not: {reason}: ")
    assert [item.kind for item in plan.deletions if item.kind == "ConfigMap"] == []


def test_broken_edit_of_the_image_serves_on() -> None:
    old = a_model()
    new = edited(served(old), runtime={"contextLength": 1024})
    pods = (
        a_pod(revision_of(old)),
        waiting_pod(revision_of(new), "pod-2", failure=failing(FailureKind.IMAGE_PULL)),
    )
    plan = plan_of(new, base_facts(new, deployment=a_deployment(revision_of(new)), pods=pods))
    assert shown(plan, "Ready") == ("False", "UpdateFailed")
    assert shown(plan, "Stalled") == ("True", "ImagePullFailed")


def test_undone_edit_heals() -> None:
    old = served(a_model())
    undone = old.model_copy(update={"generation": 3})
    plan = plan_of(undone, serving_facts(old))
    assert shown(plan, "Ready") == ("True", "Ready")
    assert plan.status.observed_generation == 3


def test_scaled_to_zero_is_neither_serving_nor_ready_nor_stalled() -> None:
    model = a_model(replicas=0)
    plan = plan_of(model, serving_facts(model))
    assert shown(plan, "Serving") == ("False", "ScaledToZero")
    assert shown(plan, "Ready") == ("False", "ScaledToZero")
    assert shown(plan, "Stalled") is None
    assert child(plan.children, "Deployment")["spec"]["replicas"] == 0


def test_disruption_budget_comes_with_the_second_replica_and_goes_with_it() -> None:
    two, one = a_model(replicas=2), a_model(replicas=1)
    assert "PodDisruptionBudget" in kinds(plan_of(two, serving_facts(two)))
    budget = ChildRef(kind="PodDisruptionBudget", name="smollm2-model", uid="uid-budget")
    plan = plan_of(one, serving_facts(one, children=(budget,)))
    assert "PodDisruptionBudget" not in kinds(plan)
    assert plan.deletions == (budget,)


NEWER = Settings(
    images=Images(llamacpp="registry.example/llama.cpp:server-b2", loader="registry.example/loader:2")
)


def test_newer_images_wait_for_an_edit() -> None:
    model = served(a_model())
    facts = serving_facts(model)
    before = child(plan_of(model, facts).children, "Deployment")
    plan = plan_of(model, facts, settings=NEWER)
    assert child(plan.children, "Deployment") == before
    assert shown(plan, "UpdateAvailable") == ("True", "NewerImages")
    assert shown(plan, "Ready") == ("True", "Ready")


@pytest.mark.parametrize("field", ["image", "loader_image"])
def test_a_status_that_names_other_images_than_the_pods_have_is_not_believed(field: str) -> None:
    # given a status that somebody wrote who may, and what the Deployment really runs
    model = served(a_model())
    found = model.status.resolved
    assert found is not None
    real = frozenset({found.image, found.loader_image})
    forged = found.model_copy(update={field: "evil.example/thief:1"})
    lying = model.model_copy(update={"status": model.status.model_copy(update={"resolved": forged})})
    # when it is planned with, then no pod runs what it names
    deployment = a_deployment(revision_of(model), images=real)
    plan = plan_of(lying, serving_facts(model, deployment=deployment))
    assert "evil.example" not in json.dumps(plan.children)
    # and what the pods have is kept, as before
    newer = plan_of(model, serving_facts(model, deployment=deployment), settings=NEWER)
    assert shown(newer, "UpdateAvailable") == ("True", "NewerImages")


def test_scaling_is_no_reason_for_newer_images() -> None:
    model = served(a_model())
    facts = serving_facts(model)
    scaled = edited(model, replicas=3)
    template = child(plan_of(scaled, facts, settings=NEWER).children, "Deployment")["spec"]["template"]
    assert template == child(plan_of(model, facts).children, "Deployment")["spec"]["template"]


def test_edit_takes_newer_images() -> None:
    model = served(a_model())
    plan = plan_of(edited(model, runtime={"parallel": 1}), serving_facts(model), settings=NEWER)
    pod = child(plan.children, "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example/llama.cpp:server-b2"
    assert pod["initContainers"][0]["image"] == "registry.example/loader:2"
    assert shown(plan, "UpdateAvailable") is None
