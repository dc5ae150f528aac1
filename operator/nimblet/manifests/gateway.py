# SPDX-License-Identifier: Apache-2.0
"""The gateway of an Assistant: Deployment, configuration and policy. Pure: values in, dict out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet import labels, names
from nimblet.api.scheduling import Scheduling
from nimblet.manifests.common import CONTAINER_SECURITY, POD_SECURITY, Manifest, Part, metadata
from nimblet.manifests.configuration import API_KEY
from nimblet.manifests.deployment import GRACE_AFTER_DRAIN_SECONDS
from nimblet.manifests.network import HTTP_PORT, Callers, caller_peers, dns_rule, ingress_rule, policy_manifest
from nimblet.manifests.scheduling import server_fields
from nimblet.manifests.template import Rolling, Template, rolling_deployment

COMPONENT: Final = "gateway"
CONFIG_FILE: Final = "config.json"
CONFIG_DIR: Final = "/etc/nimblet/gateway"
KEYS_DIR: Final = "/etc/nimblet/keys"
"""One file a key that clients may show: the generated ones, and the user's own."""
CREDENTIALS_DIR: Final = "/etc/nimblet/credentials"
"""One file for each endpoint that the gateway asks."""
GENERATED: Final = "nimblet-generated"
"""Id of the generated key; a user's key of the same name would be hidden by it, so that it can't be taken over."""
ASKED: Final = ("model", "retriever")
"""Components that a gateway talks to."""
_OURS: Final[Mapping[str, str]] = {labels.MANAGED_BY: labels.MANAGED_BY_VALUE}
READ_ONLY: Final = 0o440
PROGRESS_SECONDS: Final = 600


@dataclass(frozen=True, kw_only=True)
class Credential:
    """The key of an endpoint that the gateway asks: the entry `api-key` of a Secret, as a file of this name."""

    file: str
    secret: str

    @property
    def path(self) -> str:
        """Where the file lies."""
        return f"{CREDENTIALS_DIR}/{self.file}"


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """Everything the Deployment needs."""

    owner: str
    namespace: str
    image: str
    pull_policy: str
    config_hash: str
    used: str
    """Hash of the names of the resources that it answers from."""
    credentials: Sequence[Credential]
    key_items: Mapping[str, str]
    """Entries of the own key Secret → their files in KEYS_DIR."""
    own_keys: str | None
    """The user's Secret of keys."""
    replicas: int
    cpu: str
    memory: str
    drain_seconds: int
    scheduling: Scheduling
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def gateway_part(owner: str, namespace: str, component: str = COMPONENT) -> Part:
    """Return a component of an Assistant."""
    return Part(owner=owner, namespace=namespace, component=component, kind_label=labels.ASSISTANT)


def gateway_config_manifest(part: Part, *, config_hash: str, text: str) -> Manifest:
    """Return the ConfigMap of one configuration; only the number of replicas in it ever changes."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            names.gateway_config(part.owner, config_hash=config_hash),
            part.namespace,
            labels_={**part.labels, labels.CONFIG_HASH: config_hash},
        ),
        "data": {CONFIG_FILE: text},
    }


def gateway_policy_manifest(part: Part, *, callers: Callers, further: Sequence[Manifest] = ()) -> Manifest:
    """Return the gateway's policy: its callers in; DNS, models and retrievers of the namespace, and `further` out.

    Not only those that the spec names: while an edit rolls or waits, older pods answer from others.
    """
    peers = [{"podSelector": {"matchLabels": {**_OURS, labels.COMPONENT: component}}} for component in ASKED]
    egress: list[Manifest] = [dns_rule(), {"to": peers, "ports": [{"protocol": "TCP", "port": HTTP_PORT}]}]
    ingress = [ingress_rule(caller_peers(callers), HTTP_PORT)]
    return policy_manifest(part, name=names.gateway(part.owner), ingress=ingress, egress=[*egress, *further])


def gateway_manifest(gateway: Gateway) -> Manifest:
    """Return the Deployment."""
    template = Template(
        part=gateway_part(gateway.owner, gateway.namespace),
        scheduling=gateway.scheduling,
        spec=_pod_spec(gateway),
        labels={labels.SOURCE_HASH: gateway.used},
        pod_labels=gateway.pod_labels,
        annotations=gateway.annotations,
    )
    rolling = Rolling(replicas=gateway.replicas, progress_deadline_seconds=PROGRESS_SECONDS)
    return rolling_deployment(template, rolling, name=names.gateway(gateway.owner))


def _pod_spec(gateway: Gateway) -> Manifest:
    part = gateway_part(gateway.owner, gateway.namespace)
    config = names.gateway_config(gateway.owner, config_hash=gateway.config_hash)
    return {
        "serviceAccountName": names.gateway(gateway.owner),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": gateway.drain_seconds + GRACE_AFTER_DRAIN_SECONDS,
        **server_fields(gateway.scheduling, selector=part.selector),
        "containers": [_container(gateway)],
        "volumes": [
            {"name": "config", "configMap": {"name": config}},
            {"name": "credentials", "projected": _projected([_entry(item) for item in gateway.credentials])},
            {"name": "keys", "projected": _projected(_key_sources(gateway))},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }


def _projected(sources: list[Manifest]) -> Manifest:
    return {"defaultMode": READ_ONLY, "sources": sources}


def _entry(credential: Credential) -> Manifest:
    return {"secret": {"name": credential.secret, "items": [{"key": API_KEY, "path": credential.file}]}}


def _key_sources(gateway: Gateway) -> list[Manifest]:
    """Return what KEYS_DIR is made of: the user's Secret first, since of two files of a name the last one wins."""
    own: list[Manifest] = [{"secret": {"name": gateway.own_keys}}] if gateway.own_keys is not None else []
    items = [{"key": entry, "path": path} for entry, path in gateway.key_items.items()]
    return [*own, {"secret": {"name": names.gateway_key(gateway.owner), "items": items}}]


def _container(gateway: Gateway) -> Manifest:
    container: Manifest = {
        "name": "server",
        "image": gateway.image,
        "imagePullPolicy": gateway.pull_policy,
        "args": ["--config", f"{CONFIG_DIR}/{CONFIG_FILE}"],
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": gateway.cpu, "memory": gateway.memory},
            "limits": {"memory": gateway.memory},
        },
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
            {"name": "credentials", "mountPath": CREDENTIALS_DIR, "readOnly": True},
            {"name": "keys", "mountPath": KEYS_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        ],
        "startupProbe": _probe("/livez", period=1, failures=60),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
        "livenessProbe": _probe("/livez", period=10, failures=6),
    }
    if gateway.drain_seconds > 0:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": gateway.drain_seconds}}}
    return container


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
