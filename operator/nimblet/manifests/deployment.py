# SPDX-License-Identifier: Apache-2.0
"""The model server's Deployment. Pure; the server's own argv and probes come from plan/runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet import labels, names
from nimblet.api.common import ConfigMapKeyRef
from nimblet.manifests.cache import CacheMount, models_volume, verify_container
from nimblet.manifests.common import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    Manifest,
    Part,
    pod_selector,
)
from nimblet.manifests.configuration import API_KEY
from nimblet.manifests.loader import (
    MODELS_DIR,
    LoaderPod,
    artifact_volume,
    check_container,
    image_volume,
    key_volumes,
    loader_container,
    loader_volumes,
)
from nimblet.manifests.network import HTTP_PORT
from nimblet.manifests.scheduling import server_fields
from nimblet.manifests.template import Rolling, Template, rolling_deployment

KEY_DIR: Final = "/etc/nimblet/key"
OWN_KEYS_DIR: Final = "/etc/nimblet/own-keys"
TEMPLATE_DIR: Final = "/etc/nimblet/chat-template"
TEMPLATE_FILE: Final = "template.jinja"
DIGEST_DIGITS: Final = 12
"""Of an image's digest in a label: enough for people to tell two apart."""
GRACE_AFTER_DRAIN_SECONDS: Final = 10
"""What the server gets to end by itself after SIGTERM, which comes when the drain is over."""


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """A directory that a server writes to, on a volume of the pod's own."""

    name: str
    path: str
    limit: str
    in_memory: bool = False
    """Counted as memory of the container that fills it."""


@dataclass(frozen=True, kw_only=True)
class ServerContainer:
    """What a runtime module decides about its container."""

    image: str
    args: Sequence[str]
    probes: Manifest
    """startupProbe, readinessProbe, livenessProbe."""
    command: Sequence[str] = ()
    """Program and subcommand, where images of one server differ in their entrypoint; fixed words only."""
    env: Sequence[Manifest] = ()
    key_file: bool = True
    """It reads its keys from files; otherwise `env` refers to them."""
    tmp_limit: str = "64Mi"
    scratch: Sequence[Scratch] = ()


@dataclass(frozen=True, kw_only=True)
class PodOptions:
    """What a template has only where the spec asks for it; a plain model's template shows nothing of it."""

    key_entry: str = ""
    """Entry of the key Secret with the accepted keys; "" mounts the Secret as it is, as before any rotation."""
    own_keys: tuple[str, str] | None = None
    """The user's Secret with keys, and its entry."""
    chat_template: ConfigMapKeyRef | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AdapterMount:
    """An adapter of the model or its drafting model: what fetches or checks it, and the size of its own volume."""

    loader: LoaderPod
    volume_bytes: int
    """Of the pod; 0 where the files lie in the cache."""
    cache: CacheMount | None = None

    @property
    def volume(self) -> str:
        """Name of the volume with its files: its own, or the cache's, which holds them in a folder of theirs."""
        return "models" if self.cache is not None else self.loader.volume("models")

    @property
    def container(self) -> Manifest:
        """The init container that fetches the files, or checks those in the cache."""
        if self.cache is not None:
            return verify_container(self.loader, self.cache)
        return loader_container(self.loader)


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
    options: PodOptions = field(default_factory=PodOptions)
    cache: CacheMount | None = None
    weights_image: str | None = None
    """Image, by digest, that the kubelet mounts the weights from."""
    adapters: Sequence[AdapterMount] = ()
    adapters_label: str = ""
    """Tells which adapters the pods have."""


def deployment_manifest(workload: Workload) -> Manifest:
    """Return the Deployment; its pods carry the hash of their own template as REVISION label."""
    loader, options = workload.loader, workload.options
    own_labels = {labels.SOURCE_HASH: loader.source_hash}
    if workload.cache is not None:
        own_labels[labels.CACHE_FOLDER] = workload.cache.folder
    for item in workload.adapters:
        if item.cache is not None:
            own_labels[labels.checked_folder(item.loader.container_name)] = item.cache.folder
    if workload.weights_image is not None:
        own_labels[labels.WEIGHTS_IMAGE] = workload.weights_image.rpartition(":")[2][:DIGEST_DIGITS]
    if workload.adapters_label:
        own_labels[labels.ADAPTERS] = workload.adapters_label
    template = Template(
        part=Part(owner=loader.owner, namespace=loader.namespace, component="model"),
        scheduling=loader.scheduling,
        spec=_pod_spec(workload),
        labels=own_labels,
        pod_labels=options.labels,
        annotations=options.annotations,
    )
    rolling = Rolling(
        replicas=workload.replicas,
        strategy=workload.strategy,
        progress_deadline_seconds=workload.progress_deadline_seconds,
    )
    return rolling_deployment(template, rolling, name=names.server(loader.owner))


