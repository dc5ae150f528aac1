# SPDX-License-Identifier: Apache-2.0
"""Volumes made by hand, which the real controller binds claims to."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster.controlplane import ControlPlane

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
VOLUMES = "/api/v1/persistentvolumes"


@contextmanager
def volumes_by_hand(plane: ControlPlane, prefix: str, *, size: str, count: int = 1) -> Iterator[str]:
    """Yield a StorageClass of so many volumes; take all away again."""
    name = f"{prefix}-{uuid.uuid4().hex[:6]}"
    head = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    plane.api.create(CLASSES, {**head, "provisioner": "kubernetes.io/no-provisioner"})
    spec = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": name,
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": "/nowhere"},
    }
    volumes = [f"{name}-{at}" for at in range(count)]
    for volume in volumes:
        body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec}
        plane.api.create(VOLUMES, body)
    try:
        yield name
    finally:
        plane.api.delete(f"{CLASSES}/{name}")
        for volume in volumes:
            plane.api.delete(f"{VOLUMES}/{volume}")
