# SPDX-License-Identifier: Apache-2.0
"""Puts what a hardware profile asks for into a finished Deployment. Pure: a manifest in, another one out.

A profile that asks for nothing leaves the manifest as it is, byte for byte. What is asked for, and whether a node
has it, is decided in plan/placement.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet.api.scheduling import NodeRequirement, Toleration
from nimblet.manifests.common import Manifest
from nimblet.manifests.parts import listed, optional, part, with_pod
from nimblet.manifests.scheduling import written
from nimblet.quantity import bytes_of, mebibytes, millicores_of

SHM_DIR: Final = "/dev/shm"  # noqa: S108 - a volume of the pod's own
SHM_VOLUME: Final = "shm"
PREFERRED_WEIGHT: Final = 10
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """What the server's pods have beside CPU and memory."""

    resources: Mapping[str, str] = field(default_factory=dict)
    """Devices and huge pages; requests equal limits, as the API server has it for both."""
    required: Sequence[NodeRequirement] = ()
    preferred: Sequence[NodeRequirement] = ()
    tolerations: Sequence[Toleration] = ()
    runtime_class: str = ""
    supplemental_groups: Sequence[int] = ()
    shm_bytes: int = 0
    host_ipc: bool = False
    capabilities: Sequence[str] = ()
    whole_cores: bool = False


def equip(manifest: Manifest, equipment: Equipment) -> Manifest:
    """Return the Deployment with its pods so equipped; with nothing to do, the same."""
    if equipment == Equipment():
        return manifest
    pod = part(part(part(manifest, "spec"), "template"), "spec")
    first, *others = listed(pod, "containers")
    done: Manifest = {
        **pod,
        **_security(pod, equipment),
        **_placing(pod, equipment),
        "containers": [_server(first, equipment), *others],
    }
    if equipment.shm_bytes:
        kept = [item for item in listed(pod, "volumes") if item["name"] != SHM_VOLUME]
        shm: Manifest = {"medium": "Memory", "sizeLimit": mebibytes(equipment.shm_bytes)}
        done["volumes"] = [*kept, {"name": SHM_VOLUME, "emptyDir": shm}]
    if equipment.whole_cores:
        done["initContainers"] = [_guaranteed(item, _cpu(first)) for item in listed(pod, "initContainers")]
    return with_pod(manifest, done, annotations={})


def _security(pod: Manifest, equipment: Equipment) -> Manifest:
    fields: Manifest = {}
    if equipment.supplemental_groups:
        groups = {"supplementalGroups": list(equipment.supplemental_groups)}
        fields["securityContext"] = {**part(pod, "securityContext"), **groups}
    if equipment.host_ipc:
        fields["hostIPC"] = True
    return fields


def _placing(pod: Manifest, equipment: Equipment) -> Manifest:
    fields: Manifest = {}
    if equipment.runtime_class:
        fields["runtimeClassName"] = equipment.runtime_class
    known = listed(pod, "tolerations")
    wanted = [written(item) for item in equipment.tolerations]
    if tolerations := [*known, *(item for item in wanted if item not in known)]:
        fields["tolerations"] = tolerations
    if equipment.required or equipment.preferred:
        affinity = optional(pod, "affinity")
        nodes = optional(affinity, "nodeAffinity")
        fields["affinity"] = {**affinity, "nodeAffinity": _node_affinity(nodes, equipment)}
    return fields


def _node_affinity(nodes: Manifest, equipment: Equipment) -> Manifest:
    """Return the user's node affinity with ours: each of the user's alternatives must meet it, too."""
    done = dict(nodes)
    if equipment.required:
        ours = [written(item) for item in equipment.required]
        terms: list[Manifest] = listed(optional(nodes, _REQUIRED), "nodeSelectorTerms") or [{}]
        done[_REQUIRED] = {
            "nodeSelectorTerms": [
                {**term, "matchExpressions": [*listed(term, "matchExpressions"), *ours]} for term in terms
            ]
        }
    if equipment.preferred:
        better = [
            {"weight": PREFERRED_WEIGHT, "preference": {"matchExpressions": [written(item)]}}
            for item in equipment.preferred
        ]
        done[_PREFERRED] = [*listed(nodes, _PREFERRED), *better]
    return done


def _server(container: Manifest, equipment: Equipment) -> Manifest:
    resources = part(container, "resources")
    requests, limits = dict(part(resources, "requests")), dict(part(resources, "limits"))
    if equipment.shm_bytes:
        # what lies in memory counts as the container's that writes it
        memory = mebibytes(bytes_of(str(limits["memory"])) + equipment.shm_bytes)
        requests["memory"] = limits["memory"] = memory
    done: Manifest = {
        **container,
        "resources": {
            "requests": {**requests, **equipment.resources},
            "limits": {**limits, **equipment.resources},
        },
    }
    if equipment.shm_bytes:
        mounts = [item for item in listed(container, "volumeMounts") if item["name"] != SHM_VOLUME]
        done["volumeMounts"] = [*mounts, {"name": SHM_VOLUME, "mountPath": SHM_DIR}]
    if equipment.capabilities:
        security = part(container, "securityContext")
        capabilities = {**part(security, "capabilities"), "add": list(equipment.capabilities)}
        done["securityContext"] = {**security, "capabilities": capabilities}
    return _guaranteed(done, _cpu(container)) if equipment.whole_cores else done


def _cpu(server: Manifest) -> str:
    """Return the whole cores that the server's request comes to."""
    return str(-(-millicores_of(str(part(part(server, "resources"), "requests")["cpu"])) // 1000))


def _guaranteed(container: Manifest, cpu: str) -> Manifest:
    """Return the container with limits equal to requests, which every one of a Guaranteed pod needs.

    Init containers get the server's CPU: they run before it, and a fraction of a core would throttle them.
    """
    resources = part(container, "resources")
    requests, limits = part(resources, "requests"), part(resources, "limits")
    memory = limits["memory"]
    return {
        **container,
        "resources": {
            "requests": {**requests, "cpu": cpu, "memory": memory},
            "limits": {**limits, "cpu": cpu, "memory": memory},
        },
    }
