# SPDX-License-Identifier: Apache-2.0
"""The model server's Deployment. Pure; the server's own argv and probes come from plan/runtime."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nimblet import labels, names
from nimblet.manifests.cache import CacheMount, models_volume, verify_container
from nimblet.manifests.common import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    Manifest,
    metadata,
    model_labels,
    pod_selector,
)
from nimblet.manifests.loader import MODELS_DIR, LoaderPod, artifact_volume, loader_container, loader_volumes
from nimblet.manifests.network import HTTP_PORT

KEY_DIR: Final = "/etc/nimblet/key"
GRACE_AFTER_DRAIN_SECONDS: Final = 10
"""What the server gets to end by itself after SIGTERM, which comes when the drain is over."""


@dataclass(frozen=True, kw_only=True)
class ServerContainer:
    """What a runtime module decides about its container."""

    image: str
    args: Sequence[str]
    probes: Manifest
    """startupProbe, readinessProbe, livenessProbe."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Everything the Deployment needs besides the loader's part."""

    loader: LoaderPod
    server: ServerContainer
    replicas: int
    strategy: str
    memory: str
    cpu: str
    volume_bytes: int
    drain_seconds: int
    progress_deadline_seconds: int
    cache: CacheMount | None = None


def deployment_manifest(workload: Workload) -> Manifest:
    """Return the Deployment; its pods carry the hash of their own template as REVISION label."""
    owner, namespace = workload.loader.owner, workload.loader.namespace
    spec = _pod_spec(workload)
    pod_labels = {**model_labels(owner, "model"), labels.SOURCE_HASH: workload.loader.source_hash}
    if workload.cache is not None:
        pod_labels[labels.CACHE_FOLDER] = workload.cache.folder
    revision = names.content_hash({"labels": pod_labels, "spec": spec})
    strategy: Manifest = {"type": workload.strategy}
    if workload.strategy == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxSurge": 1, "maxUnavailable": 0}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(
            names.server(owner),
            namespace,
            labels_={**pod_labels, labels.REVISION: revision},
        ),
        "spec": {
            "replicas": workload.replicas,
            "strategy": strategy,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": workload.progress_deadline_seconds,
            "selector": {"matchLabels": pod_selector(owner, "model")},
            "template": {"metadata": {"labels": {**pod_labels, labels.REVISION: revision}}, "spec": spec},
        },
    }


def _pod_spec(workload: Workload) -> Manifest:
    loader, cache = workload.loader, workload.cache
    if cache is None:
        models = [*loader_volumes(loader), artifact_volume(loader)]
        models.append({"name": "models", "emptyDir": {"sizeLimit": str(workload.volume_bytes)}})
    else:
        models = [artifact_volume(loader), models_volume(cache, read_only=True)]
    volumes: list[Manifest] = [
        *models,
        {"name": "key", "secret": {"secretName": names.api_key(loader.owner), "defaultMode": 0o440}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    return {
        "serviceAccountName": names.server(loader.owner),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": workload.drain_seconds + GRACE_AFTER_DRAIN_SECONDS,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": pod_selector(loader.owner, "model")},
            }
        ],
        "initContainers": [loader_container(loader) if cache is None else verify_container(loader, cache)],
        "containers": [_server(workload)],
        "volumes": volumes,
    }


def _server(workload: Workload) -> Manifest:
    requests: Manifest = {"cpu": workload.cpu, "memory": workload.memory}
    if workload.cache is None:
        requests["ephemeral-storage"] = str(workload.volume_bytes)
    container: Manifest = {
        "name": "server",
        "image": workload.server.image,
        "imagePullPolicy": workload.loader.pull_policy,
        "args": list(workload.server.args),
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "resources": {
            "requests": requests,
            "limits": {"memory": workload.memory},
        },
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS_DIR, "readOnly": True},
            {"name": "key", "mountPath": KEY_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        ],
        **workload.server.probes,
    }
    if workload.drain_seconds > 0:
        # The sleep action needs no shell in the image; endpoints lose the pod while it still answers.
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": workload.drain_seconds}}}
    return container
