# SPDX-License-Identifier: Apache-2.0
"""What an administrator does: upgrade the chart, leave it alone, break a child, delete models and namespaces."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.cluster.errors import ClusterError
from e2e.scenarios.test_rolling_change import traffic
from e2e.support.asking import ask, endpoint_of
from e2e.support.kube import Kube
from e2e.support.manifests import model_manifest
from e2e.support.objects import Thing
from e2e.support.stack import OPERATOR, OPERATOR_NAMESPACE, Stack, operator_metrics, upgrade
from e2e.support.wait import until

NAME = "steady"
SERVER = f"{NAME}-model"
STEADY_RESYNCS = 3
RESYNCS = 'nimblet_resyncs_total{outcome="done"}'
Versions = dict[str, tuple[str, str]]


def versions(kube: Kube, namespace: str) -> Versions:
    """Return uid and resourceVersion of the CompactModel and everything that carries its label."""
    things = [*kube.children(namespace, NAME), Thing.model_validate(kube.get("compactmodel", NAME, namespace))]
    return {item.key: (item.metadata.uid, item.metadata.resource_version) for item in things}


def test_chart_upgrade_restarts_no_model_pod(stack: Stack, namespace: str) -> None:
    kube = stack.kube
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    before = pods_of(kube, namespace)
    operator_before = [pod.metadata.uid for pod in kube.pods(OPERATOR_NAMESPACE)]

    with endpoint_of(kube, NAME, namespace) as endpoint, traffic(endpoint) as met:
        try:
            upgrade(stack, {"operator": {"podAnnotations": {"e2e.nimblet.dev/upgrade": str(time.time())}}})
            until(lambda: met.answered > 5, what="answers during the upgrade", seconds=120)
            kube.wait_ready(NAME, namespace)
        finally:
            upgrade(stack, {})

    assert met.failures == []
    assert met.retried == 0
    until(
        lambda: not set(operator_before) & {pod.metadata.uid for pod in kube.pods(OPERATOR_NAMESPACE)},
        what="the pods of the operator from before the upgrade gone",
        seconds=120,
    )
    assert pods_of(kube, namespace) == before
    assert kube.model(NAME, namespace).metadata.generation == 1


def pods_of(kube: Kube, namespace: str) -> list[tuple[str, int]]:
    return [(pod.metadata.uid, pod.restarts) for pod in kube.pods(namespace, model=NAME, component="model")]


def test_steady_state_writes_nothing(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    before = settled(kube, namespace)
    goal = resyncs(kube) + STEADY_RESYNCS
    while resyncs(kube) < goal:
        assert versions(kube, namespace) == before
        time.sleep(5)
    assert versions(kube, namespace) == before


def resyncs(kube: Kube) -> int:
    """Return how often the operator has read everything anew, by its own count."""
    lines = [line for line in operator_metrics(kube).splitlines() if line.startswith(RESYNCS)]
    return sum(int(float(line.split()[-1])) for line in lines)


def settled(kube: Kube, namespace: str) -> Versions:
    """Return the versions once two looks five seconds apart agree, and nothing is on its way out."""
    seen: list[Versions] = [versions(kube, namespace)]

    def same() -> bool:
        time.sleep(5)
        seen.append(versions(kube, namespace))
        return seen[-1] == seen[-2] and not leaving(kube, namespace)

    until(same, what="a steady state", seconds=120)
    return seen[-1]


def leaving(kube: Kube, namespace: str) -> list[str]:
    """Return what is being deleted, or will be: the finished resolver's pod goes some time after its Job."""
    things = kube.children(namespace, NAME)
    uids = {item.metadata.uid for item in things}
    orphans = {
        item.key
        for item in things
        if any(owner.kind == "Job" and owner.uid not in uids for owner in item.metadata.owner_references)
    }
    return [item.key for item in things if item.key in orphans or item.metadata.deletion_timestamp is not None]


def test_drift_is_repaired_and_foreign_fields_are_kept(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    service = Thing.model_validate(kube.get("service", SERVER, namespace))
    foreign = {"metadata": {"annotations": {"example.com/note": "ours"}, "labels": {"example.com/team": "blue"}}}
    kube.patch("deployment", SERVER, namespace, merge=foreign)
    args = server_args(kube, namespace)

    kube.run("delete", "service", SERVER, f"--namespace={namespace}")
    until(
        lambda: (
            (found := kube.find("service", SERVER, namespace)) is not None
            and Thing.model_validate(found).metadata.uid != service.metadata.uid
        ),
        what="the deleted Service again",
        seconds=120,
    )
    tampered = [{"op": "replace", "path": "/spec/template/spec/containers/0/args/1", "value": "/models/other"}]
    inside = f"--namespace={namespace}"
    kube.run("patch", "deployment", SERVER, inside, "--type=json", f"--patch={json.dumps(tampered)}")
    until(lambda: server_args(kube, namespace) == args, what="the server's own arguments again", seconds=120)

    kube.wait_ready(NAME, namespace)
    kept = Thing.model_validate(kube.get("deployment", SERVER, namespace)).metadata
    assert kept.annotations["example.com/note"] == "ours"
    assert kept.labels["example.com/team"] == "blue"
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, "Hello", max_tokens=4)


def server_args(kube: Kube, namespace: str) -> list[str]:
    path = "jsonpath={.spec.template.spec.containers[0].args}"
    return [
        str(arg)
        for arg in json.loads(
            kube.run("get", "deployment", SERVER, f"--namespace={namespace}", f"--output={path}")
        )
    ]


def test_deleting_the_model_leaves_nothing(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace, replicas=2))
    kube.wait_ready(NAME, namespace)
    kube.run("delete", "compactmodel", NAME, f"--namespace={namespace}", "--timeout=180s")
    until(
        lambda: not kube.children(namespace, NAME),
        what="no object of the deleted model",
        seconds=120,
        seen=lambda: ", ".join(item.key for item in kube.children(namespace, NAME)),
    )


@contextmanager
def operator_replicas(kube: Kube, replicas: int) -> Iterator[None]:
    """Run the block with another number of operators, then with one again."""
    kube.scale_deployment(OPERATOR, OPERATOR_NAMESPACE, replicas=replicas)
    until(lambda: len(kube.pods(OPERATOR_NAMESPACE)) == replicas, what=f"{replicas} operator pods", seconds=120)
    try:
        yield
    finally:
        kube.scale_deployment(OPERATOR, OPERATOR_NAMESPACE, replicas=1)


@pytest.mark.parametrize("operators", [1, 0], ids=["operator-up", "operator-down"])
def test_namespace_deletion_completes(kube: Kube, namespace: str, operators: int) -> None:
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    with operator_replicas(kube, operators):
        kube.run("delete", "namespace", namespace, "--timeout=180s")
        with pytest.raises(ClusterError, match="not found"):
            kube.run("get", "namespace", namespace)
