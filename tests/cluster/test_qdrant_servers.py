# SPDX-License-Identifier: Apache-2.0
"""The servers of a Dedicated store, as the API server and the StatefulSet controller take them.

No Qdrant runs here: the pods are make-believe and never ready, which is what shows that they start together.
"""

from dataclasses import replace
from typing import Any

import pytest

from e2e.cluster.api import items
from e2e.cluster.controlplane import ControlPlane
from nimblet.manifests.common import Manifest
from tests.qdrant import SHAPE, planned

pytestmark = pytest.mark.cluster
PREFIXES = {
    "NetworkPolicy": "/apis/networking.k8s.io/v1",
    "StatefulSet": "/apis/apps/v1",
    "PodDisruptionBudget": "/apis/policy/v1",
}
PLURALS = {"NetworkPolicy": "networkpolicies"}
SETTLE_SECONDS = 60.0


def apply(control_plane: ControlPlane, namespace: str, child: Manifest) -> None:
    """Apply a child in the test's namespace."""
    manifest: Any = {**child}
    metadata = manifest["metadata"]
    manifest["metadata"] = {**metadata, "namespace": namespace}
    kind = manifest["kind"]
    plural = PLURALS.get(kind, f"{kind.lower()}s")
    path = f"{PREFIXES.get(kind, '/api/v1')}/namespaces/{namespace}/{plural}/{metadata['name']}"
    control_plane.api.apply(path, manifest)


def test_peers_start_together_where_only_restricted_pods_may(control_plane: ControlPlane, namespace: str) -> None:
    # Given a namespace that enforces the restricted standard
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    path = f"/api/v1/namespaces/{namespace}"
    control_plane.api.apply(
        path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": label}}
    )
    # When three servers that speak TLS are applied, twice
    for _ in range(2):
        for child in planned(replace(SHAPE, replicas=3, replication_factor=2, tls=True)).children:
            apply(control_plane, namespace, {**child})
    # Then all three pods are made though none is ready, each with claims of its own
    pods = control_plane.api.wait_for(
        f"{path}/pods", lambda found: len(items(found, "items")) == 3, seconds=SETTLE_SECONDS, what="three pods"
    )
    names = {pod["metadata"]["name"] for pod in pods["items"]}  # type: ignore[attr-defined]
    assert names == {"docs-qdrant-0", "docs-qdrant-1", "docs-qdrant-2"}
    claims: Any = control_plane.api.get(f"{path}/persistentvolumeclaims")["items"]
    assert {claim["metadata"]["name"] for claim in claims} == {
        f"{volume}-{name}" for volume in ("storage", "snapshots") for name in names
    }
    assert {claim["metadata"]["annotations"]["nimblet.dev/retained-for"] for claim in claims} == {
        "RetrievalIndex.docs"
    }
