# SPDX-License-Identifier: Apache-2.0
"""Objects as an API server sends them, with overrides; and a pod as it is asked."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from nimblet.plan.facts import PodFacts

Json = dict[str, object]

START = "2026-01-01T10:00:00Z"
END = "2026-01-01T10:05:00Z"
POD: Final = PodFacts(
    name="p",
    uid="u1",
    revision="r",
    source_hash="s",
    ready=True,
    terminating=False,
    ip="10.0.0.1",
    container_id="c1",
)
"""A server's pod that may be asked."""


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def running() -> Json:
    return {"running": {"startedAt": START}}


def terminated(code: int, reason: str = "Error", message: str = "") -> Json:
    words = {"message": message} if message else {}
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "startedAt": START,
            "finishedAt": END,
            "containerID": "containerd://dead",
            **words,
        }
    }


def container(name: str, state: Json, *, last: Json | None = None, restarts: int = 0, ready: bool = False) -> Json:
    return {
        "name": name,
        "image": "registry.example/image:1",
        "imageID": "sha256:1",
        "ready": ready,
        "started": ready,
        "restartCount": restarts,
        "containerID": f"containerd://{name}-{restarts}",
        "state": state,
        "lastState": last or {},
    }


def condition(type_: str, status: str, reason: str = "", message: str = "") -> Json:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastProbeTime": None,
        "lastTransitionTime": END,
    }


def owner(kind: str, name: str, uid: str, api_version: str = "apps/v1") -> Json:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def metadata(name: str, *, version: int = 1, namespace: str = "team", **extra: Any) -> Json:
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": START,
        "managedFields": [{"manager": "someone", "fieldsV1": {"f:spec": {}}}],
        **extra,
    }


def pod(
    name: str = "small-model-7f-x",
    *,
    status: Mapping[str, object] | None = None,
    labels: Mapping[str, str] | None = None,
    owners: Sequence[Json] = (),
    **meta: Any,
) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(
            name,
            labels={
                "app.kubernetes.io/managed-by": "nimblet",
                "app.kubernetes.io/component": "model",
                "nimblet.dev/model": "small",
                "nimblet.dev/revision": "rev1",
                "nimblet.dev/source-hash": "src1",
                **(labels or {}),
            },
            ownerReferences=list(owners),
            **meta,
        ),
        "spec": {"nodeName": "node-1", "containers": [{"name": "server", "image": "i"}]},
        "status": {"phase": "Pending", **(status or {})},
    }


def model(name: str = "small", *, version: int = 1, placed: str | None = None, **meta: Any) -> Json:
    conditions = [condition("Placed", placed)] if placed else []
    return {
        "apiVersion": "nimblet.dev/v1alpha1",
        "kind": "CompactModel",
        "metadata": metadata(name, version=version, generation=1, **meta),
        "spec": {"source": {"uri": "hf://org/repo"}},
        "status": {"conditions": conditions, "observedGeneration": 1},
    }


def child(kind: str, name: str, *, version: int = 1, owner_name: str = "small", **extra: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": metadata(
            name,
            version=version,
            labels={"app.kubernetes.io/managed-by": "nimblet", "nimblet.dev/model": owner_name},
            ownerReferences=[owner("CompactModel", owner_name, f"uid-{owner_name}", "nimblet.dev/v1alpha1")],
        ),
        **extra,
    }
