# SPDX-License-Identifier: Apache-2.0
"""Service, NetworkPolicies and PodDisruptionBudget. Pure: values in, dict out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet import names
from nimblet.manifests.common import Manifest, metadata, model_labels, pod_selector

HTTP_PORT: Final = 8080
PROGRESS_PORT: Final = 8081
PRIVATE_BLOCKS: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10")
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"


def service_manifest(owner: str, namespace: str) -> Manifest:
    """Return the ClusterIP Service on port 80 in front of the model pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(names.server(owner), namespace, labels_=model_labels(owner, "model")),
        "spec": {
            "type": "ClusterIP",
            "selector": pod_selector(owner, "model"),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def disruption_budget_manifest(owner: str, namespace: str) -> Manifest:
    """Return the budget that lets a drain take one pod at a time; only wanted at two replicas or more."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(names.server(owner), namespace, labels_=model_labels(owner, "model")),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": pod_selector(owner, "model")}},
    }


def _namespace_peer(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}}


def fetch_egress(*, private_blocks: Sequence[str], any_private: bool) -> list[Manifest]:
    """Return the rules of a loader: DNS, and TCP to public addresses plus the private ones that the admin allows.

    A NetworkPolicy knows no host names and sees addresses after Service translation, so host and port are
    held by the loader's own allow-list; this keeps the rest of the cluster out of reach.
    """
    excluded = [] if any_private else list(PRIVATE_BLOCKS)
    targets: list[Manifest] = [
        {"ipBlock": {"cidr": "0.0.0.0/0", **({"except": excluded} if excluded else {})}},
        {"ipBlock": {"cidr": "::/0", **({} if any_private else {"except": ["fc00::/7", "fe80::/10"]})}},
    ]
    targets += [{"ipBlock": {"cidr": block}} for block in sorted(private_blocks)]
    dns = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
    return [
        {"ports": dns, "to": [{"namespaceSelector": {}}]},
        {"ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}], "to": targets},
    ]


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Who may call besides pods of the own namespace: namespaces by name and by labels; the operator apart."""

    operator_namespace: str
    namespaces: Sequence[str]
    namespace_labels: Mapping[str, str] = field(default_factory=dict)


def server_policy_manifest(
    owner: str,
    namespace: str,
    *,
    callers: Callers,
    egress: Sequence[Manifest],
) -> Manifest:
    """Return the model pods' policy: callers of the namespace, operator and scrapers in; `egress` out.

    With an in-pod loader that is DNS and fetching; with a cache it is nothing.
    """
    operator = _namespace_peer(callers.operator_namespace)
    peers: list[Manifest] = [{"podSelector": {}}, operator]
    peers += [_namespace_peer(name) for name in sorted(set(callers.namespaces))]
    if callers.namespace_labels:
        peers.append({"namespaceSelector": {"matchLabels": dict(callers.namespace_labels)}})
    ingress = [_ingress(peers, HTTP_PORT), _ingress([operator], PROGRESS_PORT)]
    pods = _Pods(owner=owner, namespace=namespace, component="model")
    return _policy(pods, name=names.server_policy(owner), ingress=ingress, egress=egress)


@dataclass(frozen=True, kw_only=True)
class _Pods:
    """The pods that a policy is for."""

    owner: str
    namespace: str
    component: str


def _policy(pods: _Pods, *, name: str, ingress: Sequence[Manifest], egress: Sequence[Manifest]) -> Manifest:
    """Return a policy that denies all but these."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name, pods.namespace, labels_=model_labels(pods.owner, pods.component)),
        "spec": {
            "podSelector": {"matchLabels": pod_selector(pods.owner, pods.component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": list(ingress),
            "egress": list(egress),
        },
    }


def _ingress(peers: Sequence[Manifest], port: int) -> Manifest:
    return {"from": list(peers), "ports": [{"protocol": "TCP", "port": port}]}


def filler_policy_manifest(
    owner: str, namespace: str, *, operator_namespace: str, egress: Sequence[Manifest]
) -> Manifest:
    """Return the policy of the pods that fill the cache: the operator asks for progress; DNS and fetching out."""
    pods = _Pods(owner=owner, namespace=namespace, component="filler")
    ingress = [_ingress([_namespace_peer(operator_namespace)], PROGRESS_PORT)]
    return _policy(pods, name=names.filler(owner), ingress=ingress, egress=egress)


def resolver_policy_manifest(owner: str, namespace: str, *, egress: Sequence[Manifest]) -> Manifest:
    """Return the resolver pods' policy: nothing in, DNS and fetching out."""
    pods = _Pods(owner=owner, namespace=namespace, component="resolver")
    return _policy(pods, name=names.resolver(owner), ingress=(), egress=egress)
