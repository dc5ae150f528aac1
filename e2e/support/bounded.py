# SPDX-License-Identifier: Apache-2.0
"""A volume that is really full when it is full: memory of an idle pod, given out as a local volume.

The provisioner of the test cluster gives folders of the node's own disk, which no test may fill. The kubelet
mounts an emptyDir of medium Memory with its size limit (KEP-1967), under a path that the pod's uid tells.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.support.kube import Kube
from e2e.support.manifests import Manifest
from e2e.support.objects import Pod, Thing
from e2e.support.programs import pod_spec, python_container

CLASS: Final = "bounded"
MIB: Final = 2**20
_KIND_ROOT: Final = Path("/var/lib/kubelet")
_FOLDER: Final = "/bounded"
_FILLED: Final = f"{_FOLDER}/of-somebody-else"


@dataclass(frozen=True)
class Bounded:
    """The volume, seen from the pod that holds it: somebody else who writes there."""

    kube: Kube
    namespace: str

    def fill(self, *, leaving_mib: int) -> None:
        """Take all its space but some."""
        program = (
            "import os; free = os.statvfs('{folder}'); room = free.f_bavail * free.f_frsize - {left}; "
            "file = os.open('{path}', os.O_CREAT | os.O_RDWR); os.posix_fallocate(file, 0, room)"
        )
        self._python(program.format(folder=_FOLDER, path=_FILLED, left=leaving_mib * MIB))

    def free(self) -> None:
        """Give back what `fill` took."""
        self._python(f"import os; os.unlink('{_FILLED}')")

    def _python(self, program: str) -> None:
        self.kube.run("exec", CLASS, f"--namespace={self.namespace}", "--", "python3", "-c", program)


@contextmanager
def bounded_volume(kube: Kube, namespace: str, *, image: str, mib: int) -> Iterator[Bounded]:
    """Give a volume of CLASS for one claim while the block runs; `image` has python3."""
    kube.run("delete", "persistentvolume,storageclass", CLASS, "--ignore-not-found", "--timeout=180s")
    kube.apply(_holder(namespace, image=image, mib=mib))
    kube.run("wait", f"pod/{CLASS}", f"--namespace={namespace}", "--for=condition=Ready", "--timeout=180s")
    pod = Pod.model_validate(kube.get("pod", CLASS, namespace))
    node = Thing.model_validate(kube.items("nodes", "")[0]).metadata.name
    root = _KIND_ROOT if kube.cluster.on_kind else kube.cluster.plan.kubelet_root
    folder = root / "pods" / pod.metadata.uid / "volumes" / "kubernetes.io~empty-dir" / "space"
    for manifest in _volume(folder, node=node, mib=mib):
        kube.apply(manifest)
    try:
        yield Bounded(kube, namespace)
    finally:
        kube.run("delete", "persistentvolume,storageclass", CLASS, "--ignore-not-found", "--wait=false")


def _holder(namespace: str, *, image: str, mib: int) -> Manifest:
    container = python_container(CLASS, image, ["-c", "import signal; signal.pause()"])
    container["resources"] = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": f"{mib + 64}Mi"}}
    container["volumeMounts"] = [{"name": "space", "mountPath": _FOLDER}]
    space: Manifest = {"name": "space", "emptyDir": {"medium": "Memory", "sizeLimit": f"{mib}Mi"}}
    metadata = {"name": CLASS, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(container, [space])}


def _volume(folder: Path, *, node: str, mib: int) -> list[Manifest]:
    here = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
    metadata = {"name": CLASS}
    spec: Manifest = {
        "capacity": {"storage": f"{mib}Mi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": CLASS,
        "local": {"path": str(folder)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": here}},
    }
    class_: Manifest = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
    return [
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata, **class_},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec},
    ]
