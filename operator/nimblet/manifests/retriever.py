# SPDX-License-Identifier: Apache-2.0
"""The retriever of an index: its workload, configuration and keys. Pure: values in, dict out."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet import labels, names
from nimblet.api.scheduling import Scheduling
from nimblet.manifests.common import CONTAINER_SECURITY, POD_SECURITY, Manifest, Part, metadata
from nimblet.manifests.network import HTTP_PORT
from nimblet.manifests.scheduling import server_fields
from nimblet.manifests.template import Rolling, Template, rolling_deployment, single_stateful_set

COMPONENT: Final = "retriever"
CONFIG_FILE: Final = "config.json"
KEYS_FILE: Final = "keys.json"
CONFIG_DIR: Final = "/etc/nimblet/retriever"
KEYS_DIR: Final = "/etc/nimblet/keys"
SECRETS_DIR: Final = "/etc/nimblet/secrets"
INDEX_DIR: Final = "/index"
API_KEY: Final = "api-key"
TMP_SIZE: Final = "256Mi"
GRACE_SECONDS: Final = 10
"""What the retriever gets to end: it closes its shards and answers what it has begun."""
STARTUP_SECONDS: Final = 600
"""Until a start counts as failed: a large index on a slow volume is opened in minutes."""


def retriever_part(owner: str, namespace: str, component: str = COMPONENT) -> Part:
    """Return a component of an index."""
    return Part(owner=owner, namespace=namespace, component=component, kind_label=labels.INDEX)


@dataclass(frozen=True, kw_only=True)
class SecretFile:
    """One entry of a Secret that the pod reads as a file of its own folder."""

    name: str
    """Of the folder, unique in the pod."""
    secret: str
    entry: str = API_KEY
    optional: bool = False
    file: str = API_KEY
    """What it is called in the folder."""

    @property
    def path(self) -> str:
        """Where the file lies."""
        return f"{self.folder}/{self.file}"

    @property
    def folder(self) -> str:
        """Where it alone lies."""
        return f"{SECRETS_DIR}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Retriever:
    """Everything the workload needs."""

    part: Part
    image: str
    pull_policy: str
    config_hash: str
    memory: str
    cpu: str
    replicas: int
    claim: str | None
    """The claim of an Embedded store; without one the pods keep nothing and roll one after the other."""
    secrets: Sequence[SecretFile] = ()
    drain_seconds: int = 0
    scheduling: Scheduling = field(default_factory=Scheduling)
    annotations: Mapping[str, str] = field(default_factory=dict)


def config_manifest(
    part: Part, *, name: str, text: str, more_labels: Mapping[str, str] | None = None, immutable: bool = False
) -> Manifest:
    """Return the ConfigMap of a program's configuration file."""
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, part.namespace, labels_={**part.labels, **(more_labels or {})}),
        "data": {CONFIG_FILE: text},
    }
    return {**manifest, "immutable": True} if immutable else manifest


def secret_manifest(
    part: Part, *, name: str, entries: Mapping[str, str], annotations: Mapping[str, str]
) -> Manifest:
    """Return a Secret of ours."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(name, part.namespace, labels_=part.labels, annotations=annotations),
        "type": "Opaque",
        "data": {entry: base64.b64encode(text.encode()).decode() for entry, text in entries.items()},
    }


def workload_manifest(retriever: Retriever) -> Manifest:
    """Return the StatefulSet of one over its claim, or the Deployment of a retriever that keeps nothing."""
    template = Template(
        part=retriever.part,
        scheduling=retriever.scheduling,
        spec=_pod_spec(retriever),
        annotations={labels.CONFIG_HASH: retriever.config_hash, **retriever.annotations},
    )
    rolling = Rolling(
        replicas=retriever.replicas, progress_deadline_seconds=STARTUP_SECONDS + retriever.drain_seconds
    )
    name = names.retriever(retriever.part.owner)
    if retriever.claim is None:
        return rolling_deployment(template, rolling, name=name)
    return single_stateful_set(template, rolling, name=name)


def _pod_spec(retriever: Retriever) -> Manifest:
    part = retriever.part
    volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": names.retriever(part.owner)}},
        {"name": "keys", "secret": {"secretName": names.retriever_keys(part.owner), "defaultMode": 0o440}},
        *(secret_volume(file) for file in retriever.secrets),
        {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}},
    ]
    if retriever.claim is not None:
        volumes.append({"name": "index", "persistentVolumeClaim": {"claimName": retriever.claim}})
    return {
        "serviceAccountName": names.retriever(part.owner),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": retriever.drain_seconds + GRACE_SECONDS,
        **server_fields(retriever.scheduling, selector=part.selector),
        "containers": [_container(retriever)],
        "volumes": volumes,
    }


def secret_volume(file: SecretFile) -> Manifest:
    """Return the volume of a Secret's one entry."""
    source: Manifest = {
        "secretName": file.secret,
        "items": [{"key": file.entry, "path": file.file}],
        "defaultMode": 0o440,
    }
    if file.optional:
        source["optional"] = True
    return {"name": file.name, "secret": source}


def secret_mount(file: SecretFile) -> Manifest:
    """Return where it is mounted."""
    return {"name": file.name, "mountPath": file.folder, "readOnly": True}


def _container(retriever: Retriever) -> Manifest:
    mounts: list[Manifest] = [
        {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
        {"name": "keys", "mountPath": KEYS_DIR, "readOnly": True},
        *(secret_mount(file) for file in retriever.secrets),
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
    ]
    if retriever.claim is not None:
        mounts.append({"name": "index", "mountPath": INDEX_DIR})
    container: Manifest = {
        "name": COMPONENT,
        "image": retriever.image,
        "imagePullPolicy": retriever.pull_policy,
        "args": ["--config", f"{CONFIG_DIR}/{CONFIG_FILE}"],
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": retriever.cpu, "memory": retriever.memory},
            "limits": {"memory": retriever.memory},
        },
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts,
        "startupProbe": {**_probe("/livez"), "periodSeconds": 2, "failureThreshold": STARTUP_SECONDS // 2},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 2, "failureThreshold": 3},
        "livenessProbe": {**_probe("/livez"), "periodSeconds": 10, "failureThreshold": 6},
    }
    if retriever.drain_seconds > 0:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": retriever.drain_seconds}}}
    return container


def _probe(path: str) -> Manifest:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 5}
