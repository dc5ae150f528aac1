# SPDX-License-Identifier: Apache-2.0
"""Puts the pods of a finished manifest into a confidential place. Pure: a manifest in, another one out.

It works on any manifest with a pod template, so that a new kind of pod is confined without knowing of it. What the
place is, and whether there is one, is decided in plan/tee.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nimblet import labels
from nimblet.manifests.common import Manifest
from nimblet.manifests.gate import GateForm, gate_container
from nimblet.manifests.parts import listed as _list
from nimblet.manifests.parts import optional as _optional
from nimblet.manifests.parts import part as _part
from nimblet.manifests.parts import with_pod
from nimblet.quantity import millicores_of

WORKLOADS: Final = frozenset({"Deployment", "Job", "StatefulSet"})
"""Kinds that make pods; a test compares this with what our plans render."""
HANDLER: Final = "io.containerd.cri.runtime-handler"
"""Annotation that the guest-pull snapshotter reads (Confidential Containers, getting started: workload)."""
INITDATA: Final = "io.katacontainers.config.hypervisor.cc_init_data"
SERVER_COMPONENT: Final = "model"
MISSING_MEMORY: Final = "256Mi"
"""Limit of a container that names none: a guest is sized by the sum of limits."""
FORBIDDEN_VOLUMES: Final = frozenset({"hostPath", "image"})


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """A place, as it stands in pods."""

    runtime_class: str
    server_class: str
    """RuntimeClass of the model server, where a device needs another than the rest."""
    node_labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    """Extended resource of which the model server gets one."""
    gate: GateForm | None = None
    """What proves each pod's guest, where the policies ask for it."""
    memory_resource: str = ""
    """Extended resource that every container gets as much of as it has memory (SGX: its enclave's pages)."""


def makes_pods(manifest: Mapping[str, object]) -> bool:
    """Tell whether pods come of this manifest."""
    if manifest["kind"] not in WORKLOADS:
        return False
    return _part(manifest, "spec").get("replicas") != 0


def confine(manifest: Manifest, place: Confinement) -> Manifest:
    """Return the manifest with its pods in the place; one that makes none, or is there already, as it is.

    Its pods' REVISION is new, where it has one: they are made anew.
    """
    if manifest["kind"] not in WORKLOADS:
        return manifest
    spec = _part(manifest, "spec")
    template = _part(spec, "template")
    if "runtimeClassName" in _part(template, "spec"):
        return manifest
    component = _part(_part(manifest, "metadata"), "labels").get(labels.COMPONENT)
    is_server = manifest["kind"] == "Deployment" and component == SERVER_COMPONENT
    class_ = place.server_class if is_server else place.runtime_class
    given_pod = _gated(_part(template, "spec"), place, is_server=is_server)
    pod = _pod(given_pod, place, class_=class_, device=place.device if is_server else "")
    return with_pod(manifest, pod, annotations={**place.annotations, HANDLER: class_})


def stopped(manifest: Manifest) -> Manifest:
    """Return a Deployment or StatefulSet that wants no pods."""
    return {**manifest, "spec": {**_part(manifest, "spec"), "replicas": 0}}


def _gated(pod: Manifest, place: Confinement, *, is_server: bool) -> Manifest:
    """Return the pod with its gate before all else."""
    if place.gate is None:
        return pod
    return {
        **pod,
        "initContainers": [gate_container(place.gate, is_server=is_server), *_list(pod, "initContainers")],
    }


def _pod(pod: Manifest, place: Confinement, *, class_: str, device: str) -> Manifest:
    volumes = [item for item in _list(pod, "volumes") if FORBIDDEN_VOLUMES & set(item)]
    if volumes:
        raise ValueError(f"expected no image or host volumes in a confidential pod, found {volumes[0]['name']}")
    done: Manifest = {
        **pod,
        "runtimeClassName": class_,
        "nodeSelector": {**_optional(pod, "nodeSelector"), **place.node_labels},
        "containers": [
            _container(item, place, device=device if at == 0 else "")
            for at, item in enumerate(_list(pod, "containers"))
        ],
    }
    if "initContainers" in pod:
        done["initContainers"] = [_container(item, place, device="") for item in _list(pod, "initContainers")]
    return done


def _container(container: Manifest, place: Confinement, *, device: str) -> Manifest:
    if any("subPath" in mount or "subPathExpr" in mount for mount in _list(container, "volumeMounts")):
        raise ValueError(f"expected no subPath in a confidential pod, found one in {container['name']}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if "exec" in _optional(container, probe):
            raise ValueError(f"expected httpGet in {probe} of {container['name']}, found exec: guests refuse it")
    resources = _optional(container, "resources")
    requests, limits = _optional(resources, "requests"), _optional(resources, "limits")
    memory = limits.get("memory") or requests.get("memory") or MISSING_MEMORY
    cpu = limits.get("cpu") or _whole(str(requests.get("cpu") or "1"))
    full: Manifest = {**limits, "cpu": cpu, "memory": memory}
    if device:
        full.setdefault(device, "1")  # a hardware profile may ask for more
    if place.memory_resource:
        full[place.memory_resource] = memory
    return {**container, "resources": {**resources, "limits": full}}


def _whole(cpu: str) -> str:
    """Return whole cores: a guest has no fraction of one, and a fraction as limit would throttle it."""
    return str(-(-millicores_of(cpu) // 1000))
