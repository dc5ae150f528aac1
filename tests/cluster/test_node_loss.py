# SPDX-License-Identifier: Apache-2.0
"""A node that stops reporting: the model says so, and is well again when the node is."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane, ControlPlaneOptions
from e2e.cluster.kwok import FakeNode
from tests.cluster.crd_support import install_all
from tests.cluster.operator_support import NAMESPACE, Launcher, View, eventually, grant_least_rights, stages

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
SOON = timedelta(seconds=15)
# kwok renews a node's lease every ten seconds
PATIENCE = ("--node-monitor-grace-period=15s", "--node-monitor-period=1s")


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    options = ControlPlaneOptions(scheduler=True, stages=stages(), extra_controller_manager_args=PATIENCE)
    with ControlPlane(options) as plane:
        install_all(plane.api)
        for name in (NAMESPACE, "team"):
            plane.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        grant_least_rights(plane.api)
        plane.add_node(FakeNode("node-1"))
        yield plane


def recorded(pod: Mapping[str, Any]) -> datetime:
    """Return when the node controller took the pod's readiness away."""
    (ready,) = (item for item in pod["status"]["conditions"] if item["type"] == "Ready")
    assert ready["status"] == "False"
    return datetime.fromisoformat(ready["lastTransitionTime"])


def test_a_node_that_stops_reporting_is_named_within_fifteen_seconds(
    plane: ControlPlane, launcher: Launcher
) -> None:
    view = View(api=plane.api, namespace="team")
    launcher.start()
    view.create("small")
    eventually(lambda: view.is_ready("small"), what="small Ready")

    plane.stop_component("kwok")
    away = ("False", "NodeNotReady")
    eventually(lambda: view.condition("small", "Serving") == away, what="Serving False NodeNotReady")
    told = datetime.now(UTC)
    assert view.condition("small", "Ready") == away
    (name, pod), *_ = view.children("Pod").items()
    assert told - recorded(pod) <= SOON

    plane.start_component("kwok")
    plane.api.delete(view.path("Pod", name))  # a kubelet would make it ready again, kwok makes new ones only
    eventually(lambda: view.is_ready("small"), what="small Ready again")
