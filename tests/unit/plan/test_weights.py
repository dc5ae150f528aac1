# SPDX-License-Identifier: Apache-2.0
"""When weights are mounted from their image, and what the pod then has."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet import labels
from nimblet.plan.facts import ModelFacts
from nimblet.plan.weights import repository_of
from tests.builders import (
    SETTINGS,
    a_deployment,
    a_model,
    a_pod,
    a_secret,
    artifact_text,
    base_facts,
    child,
    edited,
    hash_of,
    plan_of,
    served,
    serving_facts,
    stored,
)

COMMIT = f"sha256:{'2' * 64}"
SOURCE = {"uri": "oci://registry.example/models/m:v1"}
IMAGE = "registry.example/models/m@" + COMMIT
ON = SETTINGS.model_copy(update={"oci_image_volumes": True})
LAYER = f"sha256:{'4' * 64}+tar@512:1"


def facts_of(
    model: Any, *, tag: str | None = LAYER, minor: int = 35, settings: Any = ON, commit: str = COMMIT
) -> ModelFacts:
    """Return facts where the source is resolved to one file, in an image unless `tag` says otherwise."""
    file = {"path": "m.gguf", "size": 1, "sha256": "3" * 64, **({"tag": tag} if tag is not None else {})}
    text = artifact_text(uri=SOURCE["uri"], commit=commit, files=[file])
    artifacts = (stored(model, text, settings=settings),)
    return replace(base_facts(model), artifacts=artifacts, server_minor=minor)


def pod_of(plan: Any) -> dict[str, Any]:
    """Return the planned pod's spec."""
    pod: dict[str, Any] = child(plan.children, "Deployment")["spec"]["template"]["spec"]
    return pod


def models_of(plan: Any) -> dict[str, Any]:
    """Return the volume of the weights."""
    [volume] = [item for item in pod_of(plan)["volumes"] if item["name"] == "models"]
    return dict(volume)


def egress_of(plan: Any) -> list[Any]:
    """Return what the server's pods may reach."""
    policy = child(plan.children, "NetworkPolicy", "smollm2-model")
    return list(policy["spec"]["egress"])


def test_image_is_mounted_by_digest_checked_and_without_egress() -> None:
    # Given an image whose files the resolver measured, and an administrator who wants image volumes
    model = a_model(source=SOURCE)
    plan = plan_of(model, facts_of(model), settings=ON)
    # Then the kubelet mounts it, an init container compares it, and nothing in the pod fetches
    assert models_of(plan) == {"name": "models", "image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}}
    [init] = pod_of(plan)["initContainers"]
    assert init["args"] == [
        "check",
        "--artifact",
        "/etc/nimblet/artifact/artifact.json",
        "--dest",
        "/models/models",
    ]
    assert "/models/models/m.gguf" in pod_of(plan)["containers"][0]["args"]
    assert {volume["name"] for volume in pod_of(plan)["volumes"]} == {"artifact", "models", "key", "tmp"}
    assert egress_of(plan) == []
    assert plan.status.resolved is not None
    assert plan.status.resolved.weights_image == IMAGE


@pytest.mark.parametrize(
    ("source", "tag", "minor", "wanted"),
    [
        ({}, LAYER, 34, True),
        ({}, LAYER, 35, False),
        ({}, f"sha256:{'4' * 64}", 35, True),
        ({}, None, 35, True),
        ({"credentialsSecretRef": {"name": "hub"}}, LAYER, 35, True),
    ],
)
def test_anything_else_is_fetched(source: dict[str, Any], tag: str | None, minor: int, wanted: bool) -> None:
    model = a_model(source={**SOURCE, **source})
    settings = ON if wanted else SETTINGS
    secret = a_secret(keys=("username", "password")) if source else None
    facts = replace(facts_of(model, tag=tag, minor=minor, settings=settings), secret=secret)
    plan = plan_of(model, facts, settings=settings)
    assert "emptyDir" in models_of(plan)
    assert egress_of(plan) != []


def test_running_model_is_not_rolled_by_the_setting() -> None:
    # Given a model that a loader fetched, and a setting that changes
    model = a_model(source=SOURCE)
    facts = facts_of(model, settings=SETTINGS)
    before = plan_of(model, facts)
    running = model.model_copy(update={"status": before.status})
    deployment = child(before.children, "Deployment")
    from_then = replace(facts, deployment=a_deployment(deployment["metadata"]["labels"][labels.REVISION]))
    # Then its template stays, with its egress
    after = plan_of(running, from_then, settings=ON)
    assert child(after.children, "Deployment") == deployment
    assert egress_of(after) != []


def test_mounted_image_follows_what_the_source_is_resolved_to() -> None:
    # Given a model that mounts its image, whose artifact is lost
    model = a_model(source=SOURCE)
    before = plan_of(model, facts_of(model), settings=ON)
    running = model.model_copy(update={"status": before.status})
    revision = child(before.children, "Deployment")["metadata"]["labels"][labels.REVISION]
    deployment = a_deployment(revision, weights_image="222222222222")
    lost = replace(facts_of(model), artifacts=(), deployment=deployment)
    # Then its pods get no egress while the source is resolved anew
    assert egress_of(plan_of(running, lost, settings=ON)) == []
    # and when it is another manifest then, that is the one to mount, as the digests to compare are its
    other = f"sha256:{'5' * 64}"
    again = replace(facts_of(model, commit=other), deployment=deployment)
    assert (
        models_of(plan_of(running, again, settings=ON))["image"]["reference"]
        == f"registry.example/models/m@{other}"
    )


def test_egress_stays_until_the_last_pod_with_a_loader_is_gone() -> None:
    model = a_model(source=SOURCE)
    facts = facts_of(model)
    fetching, mounting = a_pod("old"), a_pod("new", name="pod-2", weights_image="222222222222")
    assert egress_of(plan_of(model, replace(facts, pods=(fetching, mounting)), settings=ON)) != []
    assert egress_of(plan_of(model, replace(facts, pods=(mounting,)), settings=ON)) == []


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("oci://host/a", "host/a"),
        ("oci://host:5000/a/b:v1", "host:5000/a/b"),
        (f"oci://host:5000/a:v1@{COMMIT}", "host:5000/a"),
    ],
)
def test_repository_loses_tag_and_digest(uri: str, expected: str) -> None:
    assert repository_of(uri) == expected


def test_egress_stays_for_pods_of_a_source_that_an_edit_to_a_claim_leaves() -> None:
    # given a model that serves what its loader fetched, edited to a claim that is never resolved
    before = a_model()
    digest = hash_of(before)
    pod = replace(serving_facts(before).pods[0], source_hash=digest)
    live = a_deployment(pod.revision, source_hash=digest)
    facts = serving_facts(before, pods=(pod,), deployment=live)
    after = edited(served(before), source={"uri": "pvc://nothing/model"})
    # then a pod that takes the place of a lost one can fetch, and the resolver has no network
    assert egress_of(plan_of(after, facts)) == egress_of(plan_of(before, facts)) != []
    resolver = child(plan_of(after, facts).children, "NetworkPolicy", "smollm2-resolve")
    assert resolver["spec"]["egress"] == []
    # and where no such pod can come any more there is none
    assert egress_of(plan_of(after, replace(facts, pods=(), deployment=None))) == []
