# SPDX-License-Identifier: Apache-2.0
"""Models of the catalogue on a real API server: the operator makes of them what docs/catalog.md says."""

import json
from collections.abc import Iterator
from typing import Final

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane, ControlPlaneOptions
from e2e.cluster.kwok import FakeNode, Taint
from nimblet.api.compactmodel import CompactModelStatus
from nimblet.cli.inputs import read_facts
from tests.catalog import samples, table
from tests.catalog.entries import BY_NAME
from tests.catalog.facts import artifacts
from tests.cluster.crd_support import install_all
from tests.cluster.operator_support import (
    NAMESPACE,
    Launcher,
    View,
    condition_of,
    eventually,
    grant_least_rights,
    stages,
)
from tests.cluster.settling import started

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
POOL: Final = "test/pool"
NODES: Final = samples.CATALOG / "nodes"
ASKED: Final = (
    ("qwen3-8b", "qwen3-8b", "cpu"),
    ("granite-3.3-8b", "granite-3-3-8b", "xeon"),
    ("qwen3-14b", "qwen3-14b-safetensors", "nvidia"),
    ("phi-4-mini", "phi-4-mini-safetensors", "MIG"),
    ("qwen2.5-7b", "qwen2-5-7b-safetensors", "gaudi"),
    ("gpt-oss-20b", "gpt-oss-20b", "cpu"),
)
"""Entry, its CompactModel, and the class that it meets."""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """Resolvers find what is published of each model, and there is a node of each class."""
    told = {name: json.dumps(artifacts(BY_NAME[entry])[name]) for entry, name, _ in ASKED}
    with ControlPlane(ControlPlaneOptions(scheduler=True, stages=stages(artifacts=told))) as plane:
        install_all(plane.api)
        plane.api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        grant_least_rights(plane.api)
        for column in {column for _, _, column in ASKED}:
            plane.add_node(a_fake(column))
            # for the resolvers, which stand no taint of devices
            plane.add_node(FakeNode(f"plain-{column.lower()}", labels={POOL: column.lower()}))
        yield plane


def a_fake(column: str) -> FakeNode:
    node = read_facts([NODES / f"{column.lower()}.yaml"]).nodes[0]
    return FakeNode(
        node.name,
        labels={**node.labels, POOL: column.lower()},
        taints=tuple(Taint(key=taint.key, effect="NoSchedule") for taint in node.taints),
        allocatable={"cpu": node.cpu, "memory": node.memory, **node.resources},
    )


def outcome(view: View, name: str) -> tuple[str, str, int]:
    """Return the reason why there is no pod, or the server and its memory; nothing while neither shows."""
    model = view.model(name)
    status = CompactModelStatus.model_validate(model.get("status") or {})
    if (
        f"{name}-model" in view.children("Deployment")
        and status.resolved is not None
        and status.sizing is not None
    ):
        sizing = status.sizing
        return "", status.resolved.runtime, sizing.device_memory_bytes or sizing.total_bytes
    told = condition_of(model, "Ready")
    return (told[1] if told is not None and told[0] == "False" else "", "", 0)


def test_the_operator_makes_of_them_what_the_table_says(
    plane: ControlPlane, launcher: Launcher, view: View
) -> None:
    launcher.more = yaml.safe_load((NODES / "settings.yaml").read_text(encoding="utf-8"))
    started(launcher)
    place = table.places()
    for entry, name, column in ASKED:
        spec = next(item["spec"] for item in samples.documents(BY_NAME[entry]) if item["metadata"]["name"] == name)
        where = {"nodeSelector": {POOL: column.lower()}}
        view.create(name, **{**spec, "hardware": {"profile": table.CLASSES[column]}, "scheduling": where})
    for entry, name, column in ASKED:
        found = table.outcomes(BY_NAME[entry], place)
        item = next(item for item in found if (item.model.name, item.column) == (name, column))
        wanted = (item.reason, item.runtime, item.memory_bytes)
        eventually(
            lambda name=name, wanted=wanted: outcome(view, name) == wanted,  # type: ignore[misc]
            seconds=120,
            what=f"{name} on {column}: {wanted}",
        )
