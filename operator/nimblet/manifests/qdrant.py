# SPDX-License-Identifier: Apache-2.0
"""The Qdrant servers of one index: StatefulSet, Services, keys, budget, policy. Pure: values in, dicts out.

What size they have and when a new set of servers is made is decided in plan/qdrant.py. The shape of the
StatefulSet is that of Qdrant's own chart, but without a shell: a peer whose own address is the bootstrap address
is the first one (Qdrant 1.13.3 and newer).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet import labels, names
from nimblet.api.scheduling import Scheduling
from nimblet.manifests.common import CONTAINER_SECURITY, POD_SECURITY, Manifest, Part, metadata
from nimblet.manifests.configuration import api_key_manifest, service_account_manifest
from nimblet.manifests.network import (
    disruption_budget_manifest,
    dns_rule,
    ingress_rule,
    namespace_peer,
    policy_manifest,
    service_manifest,
)
from nimblet.manifests.scheduling import server_fields
from nimblet.manifests.transport import (
    AUTHORITIES_FILE,
    CERTIFICATE_FILE,
    DIGITS,
    HTTPS,
    KEY_FILE,
    TLS_DIR,
    Secured,
    secured,
    secured_service,
)

COMPONENT: Final = "qdrant"
REST_PORT: Final = 6333
PEER_PORT: Final = 6335
"""Consensus and replication between the servers; they read each other's snapshots by REST."""
READ_ONLY_KEY: Final = "read-only-api-key"
SERVER_KEYS: Final = "server.yaml"
KEYS_DIR: Final = "/etc/nimblet/keys"
HOME: Final = "/qdrant"
"""Where the image keeps the program, and what its relative paths begin at."""
SNAPSHOTS_DIR: Final = f"{HOME}/snapshots"
USER: Final[Manifest] = {**POD_SECURITY, "runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000}
"""The user of the -unprivileged image, with the groups of Qdrant's own chart."""
STOP_SECONDS: Final = 3
"""preStop sleep: the Service forgets the pod before it stops answering."""
GRACE_SECONDS: Final = 60
"""To flush after SIGTERM."""
START_TRIES: Final = 240
"""Every 5 s: loading collections from a slow disk may take twenty minutes."""
FIXED_ENV: Final[Mapping[str, str]] = {
    "QDRANT__CLUSTER__ENABLED": "true",
    "QDRANT__CLUSTER__P2P__PORT": str(PEER_PORT),
    "QDRANT__SERVICE__HTTP_PORT": str(REST_PORT),
    "QDRANT__SERVICE__ENABLE_CORS": "false",
    "QDRANT__SERVICE__ENABLE_STATIC_CONTENT": "false",
    # else a key's holder could make the server read any address of the cluster
    "QDRANT__SERVICE__ENABLE_SNAPSHOT_URL_RECOVERY": "false",
    "QDRANT__TELEMETRY_DISABLED": "true",
    # written once it has started; the image's own place is read-only here
    "QDRANT_INIT_FILE_PATH": f"{HOME}/init/.qdrant-initialized",
}
"""Configuration without secrets. Recovery mode stays off: it would hide that the memory is too small."""
TLS_ENV: Final[Mapping[str, str]] = {
    "QDRANT__SERVICE__ENABLE_TLS": "true",
    "QDRANT__CLUSTER__P2P__ENABLE_TLS": "true",
    "QDRANT__TLS__CERT": f"{TLS_DIR}/{CERTIFICATE_FILE}",
    "QDRANT__TLS__KEY": f"{TLS_DIR}/{KEY_FILE}",
    "QDRANT__TLS__CA_CERT": f"{TLS_DIR}/{AUTHORITIES_FILE}",
    # seconds after which another certificate is shown; of REST alone
    "QDRANT__TLS__CERT_TTL": "60",
}
"""config/config.yaml of Qdrant. Between each other the servers verify both sides, and read their files once."""


@dataclass(frozen=True, kw_only=True)
class QdrantKeys:
    """Keys of the servers; `former` is accepted beside `api_key` while a rotation rolls."""

    api_key: str = field(repr=False)
    read_only: str = field(repr=False)
    former: str | None = field(default=None, repr=False)
    versions: Sequence[int] = (1,)
    """Versions of the key that the servers accept: a change rolls them."""


@dataclass(frozen=True, kw_only=True)
class QdrantSet:
    """One StatefulSet and its Services. Sets are numbered: a new one takes over when servers can't be changed."""

    owner: str
    namespace: str
    kind_label: str
    kind: str
    """Kind of the owner, for what its claims are kept for."""
    number: int
    replicas: int
    memory: str
    cpu: str
    size: str
    """Of each server's claim, and of the one for its snapshots."""
    storage_class: str | None
    retained: bool
    """Claims outlive the set."""
    image: str
    mode: str
    """Memory mode that it is made for; empty where nobody knows."""
    pull_policy: str
    keys: QdrantKeys
    callers: Sequence[Manifest]
    """Peers of the NetworkPolicy that may ask: the retriever's pods."""
    metrics_namespaces: Sequence[str] = ()
    scheduling: Scheduling = field(default_factory=Scheduling)
    suspended: bool = False
    """No pod is wanted; claims and all else stay."""
    tls: Secured | None = None
    """Their certificate; without one they speak plain HTTP."""

    @property
    def part(self) -> Part:
        """Labels and selector; each set has its own."""
        component = component_of(self.number)
        return Part(owner=self.owner, namespace=self.namespace, component=component, kind_label=self.kind_label)

    @property
    def name(self) -> str:
        """StatefulSet, client Service, ServiceAccount, budget and policy."""
        return names.qdrant(self.owner, number=self.number)

    @property
    def headless(self) -> str:
        """The Service that names each pod."""
        return names.headless(self.name)

    @property
    def url(self) -> str:
        """Where its REST interface is."""
        return servers_url(self.owner, self.namespace, number=self.number, tls=self.tls is not None)


def component_of(number: int) -> str:
    """Return the component of a set's pods and other children."""
    return COMPONENT if number == 1 else f"{COMPONENT}-s{number}"


def number_of(component: str) -> int | None:
    """Return the number of the set that a component is of; None for any other component."""
    if component == COMPONENT:
        return 1
    digits = component.removeprefix(f"{COMPONENT}-s")
    return int(digits) if digits != component and digits.isdecimal() else None


def servers_url(owner: str, namespace: str, *, number: int, tls: bool = False) -> str:
    """Return where the REST interface of a set is."""
    return _url(names.service_host(names.qdrant(owner, number=number), namespace), tls=tls)


def server_url(owner: str, namespace: str, *, number: int, at: int, tls: bool = False) -> str:
    """Return where the REST interface of one server of a set is, whether it is ready or not."""
    name = names.qdrant(owner, number=number)
    return _url(f"{name}-{at}.{names.service_host(names.headless(name), namespace)}", tls=tls)


def _url(host: str, *, tls: bool) -> str:
    return f"{'https' if tls else 'http'}://{host}:{REST_PORT}"


def qdrant_manifests(servers: QdrantSet) -> tuple[Manifest, ...]:
    """Return the children of a set in order of creation; the key Secret is shared by all sets."""
    part, name = servers.part, servers.name
    service, workload = service_manifest(part, name=name, port=REST_PORT), _stateful_set(servers)
    children = [
        service_account_manifest(part, name=name),
        _policy(servers),
        service if servers.tls is None else secured_service(service),
        _headless_service(servers),
        workload if servers.tls is None else secured(workload, servers.tls, runtime=COMPONENT),
    ]
    if servers.replicas > 1:
        children.append(disruption_budget_manifest(part, name=name))
    return tuple(children)


def qdrant_keys_manifest(part: Part, keys: QdrantKeys) -> Manifest:
    """Return the Secret: both keys for clients, and the servers' own file, which only they mount."""
    service = {"api_key": keys.api_key, "read_only_api_key": keys.read_only}
    if keys.former is not None:
        service["alt_api_key"] = keys.former
    entries = {
        READ_ONLY_KEY: keys.read_only,
        # JSON is YAML too
        SERVER_KEYS: json.dumps({"service": service}, sort_keys=True, indent=1),
    }
    name = names.qdrant_keys(part.owner)
    return api_key_manifest(part, name=name, api_key=keys.api_key, entries=entries, annotations={})


def _headless_service(servers: QdrantSet) -> Manifest:
    """Return the Service of the peers: they must find each other before they are ready."""
    ports = [("http", REST_PORT), ("p2p", PEER_PORT)]
    shown = {"http": HTTPS} if servers.tls is not None else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(servers.headless, servers.namespace, labels_=servers.part.labels),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": servers.part.selector,
            "ports": [
                {"name": shown.get(name, name), "port": port, "targetPort": name, "protocol": "TCP"}
                for name, port in ports
            ],
        },
    }


