# SPDX-License-Identifier: Apache-2.0
"""A Dedicated store under the whole operator: a real StatefulSet and real claims, make-believe pods, no Qdrant."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from nimblet import labels
from tests.cluster.operator_support import Launcher, Stub, View, eventually
from tests.cluster.settling import ready, resyncs, settled
from tests.cluster.test_index import CLASSES, VOLUMES, documents, generations, holding, shows

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


@pytest.fixture
def shelves(plane: ControlPlane) -> Iterator[str]:
    """A StorageClass with two volumes made by hand: for the data and the snapshots of one server."""
    name = f"shelf-{uuid.uuid4().hex[:6]}"
    head = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    plane.api.create(CLASSES, {**head, "provisioner": "kubernetes.io/no-provisioner"})
    spec = {
        "capacity": {"storage": "20Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": name,
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": "/nowhere"},
    }
    volumes = [f"{name}-{at}" for at in range(2)]
    for volume in volumes:
        metadata = {"name": volume}
        plane.api.create(
            VOLUMES, {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}
        )
    yield name
    plane.api.delete(f"{CLASSES}/{name}")
    for volume in volumes:
        plane.api.delete(f"{VOLUMES}/{volume}")


def test_a_dedicated_store_serves_rests_and_outlives_a_bad_edit(
    launcher: Launcher, view: View, stub: Stub, shelves: str
) -> None:
    process, indexes = launcher.start(), view.of("RetrievalIndex")
    documents(view)
    store = {"type": "Dedicated", "storageClassName": shelves, "size": "20Gi", "dedicated": {"replicas": 1}}
    # Given an index whose server is there, with claims of its own
    indexes.create("handbook", store=store)
    eventually(lambda: generations(view) == ["g000001"], what="the first build, once the server is ready")
    stub.retriever = holding("g000001", serving="g000001")
    ready(indexes, "handbook")
    assert indexes.model("handbook")["status"]["servers"] == {"count": 1, "copies": 1}
    assert set(view.children("StatefulSet")) == {"handbook-qdrant"}
    assert set(view.children("Deployment")) == {"handbook-retriever"}
    assert {"handbook-qdrant", "handbook-retriever"} <= set(view.children("NetworkPolicy"))
    # When nothing happens, nothing is written
    before = settled(process, view)
    resyncs(process, 3)
    assert view.versions() == before
    # When the spec asks for what the claims can't become, it is told and nothing is touched
    made: Any = view.children("StatefulSet")["handbook-qdrant"]["metadata"]
    indexes.edit("handbook", store={**store, "size": "30Gi"})
    shows(indexes, "handbook", "Ready", "False", "UpdateFailed")
    assert indexes.condition("handbook", "Serving") == ("True", "Answering")
    after: Any = view.children("StatefulSet")["handbook-qdrant"]["metadata"]
    assert (after["uid"], after["generation"]) == (made["uid"], made["generation"])
    indexes.edit("handbook", store=store)
    ready(indexes, "handbook")
    # When it is suspended its pods go, and the number of its servers is kept
    indexes.edit("handbook", store=store, suspend=True)
    shows(indexes, "handbook", "Ready", "False", "Suspended")
    eventually(lambda: not any("-qdrant-" in name for name in view.children("Pod")), what="no server")
    kept: Any = view.children("StatefulSet")["handbook-qdrant"]
    assert (kept["spec"]["replicas"], kept["metadata"]["annotations"][labels.SERVERS]) == (0, "1")
