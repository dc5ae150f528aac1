# SPDX-License-Identifier: Apache-2.0
"""Small Python programs as pods with a Service: web site, git server, stand-ins. Pure."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from e2e.support.manifests import Manifest
from e2e.support.registry import CONTAINER_SECURITY, POD_SECURITY

FILES_DIR: Final = "/files"
SCRIPT_DIR: Final = "/program"


@dataclass(frozen=True)
class Program:
    """A Deployment of one, with its files in a ConfigMap and a Service of its name.

    `image` has python3; `script` is a file that it runs, and `command` what follows. `volumes` come beside the
    files, with the folders where they are mounted. `path` is where http is asked for readiness; without one the
    port is looked at.
    """

    name: str
    namespace: str
    image: str
    command: Sequence[str]
    port: int
    files: Mapping[str, bytes] = field(default_factory=dict)
    script: Path | None = None
    path: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, Manifest] = field(default_factory=dict)


def program_manifests(program: Program) -> list[Manifest]:
    """Return what is applied for a program. Other files are another pod."""
    files = {path: base64.b64encode(text).decode() for path, text in program.files.items()}
    script = program.script.read_text(encoding="utf-8") if program.script is not None else ""
    labels = {"app.kubernetes.io/name": program.name}
    revision = hashlib.sha256(json.dumps([files, script], sort_keys=True).encode()).hexdigest()[:12]
    pod = pod_spec(_container(program), _volumes(program))
    template: Manifest = {"metadata": {"labels": labels, "annotations": {"revision": revision}}, "spec": pod}
    ports = [{"name": "main", "port": program.port, "targetPort": "main"}]
    deployment: Manifest = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": template,
    }
    return [
        _object(
            program,
            "v1",
            "ConfigMap",
            {"binaryData": files, "data": {} if not script else {_main(program): script}},
        ),
        _object(program, "apps/v1", "Deployment", {"spec": deployment}),
        _object(program, "v1", "Service", {"spec": {"selector": labels, "ports": ports}}),
    ]


def python_container(name: str, image: str, arguments: Sequence[str]) -> Manifest:
    """Return a container that runs python3, restricted and small."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", *arguments],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": CONTAINER_SECURITY,
    }


def pod_spec(container: Manifest, volumes: Sequence[Manifest]) -> Manifest:
    """Return a restricted pod of one container."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": list(volumes),
    }


def _main(program: Program) -> str:
    return program.script.name if program.script is not None else ""


def _container(program: Program) -> Manifest:
    script = [f"{SCRIPT_DIR}/{_main(program)}"] if program.script is not None else []
    container = python_container(program.name, program.image, [*script, *program.command])
    probe: Manifest = {"httpGet": {"path": program.path, "port": "main"}} if program.path else _PORT_PROBE
    container["ports"] = [{"name": "main", "containerPort": program.port}]
    container["readinessProbe"] = {**probe, "periodSeconds": 1, "failureThreshold": 60}
    container["env"] = [{"name": name, "value": value} for name, value in program.environment.items()]
    mounts: list[Manifest] = [
        {"name": f"extra-{number}", "mountPath": path} for number, path in enumerate(program.volumes)
    ]
    if program.files:
        mounts.append({"name": "files", "mountPath": FILES_DIR, "readOnly": True})
    if program.script is not None:
        mounts.append({"name": "program", "mountPath": SCRIPT_DIR, "readOnly": True})
    container["volumeMounts"] = mounts
    return container


_PORT_PROBE: Final[Manifest] = {"tcpSocket": {"port": "main"}}


def _volumes(program: Program) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": f"extra-{number}", **volume} for number, volume in enumerate(program.volumes.values())
    ]
    if program.files:
        items = [{"key": name, "path": name} for name in program.files]
        volumes.append({"name": "files", "configMap": {"name": program.name, "items": items}})
    if program.script is not None:
        items = [{"key": _main(program), "path": _main(program)}]
        volumes.append({"name": "program", "configMap": {"name": program.name, "items": items}})
    return volumes


def _object(program: Program, version: str, kind: str, rest: Manifest) -> Manifest:
    metadata = {"name": program.name, "namespace": program.namespace}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}
