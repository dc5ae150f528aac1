# SPDX-License-Identifier: Apache-2.0
"""What the mirror keeps of each kind. Pure: objects in, smaller objects out; never changes its input.

Of a status only what the facts read is kept: every other change in it would cost a pass that finds nothing new.

Children that we apply keep all we may have rendered, for the drift compare; only what nobody compares goes.
Other people's objects (pods, nodes) keep just what the facts read. Our own resources keep no spec: a reconcile
reads them fresh.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Final, cast

Object = Mapping[str, object]

MAX_CONDITIONS: Final = 32
"""Conditions kept of one object; Kubernetes' own have fewer than ten."""

_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
)
_POD_METADATA: Final = tuple(key for key in _METADATA if key != "annotations")
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_POD_STATUS: Final = (
    "phase",
    "reason",
    "message",
    "podIP",
    "conditions",
    "initContainerStatuses",
    "containerStatuses",
)
_POD_CONDITIONS: Final = frozenset({"DisruptionTarget", "PodScheduled", "Ready"})
_WORKLOAD_STATUS: Final = ("active", "conditions", "observedGeneration", "replicas", "updatedReplicas")
_WORKLOAD_CONDITIONS: Final = frozenset({"Complete", "Failed", "Progressing", "ReplicaFailure"})
_CERTIFICATE_CONDITIONS: Final = frozenset({"Issuing", "Ready"})
_CONDITION: Final = ("type", "status", "reason", "message", "lastTransitionTime")
_CHATTY: Final = "Progressing"
"""A condition whose message follows every step; its reason says what we need."""
_SHARED_LENGTH: Final = 64
"""Longest string that is kept once for all objects: field names, labels, uids, images; not texts."""
_CONTAINER_STATUS: Final = ("name", "ready", "restartCount", "containerID", "state", "lastState")


def _part(body: Object, key: str) -> Object:
    value = body.get(key)
    return cast("Object", value) if isinstance(value, Mapping) else {}


def _only(body: Object, keys: tuple[str, ...]) -> dict[str, object]:
    return {key: body[key] for key in keys if key in body}


def _metadata(body: Object, keys: tuple[str, ...] = _METADATA) -> dict[str, object]:
    kept = _only(_part(body, "metadata"), keys)
    annotations = kept.get("annotations")
    if isinstance(annotations, Mapping) and _LAST_APPLIED in annotations:
        kept["annotations"] = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
    return kept