def _policy(servers: QdrantSet) -> Manifest:
    peers: list[Manifest] = [{"podSelector": {"matchLabels": servers.part.selector}}]
    scrapers = [namespace_peer(name) for name in servers.metrics_namespaces]
    between: Manifest = {
        "ports": [{"protocol": "TCP", "port": port} for port in (REST_PORT, PEER_PORT)],
        "to": peers,
    }
    ingress = [ingress_rule([*servers.callers, *peers, *scrapers], REST_PORT), ingress_rule(peers, PEER_PORT)]
    return policy_manifest(servers.part, name=servers.name, ingress=ingress, egress=[dns_rule(), between])


def _stateful_set(servers: QdrantSet) -> Manifest:
    part, scheduling = servers.part, servers.scheduling
    own = {
        **scheduling.pod_labels,
        **part.labels,
        labels.KEY_VERSIONS: names.version_text(servers.keys.versions),
    }
    head: Manifest = {"labels": own}
    annotations = {**scheduling.pod_annotations, **_certificate_mark(servers)}
    if annotations:
        head["annotations"] = annotations
    kept = "Retain" if servers.retained else "Delete"
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(
            servers.name,
            servers.namespace,
            labels_=part.labels,
            annotations={
                labels.SERVERS: str(servers.replicas),
                **({labels.STORE_MEMORY: servers.mode} if servers.mode else {}),
            },
        ),
        "spec": {
            "serviceName": servers.headless,
            "replicas": 0 if servers.suspended else servers.replicas,
            # in order, the first would wait to be ready for peers that wait for it
            "podManagementPolicy": "Parallel",
            "revisionHistoryLimit": 2,
            # a server that is scaled away keeps its claim: this plan never does that
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": kept, "whenScaled": "Retain"},
            "selector": {"matchLabels": part.selector},
            "template": {"metadata": head, "spec": _pod_spec(servers)},
            "volumeClaimTemplates": [_claim(servers, "storage"), _claim(servers, "snapshots")],
        },
    }


