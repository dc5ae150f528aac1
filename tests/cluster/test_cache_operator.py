# SPDX-License-Identifier: Apache-2.0
"""The operator's process with a cache: real claims bound by the real controllers, make-believe pods that fill."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from nimblet import labels
from tests.cluster.operator_support import Launcher, View, eventually
from tests.cluster.settling import ready, resyncs, settled

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
CLASS = "by-hand"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
VOLUMES = "/api/v1/persistentvolumes"


@pytest.fixture
def storage(plane: ControlPlane) -> Iterator[str]:
    """A StorageClass with one volume made by hand, which the real controller binds."""
    name = f"{CLASS}-{uuid.uuid4().hex[:6]}"
    plane.api.create(
        CLASSES,
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "Immediate",
        },
    )
    plane.api.create(
        VOLUMES,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "5Gi"},
                "accessModes": ["ReadWriteMany"],
                "storageClassName": name,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": "/nowhere"},
            },
        },
    )
    yield name
    plane.api.delete(f"{CLASSES}/{name}")
    plane.api.delete(f"{VOLUMES}/{name}")


def claims(view: View) -> dict[str, Any]:
    return view.children("PersistentVolumeClaim")


def test_a_cached_model_is_filled_run_and_then_left_alone(launcher: Launcher, view: View, storage: str) -> None:
    process = launcher.start()
    view.create("small", cache={"storageClassName": storage})
    ready(view, "small")
    assert claims(view)["small-cache"]["status"]["phase"] == "Bound"
    [job] = view.children("Job")
    assert job.startswith("small-fill-")
    assert view.model("small")["status"]["cache"]["claim"] == "small-cache"
    policy = view.children("NetworkPolicy")["small-model"]["spec"]
    assert policy.get("egress", []) == []
    before = settled(process, view)
    resyncs(process, 2)
    assert view.versions() == before


def test_a_retained_claim_outlives_its_model_and_is_taken_up(launcher: Launcher, view: View, storage: str) -> None:
    launcher.start()
    cache = {"storageClassName": storage, "retention": "Retain"}
    view.create("small", cache=cache)
    ready(view, "small")
    kept = claims(view)["small-cache"]["metadata"]
    assert "ownerReferences" not in kept
    view.api.delete(f"{view.models()}/small")
    eventually(
        lambda: set(view.versions()) == {"PersistentVolumeClaim/small-cache"}, what="nothing left but the claim"
    )
    view.create("small", cache=cache)
    ready(view, "small")
    taken = claims(view)["small-cache"]["metadata"]
    assert (taken["uid"], taken["resourceVersion"]) == (kept["uid"], kept["resourceVersion"])


def test_a_claim_that_is_somebody_elses_is_a_conflict_until_it_goes(
    launcher: Launcher, view: View, storage: str
) -> None:
    launcher.start()
    foreign = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "small-cache", "labels": {"app": "other"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    path = f"/api/v1/namespaces/{view.namespace}/persistentvolumeclaims"
    view.api.create(path, foreign)
    view.create("small", cache={"storageClassName": storage})
    eventually(lambda: view.condition("small", "Ready") == ("False", "Conflict"), what="Conflict")
    theirs: Any = view.api.get(f"{path}/small-cache")
    assert labels.MODEL not in theirs["metadata"]["labels"]
    view.api.delete(f"{path}/small-cache")
    ready(view, "small")


def test_a_missing_storage_class_is_told_and_the_model_heals_by_an_edit(
    launcher: Launcher, view: View, storage: str
) -> None:
    launcher.start()
    view.create("small", cache={"storageClassName": "nowhere"})
    eventually(lambda: view.condition("small", "Ready") == ("False", "StorageClassMissing"), what="the reason")
    assert claims(view) == {}
    view.edit("small", cache={"storageClassName": storage})
    ready(view, "small")


def test_a_claim_that_nobody_provides_is_told(launcher: Launcher, view: View, storage: str) -> None:
    launcher.start()
    view.create("small", cache={"storageClassName": storage, "size": "50Gi"})
    eventually(lambda: view.condition("small", "Ready") == ("Unknown", "ClaimPending"), what="ClaimPending")
