# SPDX-License-Identifier: Apache-2.0
"""Service, NetworkPolicies and PodDisruptionBudget. Pure: values in, dict out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet import names
from nimblet.manifests.common import Manifest, Part, metadata

HTTP_PORT: Final = 8080
PROGRESS_PORT: Final = 8081
PRIVATE_BLOCKS: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10")
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"


def service_manifest(part: Part, *, name: str, port: int = 80) -> Manifest:
    """Return the ClusterIP Service in front of the pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, part.namespace, labels_=part.labels),
        "spec": {
            "type": "ClusterIP",
            "selector": part.selector,
            "ports": [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def disruption_budget_manifest(part: Part, *, name: str) -> Manifest:
    """Return the budget that lets a drain take one pod at a time; only wanted at two replicas or more."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(name, part.namespace, labels_=part.labels),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": part.selector}},
    }


def namespace_peer(name: str) -> Manifest:
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
    return [
        dns_rule(),
        {"ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}], "to": targets},
    ]


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Who may call besides pods of the own namespace: namespaces by name and by labels; the operator apart."""

    operator_namespace: str
    namespaces: Sequence[str]
    namespace_labels: Mapping[str, str] = field(default_factory=dict)


def caller_peers(callers: Callers) -> list[Manifest]:
    """Return who may call: pods of the own namespace, the operator, and the namespaces that are named."""
    peers: list[Manifest] = [{"podSelector": {}}, namespace_peer(callers.operator_namespace)]
    peers += [namespace_peer(name) for name in sorted(set(callers.namespaces))]
    if callers.namespace_labels:
        peers.append({"namespaceSelector": {"matchLabels": dict(callers.namespace_labels)}})
    return peers


def server_policy_manifest(part: Part, *, callers: Callers, egress: Sequence[Manifest]) -> Manifest:
    """Return the model pods' policy: callers of the namespace, operator and scrapers in; `egress` out.

    With an in-pod loader that is DNS and fetching; with a cache it is nothing.
    """
    operator = namespace_peer(callers.operator_namespace)
    ingress = [ingress_rule(caller_peers(callers), HTTP_PORT), ingress_rule([operator], PROGRESS_PORT)]
    return policy_manifest(part, name=names.server_policy(part.owner), ingress=ingress, egress=egress)


def policy_manifest(part: Part, *, name: str, ingress: Sequence[Manifest], egress: Sequence[Manifest]) -> Manifest:
    """Return a policy that denies all but these."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name, part.namespace, labels_=part.labels),
        "spec": {
            "podSelector": {"matchLabels": part.selector},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": list(ingress),
            "egress": list(egress),
        },
    }


def ingress_rule(peers: Sequence[Manifest], port: int) -> Manifest:
    """Return the rule that lets these peers in to one port."""
    return {"from": list(peers), "ports": [{"protocol": "TCP", "port": port}]}


def dns_rule() -> Manifest:
    """Return the rule that lets pods ask for names, wherever the cluster's DNS runs."""
    ports = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
    return {"ports": ports, "to": [{"namespaceSelector": {}}]}


def namespaces_rule(names_: Sequence[str], port: int) -> Manifest:
    """Return the rule that lets pods out to one port in these namespaces."""
    return {
        "to": [namespace_peer(name) for name in sorted(set(names_))],
        "ports": [{"protocol": "TCP", "port": port}],
    }


def filler_policy_manifest(part: Part, *, operator_namespace: str, egress: Sequence[Manifest]) -> Manifest:
    """Return the policy of the pods that fill the cache: the operator asks for progress; DNS and fetching out."""
    ingress = [ingress_rule([namespace_peer(operator_namespace)], PROGRESS_PORT)]
    return policy_manifest(part, name=names.filler(part.owner), ingress=ingress, egress=egress)


def resolver_policy_manifest(part: Part, *, egress: Sequence[Manifest]) -> Manifest:
    """Return the resolver pods' policy: nothing in, DNS and fetching out."""
    return policy_manifest(part, name=names.resolver(part.owner), ingress=(), egress=egress)