def _certificate_mark(servers: QdrantSet) -> dict[str, str]:
    """Return what rolls the servers when their certificate changes: alone, a server has no peer to show it to."""
    if servers.tls is None or servers.replicas == 1:
        return {}
    return {labels.CERTIFICATE: servers.tls.certificate[:DIGITS]}


def _claim(servers: QdrantSet, name: str) -> Manifest:
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": servers.size}},
    }
    if servers.storage_class is not None:
        spec["storageClassName"] = servers.storage_class
    # always there, since templates can't be changed: it only counts for a claim that was left
    mark = {labels.RETAINED_FOR: labels.retained_for(servers.kind, servers.owner)}
    return {"metadata": {"name": name, "annotations": mark}, "spec": spec}


def _pod_spec(servers: QdrantSet) -> Manifest:
    keys: Manifest = {
        "secretName": names.qdrant_keys(servers.owner),
        "items": [{"key": SERVER_KEYS, "path": SERVER_KEYS}],
        "defaultMode": 0o440,
    }
    return {
        "serviceAccountName": servers.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": USER,
        "terminationGracePeriodSeconds": STOP_SECONDS + GRACE_SECONDS,
        **server_fields(servers.scheduling, selector=servers.part.selector),
        "containers": [_container(servers)],
        "volumes": [
            {"name": "keys", "secret": keys},
            {"name": "init", "emptyDir": {"sizeLimit": "1Mi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }


def _container(servers: QdrantSet) -> Manifest:
    return {
        "name": "qdrant",
        "image": servers.image,
        "imagePullPolicy": servers.pull_policy,
        "workingDir": HOME,
        "command": ["./entrypoint.sh"],
        "args": ["--config-path", f"{KEYS_DIR}/{SERVER_KEYS}"],
        "env": _environment(servers),
        "ports": [
            {"name": "http", "containerPort": REST_PORT, "protocol": "TCP"},
            {"name": "p2p", "containerPort": PEER_PORT, "protocol": "TCP"},
        ],
        "resources": {
            "requests": {"cpu": servers.cpu, "memory": servers.memory},
            "limits": {"memory": servers.memory},
        },
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "storage", "mountPath": f"{HOME}/storage"},
            {"name": "snapshots", "mountPath": SNAPSHOTS_DIR},
            {"name": "keys", "mountPath": KEYS_DIR, "readOnly": True},
            {"name": "init", "mountPath": f"{HOME}/init"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        ],
        # these paths need no key; /readyz also waits for the consensus and the shards
        "startupProbe": _probe("/livez", period=5, failures=START_TRIES),
        "readinessProbe": _probe("/readyz", period=5, failures=2),
        "livenessProbe": _probe("/livez", period=20, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": STOP_SECONDS}}},
    }


def _environment(servers: QdrantSet) -> list[Manifest]:
    """Return the settings; POD_NAME stands first, since $(POD_NAME) sees only what stands before it."""
    # with its namespace where it is verified: no certificate is good for a shorter name
    host = servers.headless if servers.tls is None else names.service_host(servers.headless, servers.namespace)
    scheme, address = ("http" if servers.tls is None else "https"), f"{host}:{PEER_PORT}"
    identity: list[Manifest] = [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        {"name": "QDRANT_URI", "value": f"{scheme}://$(POD_NAME).{address}"},
        {"name": "QDRANT_BOOTSTRAP", "value": f"{scheme}://{servers.name}-0.{address}"},
    ]
    settings = FIXED_ENV if servers.tls is None else {**FIXED_ENV, **TLS_ENV}
    fixed: list[Manifest] = [{"name": name, "value": value} for name, value in settings.items()]
    return [*identity, *fixed]


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