def _pod_spec(workload: Workload) -> Manifest:
    loader = workload.loader
    init, models = _weights(workload)
    server = workload.server
    key: list[Manifest] = [{"name": "key", "secret": _key_source(workload)}] if server.key_file else []
    volumes: list[Manifest] = [
        *models,
        *(volume for adapter in workload.adapters for volume in _adapter_volumes(adapter)),
        *key,
        {"name": "tmp", "emptyDir": {"sizeLimit": server.tmp_limit}},
        *(_scratch_volume(scratch) for scratch in server.scratch),
        *_option_volumes(workload.options),
    ]
    return {
        "serviceAccountName": names.server(loader.owner),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": workload.drain_seconds + GRACE_AFTER_DRAIN_SECONDS,
        **server_fields(loader.scheduling, selector=pod_selector(loader.owner, "model")),
        "initContainers": [init, *(adapter.container for adapter in workload.adapters)],
        "containers": [_server(workload)],
        "volumes": volumes,
    }


def _weights(workload: Workload) -> tuple[Manifest, list[Manifest]]:
    """Return what brings or checks the weights, and the volumes that it and the server need for them."""
    loader, cache, image = workload.loader, workload.cache, workload.weights_image
    if cache is not None:
        return verify_container(loader, cache), [artifact_volume(loader), models_volume(cache, read_only=True)]
    if image is not None:
        return check_container(loader), [artifact_volume(loader), image_volume(image)]
    scratch: Manifest = {"name": "models", "emptyDir": {"sizeLimit": str(workload.volume_bytes)}}
    held = [*loader_volumes(loader), *key_volumes(loader), artifact_volume(loader), scratch]
    return loader_container(loader), held


def _adapter_volumes(adapter: AdapterMount) -> list[Manifest]:
    """Return the volumes of one adapter: its files', what its loader needs. None is another's but the cache."""
    if adapter.cache is not None:
        return [artifact_volume(adapter.loader)]
    files: Manifest = {"name": adapter.volume, "emptyDir": {"sizeLimit": str(adapter.volume_bytes)}}
    return [*loader_volumes(adapter.loader), *key_volumes(adapter.loader), artifact_volume(adapter.loader), files]


def _key_source(workload: Workload) -> Manifest:
    """Return the key's volume source; a named entry keeps the pod waiting until the Secret has it."""
    source: Manifest = {"secretName": names.api_key(workload.loader.owner), "defaultMode": 0o440}
    if workload.options.key_entry:
        source["items"] = [{"key": workload.options.key_entry, "path": API_KEY}]
    return source


def _scratch_volume(scratch: Scratch) -> Manifest:
    medium: Manifest = {"medium": "Memory"} if scratch.in_memory else {}
    return {"name": scratch.name, "emptyDir": {**medium, "sizeLimit": scratch.limit}}


def _option_volumes(options: PodOptions) -> list[Manifest]:
    volumes: list[Manifest] = []
    if options.own_keys is not None:
        secret, entry = options.own_keys
        source = {"secretName": secret, "items": [{"key": entry, "path": API_KEY}], "defaultMode": 0o440}
        volumes.append({"name": "own-keys", "secret": source})
    if options.chat_template is not None:
        items = [{"key": options.chat_template.key, "path": TEMPLATE_FILE}]
        volumes.append(
            {"name": "chat-template", "configMap": {"name": options.chat_template.name, "items": items}}
        )
    return volumes


def _option_mounts(options: PodOptions) -> list[Manifest]:
    mounts: list[Manifest] = []
    if options.own_keys is not None:
        mounts.append({"name": "own-keys", "mountPath": OWN_KEYS_DIR, "readOnly": True})
    if options.chat_template is not None:
        mounts.append({"name": "chat-template", "mountPath": TEMPLATE_DIR, "readOnly": True})
    return mounts


def _server(workload: Workload) -> Manifest:
    requests: Manifest = {"cpu": workload.cpu, "memory": workload.memory}
    held = sum(adapter.volume_bytes for adapter in workload.adapters)
    if workload.cache is None and workload.weights_image is None:
        held += workload.volume_bytes
    if held:
        requests["ephemeral-storage"] = str(held)
    server = workload.server
    key: list[Manifest] = [{"name": "key", "mountPath": KEY_DIR, "readOnly": True}] if server.key_file else []
    container: Manifest = {
        "name": "server",
        "image": server.image,
        "imagePullPolicy": workload.loader.pull_policy,
        "args": list(server.args),
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "resources": {
            "requests": requests,
            "limits": {"memory": workload.memory},
        },
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS_DIR, "readOnly": True},
            *(
                {"name": item.volume, "mountPath": item.loader.server_path, "readOnly": True}
                for item in workload.adapters
            ),
            *key,
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
            *({"name": scratch.name, "mountPath": scratch.path} for scratch in server.scratch),
            *_option_mounts(workload.options),
        ],
        **server.probes,
    }
    if server.command:
        container["command"] = list(server.command)
    if server.env:
        container["env"] = list(server.env)
    if workload.drain_seconds > 0:
        # The sleep action needs no shell in the image; endpoints lose the pod while it still answers.
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": workload.drain_seconds}}}
    return container
