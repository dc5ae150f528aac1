# SPDX-License-Identifier: Apache-2.0
"""A registry inside the cluster (the distribution project's), filled from the host, and a claim filled from a pod.

The registry's image is made of its one static program, without a builder.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from e2e.cluster import toolchain
from e2e.cluster.ociarchive import ScratchImage, image_archive
from e2e.cluster.paths import cache_of
from e2e.cluster.progress import Progress
from e2e.cluster.tools import REGISTRY
from e2e.support.asking import await_route, service_url
from e2e.support.hub import NAMESPACE, REGISTRY_PORT, Manifest
from e2e.support.kube import Kube
from loader_testing.packing import Package, push

NAME: Final = "registry"
_LABELS: Final = {"app.kubernetes.io/name": NAME}
_PROGRAM: Final = "/registry"
_PUSH_SECONDS: Final = 60.0
CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY: Final[Manifest] = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def deploy_registry(kube: Kube, packages: Mapping[str, Package], *, repository: str) -> None:
    """Run a registry in the hubs' namespace and push packages by tag."""
    image = _load_image(kube)
    kube.run("apply", "--filename=-", text="\n---\n".join(json.dumps(item) for item in registry_manifests(image)))
    kube.rolled_out(NAME, NAMESPACE)
    with service_url(kube, NAME, NAMESPACE) as url, httpx.Client(base_url=url, timeout=_PUSH_SECONDS) as client:
        await_route(url)
        for tag, made in packages.items():
            push(client, repository, tag, made)


def _load_image(kube: Kube) -> str:
    cache = cache_of(os.environ)
    toolchain.ensure((REGISTRY,), cache=cache, progress=Progress())
    program = REGISTRY.path(cache).read_bytes()
    reference = f"nimblet.local/{NAME}:{hashlib.sha256(program).hexdigest()[:12]}"
    archive = kube.cluster.state / f"{NAME}.tar"
    archive.write_bytes(image_archive(ScratchImage(reference, {_PROGRAM: program}, (_PROGRAM,))))
    kube.cluster.load([archive])
    return reference


def registry_manifests(image: str) -> list[Manifest]:
    """Return the registry's configuration, Deployment and Service; what it holds goes with its pod."""
    configuration = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": "/data"}},
        "http": {"addr": f":{REGISTRY_PORT}"},
    }
    container: Manifest = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve", "/etc/registry/config.json"],
        "env": [{"name": "OTEL_TRACES_EXPORTER", "value": "none"}],
        "ports": [{"name": "http", "containerPort": REGISTRY_PORT}],
        "readinessProbe": {
            "httpGet": {"path": "/v2/", "port": "http"},
            "periodSeconds": 1,
            "failureThreshold": 60,
        },
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/registry", "readOnly": True},
            {"name": "data", "mountPath": "/data"},
        ],
    }
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}, {"name": "data", "emptyDir": {}}],
    }
    template: Manifest = {"metadata": {"labels": _LABELS}, "spec": pod}
    spec: Manifest = {"replicas": 1, "selector": {"matchLabels": _LABELS}, "template": template}
    ports = [{"name": "http", "port": REGISTRY_PORT, "targetPort": "http"}]
    return [
        _object("v1", "ConfigMap", {"data": {"config.json": json.dumps(configuration)}}),
        _object("apps/v1", "Deployment", {"spec": spec}),
        _object("v1", "Service", {"spec": {"selector": _LABELS, "ports": ports}}),
    ]


def _object(version: str, kind: str, rest: Manifest) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": NAME, "namespace": NAMESPACE}, **rest}


def claim_manifest(name: str, namespace: str) -> Manifest:
    """Return a claim for one small model, of the default StorageClass."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "200Mi"}}},
    }


def filling_pod_manifest(claim: str, namespace: str, *, image: str, source: Path, target: str) -> Manifest:
    """Return a pod that copies a file of its image into a claim, under its final name in one step."""
    script = (
        "import os, shutil, sys; source, target = sys.argv[1:]; "
        "os.makedirs(os.path.dirname(target), exist_ok=True); shutil.copyfile(source, target + '.part'); "
        "os.replace(target + '.part', target)"
    )
    container: Manifest = {
        "name": "fill",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", script, str(source), f"/claim/{target}"],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": "claim", "mountPath": "/claim"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"fill-{claim}", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": POD_SECURITY,
            "containers": [container],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
