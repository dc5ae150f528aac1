# SPDX-License-Identifier: Apache-2.0
"""Rotation of the endpoint's key, played against a small model of a cluster: no client is ever turned away."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nimblet import labels
from nimblet.api.compactmodel import CompactModel, CompactModelStatus
from nimblet.cluster.keyfacts import key_facts, key_versions
from nimblet.plan.facts import DeploymentFacts, KeyFacts, ModelFacts, PodFacts
from nimblet.plan.result import Plan
from tests.builders import (
    NOW,
    a_deployment,
    a_model,
    a_pod,
    base_facts,
    child,
    edited,
    plan_of,
    served,
    serving_facts,
    waiting_pod,
)
from tests.conditions import message, shown

GRACE = 100
KEYS = {version: f"nk-{version}" for version in range(1, 6)}


@dataclass
class Pod:
    """A pod of the model cluster: `left` counts the steps it still drains."""

    name: str
    revision: str
    versions: tuple[int, ...]
    left: int = -1


class Cluster:
    """Applies plans as the API server and the controllers would: one pod is made or drained a step."""

    def __init__(self, model: CompactModel) -> None:
        self.model = served(model)
        self.secret: dict[str, Any] | None = None
        self.revision = ""
        self.versions: tuple[int, ...] = (1,)
        self.pods: list[Pod] = []
        self.made = 0
        self.now = NOW
        self.last: Plan[CompactModelStatus] | None = None

    def facts(self) -> ModelFacts:
        deployment: DeploymentFacts | None = None
        if self.revision:
            new = [pod for pod in self.pods if pod.revision == self.revision and pod.left < 0]
            current = [pod for pod in self.pods if pod.left < 0]
            deployment = a_deployment(
                self.revision,
                key_versions=self.versions,
                replicas=len(current),
                updated_replicas=len(new),
            )
        wanted = self.model.spec.access.key_version
        return base_facts(
            self.model,
            deployment=deployment,
            pods=tuple(self.pod_facts(pod) for pod in self.pods),
            key=key_facts(self.secret, uid="uid-1") if self.secret is not None else None,
            api_key=KEYS[wanted],
            other_keys={at: key for at, key in KEYS.items() if at != wanted},
        )

    def pod_facts(self, pod: Pod) -> PodFacts:
        return a_pod(pod.revision, pod.name, key_versions=pod.versions, terminating=pod.left >= 0)

    def step(self) -> None:
        """Let the operator look once, then the controllers do one thing."""
        self.last = plan_of(self.model, self.facts(), now=self.now)
        self.model = self.model.model_copy(update={"status": self.last.status})
        owner = {"apiVersion": "v1", "kind": "CompactModel", "name": "x", "uid": "uid-1", "controller": True}
        secret = child(self.last.children, "Secret")
        self.secret = {**secret, "metadata": {**secret["metadata"], "ownerReferences": [owner]}}
        template = child(self.last.children, "Deployment")["spec"]["template"]["metadata"]["labels"]
        self.revision, self.versions = template[labels.REVISION], key_versions(template)
        self.controllers()
        self.now += timedelta(seconds=10)

    def controllers(self) -> None:
        self.pods = [pod for pod in self.pods if pod.left != 0]
        for pod in self.pods:
            pod.left -= pod.left > 0
        current = [pod for pod in self.pods if pod.left < 0]
        old = [pod for pod in current if pod.revision != self.revision]
        wanted = self.model.spec.replicas
        if len(current) - len(old) < wanted and len(current) <= wanted:
            self.made += 1
            self.pods.append(Pod(f"pod-{self.made}", self.revision, self.versions))
        elif old:
            old[0].left = 2

    def entry(self, name: str) -> str:
        assert self.secret is not None
        return base64.b64decode(self.secret["data"][name]).decode()

    @property
    def published(self) -> str:
        return self.entry("api-key")

    def settle(self, *, steps: int = 60) -> Iterator[None]:
        for _ in range(steps):
            self.step()
            yield


def rotate(cluster: Cluster, version: int, **fields: object) -> None:
    """Edit the version as a user does."""
    access = {"keyVersion": version, "keyGraceSeconds": GRACE, **fields}
    cluster.model = edited(cluster.model, replicas=cluster.model.spec.replicas, access=access)


def start(replicas: int = 2) -> Cluster:
    cluster = Cluster(a_model(replicas=replicas))
    for _ in cluster.settle(steps=10):
        pass
    assert cluster.last is not None
    assert shown(cluster.last, "Ready") == ("True", "Ready")
    return cluster


@pytest.mark.parametrize(
    "turns",
    [{0: 2}, {0: 2, 3: 3}, {0: 2, 9: 3}, {0: 2, 14: 3, 15: 4}, {0: 2, 2: 1}, {0: 2, 9: 1}, {0: 5, 20: 2, 24: 5}],
    ids=str,
)
@pytest.mark.parametrize("replicas", [1, 3])
def test_a_key_opens_every_pod_until_its_grace_is_over(turns: dict[int, int], replicas: int) -> None:
    cluster = start(replicas)
    seen: dict[str, datetime] = {}  # key → when the Secret held it last
    for number, _ in enumerate(cluster.settle()):
        if number in turns:
            rotate(cluster, turns[number])
        seen[cluster.published] = cluster.now
        for key, until in seen.items():
            if cluster.now <= until + timedelta(seconds=GRACE):
                refusing = [pod for pod in cluster.pods if key not in {KEYS[at] for at in pod.versions}]
                assert not refusing, f"step {number}: {key} is refused by {refusing}"
    last = turns[max(turns)]
    assert cluster.published == KEYS[last]
    assert {pod.versions for pod in cluster.pods} == {(last,)}
    assert cluster.last is not None
    assert shown(cluster.last, "Ready") == ("True", "Ready")
    before = (cluster.secret, cluster.revision, cluster.made)
    cluster.step()
    assert (cluster.secret, cluster.revision, cluster.made) == before


def test_pods_get_exactly_the_keys_that_their_label_names() -> None:
    cluster = start()
    rotate(cluster, 2)
    for _ in cluster.settle():
        assert cluster.last is not None
        pod = child(cluster.last.children, "Deployment")["spec"]["template"]["spec"]
        source = next(item["secret"] for item in pod["volumes"] if item["name"] == "key")
        accepted = {KEYS[at] for at in cluster.versions}
        if cluster.versions == (1,):
            assert "items" not in source
        else:
            assert set(cluster.entry(source["items"][0]["key"]).split()) == accepted
    assert cluster.secret is not None
    assert set(cluster.secret["data"]) == {"api-key", "keys-2"}


def test_conditions_tell_the_rotation_until_the_old_key_is_dead() -> None:
    cluster = start()
    rotate(cluster, 2)
    told = []
    for _ in cluster.settle(steps=40):
        assert cluster.last is not None
        told.append(shown(cluster.last, "Ready"))
        assert shown(cluster.last, "Serving") == ("True", "Answering")
        assert shown(cluster.last, "Stalled") is None
    assert ("Unknown", "RotatingKey") in told
    assert told[-1] == ("True", "Ready")
    assert set(told[: told.index(("True", "Ready"))]) <= {("Unknown", "Progressing"), ("Unknown", "RotatingKey")}


def test_the_grace_names_its_end_and_is_waited_for() -> None:
    model = a_model(access={"keyVersion": 2, "keyGraceSeconds": GRACE})
    facts = base_facts(
        model,
        key=KeyFacts(version=2, published_at=NOW),
        deployment=a_deployment("any", key_versions=(1, 2)),
        other_keys={1: "nk-old"},
    )
    revision = child(plan_of(model, facts).children, "Deployment")["metadata"]["labels"][labels.REVISION]
    pod = a_pod(revision, key_versions=(1, 2))
    plan = plan_of(
        model, replace(facts, deployment=replace(facts_deployment(facts), revision=revision), pods=(pod,))
    )
    assert shown(plan, "Ready") == ("Unknown", "RotatingKey")
    assert message(plan, "Ready") == "The Secret holds the new key; older ones work until 2026-01-02T03:05:45Z."
    assert plan.requeue_after == GRACE


def facts_deployment(facts: ModelFacts) -> DeploymentFacts:
    assert facts.deployment is not None
    return facts.deployment


@pytest.mark.parametrize("lost_at", range(12))
def test_a_secret_that_is_deleted_on_the_way_comes_back_with_a_key_that_every_pod_takes(lost_at: int) -> None:
    cluster = start(replicas=2)
    rotate(cluster, 2)
    for number, _ in enumerate(cluster.settle()):
        if number == lost_at:
            cluster.secret = None
            cluster.step()
        assert not [pod for pod in cluster.pods if cluster.published not in {KEYS[at] for at in pod.versions}]
    assert cluster.published == KEYS[2]
    assert {pod.versions for pod in cluster.pods} == {(2,)}


def test_a_pod_that_drains_still_counts() -> None:
    model = a_model(access={"keyVersion": 2})
    facts = serving_facts(model, key=KeyFacts(version=1), other_keys={1: "nk-old"})
    both = replace(facts_deployment(facts), key_versions=(1, 2))
    new = a_pod("new", "pod-2", key_versions=(1, 2))
    draining = a_pod("old", terminating=True)
    waits = plan_of(model, replace(facts, deployment=both, pods=(draining, new)))
    goes = plan_of(model, replace(facts, deployment=both, pods=(new,)))
    versions = [child(plan.children, "Secret")["metadata"]["annotations"] for plan in (waits, goes)]
    assert versions[0] == {labels.KEY_VERSION: "1"}
    assert versions[1] == {labels.KEY_VERSION: "2", labels.KEY_PUBLISHED_AT: NOW.isoformat()}


def test_a_rotation_whose_pods_fail_keeps_the_old_key() -> None:
    old = a_model()
    new = edited(served(old), access={"keyVersion": 2})
    deployment = a_deployment("next", key_versions=(1, 2), replicas=2, updated_replicas=1)
    pods = (a_pod("old"), waiting_pod("next", "pod-2", key_versions=(1, 2)))
    facts = base_facts(new, deployment=deployment, pods=pods, key=KeyFacts(version=1), other_keys={1: "nk-old"})
    secret = child(plan_of(new, facts).children, "Secret")
    assert base64.b64decode(secret["data"]["api-key"]).decode() == "nk-old"
