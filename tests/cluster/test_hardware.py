# SPDX-License-Identifier: Apache-2.0
"""Hardware on a real API server with make-believe pools: placements, pools that come, labels that go."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from e2e.cluster.api import Manifest
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.kwok import FakeNode, Taint
from nimblet import labels
from nimblet.api.compactmodel import CompactModelStatus
from tests.cluster.operator_support import Launcher, View, change, condition_of, eventually
from tests.cluster.settling import ready, settled, started
from tests.hardwarepools import MODELS, POOLS, VALUES, WAITS, XE, Machine, chosen, placement, slug

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
POOL = "test/pool"
LATE = "late"


def a_fake(name: str, machine: Machine, *, pool: str) -> FakeNode:
    taints = (Taint(key=machine.taint, effect="NoSchedule"),) if machine.taint else ()
    size = {"cpu": "8", "memory": "32Gi"}
    return FakeNode(
        name, labels={**machine.labels, POOL: pool}, taints=taints, allocatable={**size, **machine.resources}
    )


@pytest.fixture
def pools(plane: ControlPlane) -> Iterator[None]:
    """All pools side by side; a model keeps to one by its nodeSelector."""
    names = []
    for pool, machines in POOLS.items():
        for at, machine in enumerate(machines):
            names.append(f"{slug(pool)}-{at}")
            plane.add_node(a_fake(names[-1], machine, pool=slug(pool)))
    yield
    for name in names:
        plane.delete_node(name)


def asked(pool: str) -> list[str]:
    """Return the models that are asked of a pool: of the largest all, of others what its own hardware is for."""
    elsewhere = ("Missing", "Unknown", "Unsuitable", WAITS)
    found = {model: placement(model, pool) for model in MODELS}
    return [model for model, place in found.items() if pool == "all" or not place.endswith((*elsewhere, "cpu"))]


def outcome(view: View, name: str) -> str:
    """Return what the model got, or the reason why it has no pod; "" while neither shows."""
    model = view.model(name)
    status = CompactModelStatus.model_validate(model.get("status") or {})
    if f"{name}-model" in view.children("Deployment"):
        return chosen(status)
    told = condition_of(model, "Placed")
    return told[1] if told is not None and told[0] == "False" else ""


def test_models_meet_the_pools(plane: ControlPlane, launcher: Launcher, view: View, pools: None) -> None:
    launcher.more = {"hardware": dict(VALUES)}
    started(launcher)
    names = {(model, pool): f"{slug(model)}-{slug(pool)}" for pool in POOLS for model in asked(pool)}
    for (model, pool), name in names.items():
        view.create(name, **{**MODELS[model], "scheduling": {"nodeSelector": {POOL: slug(pool)}}})
    for (model, pool), name in names.items():
        wanted = placement(model, pool).removesuffix(WAITS)
        eventually(
            lambda name=name, wanted=wanted: outcome(view, name) == wanted,  # type: ignore[misc]
            seconds=120,
            what=f"{model} on {pool}: {wanted}",
        )
    runs = {name: it for it, name in names.items() if " " in placement(*it) and not placement(*it).endswith(WAITS)}
    ready(view, *runs)
    nodes: Any = {item["metadata"]["name"]: item for item in plane.api.get("/api/v1/nodes")["items"]}  # type: ignore[attr-defined]
    for pod in view.children("Pod").values():
        owner = pod["metadata"]["labels"][labels.MODEL]
        if owner in runs and pod["metadata"]["labels"][labels.COMPONENT] == "model":
            _, resource = placement(*runs[owner]).split()
            assert nodes[pod["spec"]["nodeName"]]["status"]["allocatable"][resource] != "0"


def without(whole: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key: value for key, value in whole.items() if not key.startswith(prefix)}


def test_a_pool_that_comes_later_is_taken_and_labels_that_go_move_nothing(
    plane: ControlPlane, launcher: Launcher, view: View
) -> None:
    api = plane.api
    plane.add_node(a_fake("late-0", Machine(), pool=LATE))
    process = started(launcher)
    view.create("big", **{**MODELS["large"], "scheduling": {"nodeSelector": {POOL: LATE}}})
    view.create("named", **{**MODELS["intel-gpu"], "scheduling": {"nodeSelector": {POOL: LATE}}})
    eventually(lambda: outcome(view, "big") == "cpu", what="the large model that waits for a node")
    eventually(lambda: outcome(view, "named") == "HardwareMissing", what="no such device")

    plane.add_node(a_fake("late-1", XE, pool=LATE))
    ready(view, "big", "named")
    assert {outcome(view, name) for name in ("big", "named")} == {"intel-gpu gpu.intel.com/xe"}
    before = settled(process, view)

    path = "/api/v1/nodes/late-1"
    change(api, path, _without_devices, part="/status")
    change(api, path, _without_labels)
    assert settled(process, view) == before
    for name in ("late-0", "late-1"):
        plane.delete_node(name)


def _without_devices(node: Any) -> Manifest:
    status = node["status"]
    totals = {key: without(status[key], "gpu.intel.com/") for key in ("allocatable", "capacity")}
    return {**node, "status": {**status, **totals}}


def _without_labels(node: Any) -> Manifest:
    metadata = node["metadata"]
    return {**node, "metadata": {**metadata, "labels": without(metadata["labels"], POOL)}}
