# SPDX-License-Identifier: Apache-2.0
"""Make-believe nodes and pods: node manifests, and the Stages by which kwok moves them on.

Pure. A Stage says which objects it takes (`selector`), after how long and what it makes of them. When several
Stages match, kwok picks by `weight`; the ones here have none, so a Stage with `weight: 1` or more wins.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node"
STAGE_VERSION = "kwok.x-k8s.io/v1alpha1"
DEFAULT_ALLOCATABLE = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "200Gi", "pods": "110"}


@dataclass(frozen=True)
class Taint:
    """A node's taint; `effect` is NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    effect: str
    value: str = ""


@dataclass(frozen=True)
class FakeNode:
    """A node to make believe in.

    `allocatable` adds to (and overrides) 8 CPUs, 32 GiB of memory, 200 GiB of disk and 110 pods; quantities
    are Kubernetes strings. Capacity is the same as allocatable.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def node_manifest(node: FakeNode) -> dict[str, object]:
    """Return the Node object; the labels that a kubelet sets are there unless overridden."""
    resources = {**DEFAULT_ALLOCATABLE, **node.allocatable}
    labels = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        **node.labels,
    }
    taints = [
        {"key": each.key, "effect": each.effect, **({"value": each.value} if each.value else {})}
        for each in node.taints
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": labels,
            "annotations": {FAKE_NODE_ANNOTATION: "fake", **node.annotations},
        },
        "spec": {"taints": taints},
        "status": {"capacity": resources, "allocatable": resources},
    }


NODE_READY_STATUS = """
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: make-believe
  lastHeartbeatTime: {{ Now | Quote }}
  lastTransitionTime: {{ Now | Quote }}
{{ end }}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
- {type: Hostname, address: {{ NodeName | Quote }}}
nodeInfo:
  architecture: amd64
  bootID: ""
  containerRuntimeVersion: kwok
  kernelVersion: kwok
  kubeProxyVersion: kwok
  kubeletVersion: kwok
  machineID: ""
  operatingSystem: linux
  osImage: kwok
  systemUUID: ""
"""

POD_READY_STATUS = """
{{ $now := Now }}
{{ $meta := .metadata }}
phase: Running
startTime: {{ $now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false $meta.uid $meta.name $meta.namespace | Quote }}
conditions:
{{ range $kind := (list "Initialized" "ContainersReady" "Ready") }}
- {type: {{ $kind }}, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
{{ with .spec.initContainers }}
initContainerStatuses:
{{ range . }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  restartCount: 0
  ready: true
  {{ if eq (or .restartPolicy "") "Always" }}
  started: true
  state: {running: {startedAt: {{ $now | Quote }}}}
  {{ else }}
  state: {terminated: {exitCode: 0, reason: Completed, finishedAt: {{ $now | Quote }}}}
  {{ end }}
{{ end }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  restartCount: 0
  ready: true
  started: true
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
"""

POD_COMPLETE_STATUS = """
{{ $now := Now }}
phase: Succeeded
conditions:
{{ range $kind := (list "ContainersReady" "Ready") }}
- {type: {{ $kind }}, status: "False", reason: PodCompleted, lastTransitionTime: {{ $now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  restartCount: 0
  ready: false
  started: false
  state: {terminated: {exitCode: 0, reason: Completed, finishedAt: {{ $now | Quote }}}}
{{ end }}
"""


def requirement(key: str, operator: str, *values: str) -> dict[str, object]:
    """Return one selector line; `key` is a jq path, `operator` In, NotIn, Exists or DoesNotExist."""
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def stage_manifest(
    *, name: str, kind: str, selector: Sequence[Mapping[str, object]], following: Mapping[str, object]
) -> dict[str, object]:
    """Return a Stage for core/v1 objects of `kind`; `following` is the Stage's `next`."""
    return {
        "apiVersion": STAGE_VERSION,
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": list(selector)},
            "next": dict(following),
        },
    }


def default_stages() -> tuple[dict[str, object], ...]:
    """Return the Stages of a healthy cluster: nodes and pods turn Ready at once, Jobs' pods complete."""
    alive = requirement(".metadata.deletionTimestamp", "DoesNotExist")
    not_ready = requirement('.status.conditions.[] | select( .type == "Ready" ) | .status', "NotIn", "True")
    return (
        stage_manifest(
            name="node-ready", kind="Node", selector=[not_ready], following={"statusTemplate": NODE_READY_STATUS}
        ),
        stage_manifest(
            name="pod-ready",
            kind="Pod",
            selector=[alive, requirement(".status.phase", "In", "Pending"), not_ready],
            following={"statusTemplate": POD_READY_STATUS},
        ),
        stage_manifest(
            name="pod-complete",
            kind="Pod",
            selector=[
                alive,
                requirement(".status.phase", "In", "Running"),
                requirement(".metadata.ownerReferences.[].kind", "In", "Job"),
            ],
            following={"statusTemplate": POD_COMPLETE_STATUS},
        ),
        stage_manifest(
            name="pod-delete",
            kind="Pod",
            selector=[requirement(".metadata.deletionTimestamp", "Exists")],
            following={"delete": True},
        ),
    )


def stages_text(extra: Sequence[Mapping[str, object]]) -> str:
    """Return kwok's config file: the default Stages and `extra`; an extra of the same name replaces."""
    by_name = {stage_name(each): each for each in (*default_stages(), *extra)}
    return "".join(f"---\n{json.dumps(each, indent=1)}\n" for each in by_name.values())


def stage_name(stage: Mapping[str, object]) -> str:
    """Return a Stage's name; ValueError where it has none."""
    metadata = stage.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str):
        message = f"expected a Stage with metadata.name, found {sorted(stage)}; give it one"
        raise TypeError(message)
    return name
