# SPDX-License-Identifier: Apache-2.0
"""The hubs inside the cluster: the Hugging Face mirror (plain HTTP) and a web server of weights (https).

Both run the mirror's image. `weights` has a certificate of a CA made for the run, and small files that are odd.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import yaml

from e2e.cluster.pki import Authority, Pair, Subject
from e2e.models import SMOLLM2
from loader_testing.tiny import TinyModel, model_pairs, string

NAMESPACE: Final = "hub"
HUB_HOST: Final = "hub.hub.svc.cluster.local"
HUB_URL: Final = f"http://{HUB_HOST}:8080"
REGISTRY_HOST: Final = "registry.hub.svc.cluster.local"
REGISTRY_PORT: Final = 5000
WEIGHTS_HOST: Final = "weights.hub.svc.cluster.local"
GIT_HOST: Final = "git.hub.svc.cluster.local"
GIT_PORT: Final = 9418
S3_HOST: Final = "s3.hub.svc.cluster.local"
S3_URL: Final = f"http://{S3_HOST}:9000"
TLS_SECRET: Final = "weights"
"""Secret with the certificate of all https servers here."""
WEIGHTS_URL: Final = f"https://{WEIGHTS_HOST}:8443/files"
UNLOADABLE_FILE: Final = "unloadable.gguf"
"""A sound header of a Llama model, and none of the tensors that one needs: llama-server refuses it."""
FOREIGN_FILE: Final = "foreign.gguf"
"""A model of an architecture that nobody knows."""
TRUNCATED_FILE: Final = "truncated.gguf"
"""The first part of a model: its tensors lie beyond its end."""
MIRROR_MANIFESTS: Final = Path(__file__).parents[1] / "mirror" / "manifests.yaml"
_IMAGE: Final = "nimblet.local/mirror:dev"
_LABELS: Final = {"app.kubernetes.io/name": "weights"}

Manifest = dict[str, object]


@dataclass(frozen=True)
class Trust:
    """A CA (PEM) and the certificate that it gave the weights server."""

    authority: str
    server: Pair


def make_trust(*, now: datetime) -> Trust:
    """Return a new CA and the servers' certificate; `now` is the moment of signing (UTC)."""
    authority = Authority(now=now)
    names = (WEIGHTS_HOST, GIT_HOST)
    return Trust(authority.certificate.decode(), authority.issue(Subject(WEIGHTS_HOST, names=names)))


def odd_files() -> Mapping[str, bytes]:
    """Return the small files by name."""
    whole = TinyModel().file()
    pairs = tuple((key.replace("llama.", "quantum."), value) for key, value in model_pairs()[1:])
    foreign = TinyModel(pairs=(string("general.architecture", "quantum"), *pairs)).file()
    return {UNLOADABLE_FILE: whole, FOREIGN_FILE: foreign, TRUNCATED_FILE: whole[:-64]}


def odd_sha256(name: str) -> str:
    """Return the digest of one of them."""
    return hashlib.sha256(odd_files()[name]).hexdigest()


def mirror_manifests(image: str) -> list[Manifest]:
    """Return the mirror's objects with the image just built."""
    text = MIRROR_MANIFESTS.read_text(encoding="utf-8").replace(_IMAGE, image)
    return [dict(item) for item in yaml.safe_load_all(text)]


def weights_manifests(image: str, trust: Trust) -> list[Manifest]:
    """Return the objects of the https server: its files, its certificate, Deployment and Service."""
    plain = [
        {"name": SMOLLM2.file, "path": f"/srv/hub/{SMOLLM2.file}"},
        *({"name": name, "path": name} for name in odd_files()),
    ]
    files: Manifest = {
        "data": {"hub.json": json.dumps({"repos": [], "plain": plain})},
        "binaryData": {name: base64.b64encode(data).decode() for name, data in odd_files().items()},
    }
    pair = {"tls.crt": trust.server.certificate.decode(), "tls.key": trust.server.key.decode()}
    args = ["--config", "/etc/hub/hub.json", "--port", "8443"]
    args += ["--certificate", "/etc/tls/tls.crt", "--key", "/etc/tls/tls.key"]
    return [
        _object("v1", "ConfigMap", files),
        _object("v1", "Secret", {"type": "kubernetes.io/tls", "stringData": pair}),
        _object("apps/v1", "Deployment", _deployment_spec(image, args, revision=_digest(trust))),
        _object("v1", "Service", {"spec": {"selector": _LABELS, "ports": [{"name": "https", "port": 8443}]}}),
    ]


def _object(version: str, kind: str, rest: Manifest) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "weights", "namespace": NAMESPACE}, **rest}


def _digest(trust: Trust) -> str:
    return hashlib.sha256(trust.server.certificate + b"".join(odd_files().values())).hexdigest()[:12]


def _deployment_spec(image: str, args: Sequence[str], *, revision: str) -> Manifest:
    container: Manifest = {
        "name": "weights",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(args),
        "ports": [{"name": "https", "containerPort": 8443}],
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": "https", "scheme": "HTTPS"},
            "periodSeconds": 1,
            "failureThreshold": 60,
        },
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "files", "mountPath": "/etc/hub", "readOnly": True},
            {"name": "tls", "mountPath": "/etc/tls", "readOnly": True},
        ],
    }
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "files", "configMap": {"name": "weights"}},
            {"name": "tls", "secret": {"secretName": TLS_SECRET, "defaultMode": 0o440}},
        ],
    }
    template = {"metadata": {"labels": _LABELS, "annotations": {"revision": revision}}, "spec": pod}
    return {"spec": {"replicas": 1, "selector": {"matchLabels": _LABELS}, "template": template}}