def _items(value: object) -> list[Object]:
    return [cast("Object", item) for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _conditions(status: Object, types: frozenset[str]) -> list[dict[str, object]]:
    """Keep the conditions of some types, without times that move when nothing else does."""
    kept = (_only(item, _CONDITION) for item in _items(status.get("conditions")) if item.get("type") in types)
    return [
        {key: value for key, value in item.items() if key != "message"} if item["type"] == _CHATTY else item
        for item in kept
    ]


def trim_child(body: Object) -> dict[str, object]:
    """Keep everything but server bookkeeping (managedFields) and the status."""
    rest = {key: value for key, value in body.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": _metadata(body)}


def trim_workload(body: Object) -> dict[str, object]:
    """As `trim_child`, with the status that the facts read (Deployment, Job)."""
    whole = _part(body, "status")
    status = _only(whole, _WORKLOAD_STATUS)
    if "conditions" in status:
        status["conditions"] = _conditions(whole, _WORKLOAD_CONDITIONS)
    return {**trim_child(body), "status": status}


def trim_claim(body: Object) -> dict[str, object]:
    """As `trim_child`, with what the facts read of a claim's status."""
    return {**trim_child(body), "status": _only(_part(body, "status"), ("phase", "capacity"))}


def trim_certificate(body: Object) -> dict[str, object]:
    """As `trim_child`, with what cert-manager tells; its revision tells that the Secret is another."""
    status: dict[str, object] = _only(_part(body, "status"), ("revision", "notAfter"))
    known = (*_CONDITION, "observedGeneration")
    items = _items(_part(body, "status").get("conditions"))
    status["conditions"] = [_only(item, known) for item in items if item.get("type") in _CERTIFICATE_CONDITIONS]
    return {**trim_child(body), "status": status}


def trim_pod(body: Object) -> dict[str, object]:
    """Keep what the failure classification and the observer read; of the spec where it runs."""
    status: dict[str, object] = _only(_part(body, "status"), _POD_STATUS)
    for key in ("initContainerStatuses", "containerStatuses"):
        if key in status:
            status[key] = [_only(item, _CONTAINER_STATUS) for item in _items(status[key])]
    if "conditions" in status:
        status["conditions"] = _conditions(status, _POD_CONDITIONS)
    return {
        "metadata": _metadata(body, _POD_METADATA),
        "spec": _only(_part(body, "spec"), ("nodeName", "nodeSelector", "runtimeClassName")),
        "status": status,
    }


def is_device(resource: str) -> bool:
    """Tell whether a node's resource is one that a profile may ask for: an extended one, or huge pages."""
    return "/" in resource or resource.startswith("hugepages-")


def trim_node(body: Object) -> dict[str, object]:
    """Keep what placement asks: labels, taints, cordon, totals, devices. Heartbeats leave no trace."""
    allocatable = _part(_part(body, "status"), "allocatable")
    totals = {key: value for key, value in allocatable.items() if key in ("cpu", "memory") or is_device(key)}
    return {
        "metadata": _only(_part(body, "metadata"), ("name", "uid", "resourceVersion", "labels")),
        "spec": _only(_part(body, "spec"), ("taints", "unschedulable")),
        "status": {"allocatable": totals},
    }


def trim_waker(body: Object) -> dict[str, object]:
    """Keep of what binds resources only what tells that it changed: the facts read it anew."""
    return {"metadata": _only(_part(body, "metadata"), ("name", "uid", "resourceVersion", "generation", "labels"))}


def trim_resource(body: Object) -> dict[str, object]:
    """Keep of our own resources what decides on a new reconcile, and the conditions for the metrics.

    Whoever names it looks again when one of them has another status or reason. Of an index also its age, for the
    metrics, and what it serves: that counts as they do.
    """
    status = _part(body, "status")
    conditions = _items(status.get("conditions"))[:MAX_CONDITIONS]
    kept = {"conditions": [_only(item, ("type", "status", "reason")) for item in conditions]}
    return {
        "metadata": _metadata(body),
        "status": {**kept, **_only(status, ("lastIndexedTime", "servingGeneration"))},
    }


TRIMS: Final[Mapping[str, Callable[[Object], dict[str, object]]]] = {
    "Assistant": trim_resource,
    "CompactModel": trim_resource,
    "RetrievalIndex": trim_resource,
    "Deployment": trim_workload,
    "StatefulSet": trim_workload,
    "Job": trim_workload,
    "Pod": trim_pod,
    "Node": trim_node,
    "Namespace": trim_waker,
    "TEEPolicy": trim_waker,
    "ConfigMap": trim_child,
    "Service": trim_child,
    "ServiceAccount": trim_child,
    "NetworkPolicy": trim_child,
    "PodDisruptionBudget": trim_child,
    "PersistentVolumeClaim": trim_claim,
    "Certificate": trim_certificate,
}
"""Kind → what is kept of it: the kinds of the mirror. Secrets are not among them."""
UNSURE: Final = frozenset({"Certificate"})
"""Kinds that a cluster may not know: issued.py lists them where the settings ask for them."""
WATCHED: Final = tuple(kind for kind in TRIMS if kind not in UNSURE)
"""Kinds that are watched, and read anew at each resync."""


def shared(body: Object) -> Object:
    """Return an equal object whose names and short strings are held once for all objects: half the memory."""
    return cast("Object", _shared(body))


def _shared(value: object) -> object:
    if isinstance(value, str):
        return sys.intern(value) if len(value) <= _SHARED_LENGTH else value
    if isinstance(value, dict):
        return {_shared(key): _shared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    return value


def significant(kind: str, body: Object) -> Object:
    """Return the part of a trimmed object whose change is worth a reconcile.

    Of our own resources the status is left out (we wrote it), of every object its resourceVersion.
    """
    metadata = {key: value for key, value in _part(body, "metadata").items() if key != "resourceVersion"}
    kept = {key: value for key, value in body.items() if key != "metadata"}
    if TRIMS[kind] is trim_resource:
        kept.pop("status", None)
    return {**kept, "metadata": metadata}
