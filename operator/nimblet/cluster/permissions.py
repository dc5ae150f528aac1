# SPDX-License-Identifier: Apache-2.0
"""The one list of what the operator may do. The chart's RBAC is compared with it; the code asks for nothing else.

Least privilege: no wildcard, no reading of Secrets beyond single ones by name, no exec, no escalation.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nimblet.cluster.authority import CA_SECRET
from nimblet.cluster.masterkey import SECRET_NAME
from nimblet.labels import GROUP
from nimblet.manifests.certificate import GROUP as CERTIFICATE_GROUP


class Scope(StrEnum):
    """Where a permission is needed."""

    CLUSTER = "cluster"
    """Cluster-scoped objects: always a ClusterRole."""
    SERVED = "served"
    """The namespaces served: a ClusterRole, in namespaced mode a Role in each."""
    OWN = "own-namespace"
    """The operator's own namespace: always a Role."""


@dataclass(frozen=True, kw_only=True)
class Permission:
    """One RBAC rule for one resource; `names` limits it to these objects. `why` stands in the docs."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    scope: Scope
    why: str
    names: tuple[str, ...] = ()


_WATCH: Final = ("get", "list", "watch")
# server-side apply is PATCH, and asks for create too where the object is new
_CHILD: Final = ("create", "delete", "get", "list", "patch", "watch")


def _child(group: str, resource: str, why: str) -> Permission:
    return Permission(group=group, resource=resource, verbs=_CHILD, scope=Scope.SERVED, why=why)


def _served(resource: str, status: str) -> tuple[Permission, Permission]:
    """Return what a kind of ours needs; `status` is what is written there."""
    return (
        Permission(
            group=GROUP,
            resource=resource,
            verbs=_WATCH,
            scope=Scope.SERVED,
            why="the resources we serve; never their spec or metadata is written",
        ),
        Permission(group=GROUP, resource=f"{resource}/status", verbs=("patch",), scope=Scope.SERVED, why=status),
    )


ISSUER_PERMISSIONS: Final = (
    Permission(
        group=CERTIFICATE_GROUP,
        resource="certificates",
        verbs=("create", "delete", "get", "list", "patch"),
        scope=Scope.SERVED,
        why="what asks cert-manager for a server's certificate",
    ),
)
"""What is needed beside PERMISSIONS while tls.issuer names an issuer."""

PERMISSIONS: Final = (
    *_served("assistants", "conditions, endpoint, indexes in use"),
    *_served("compactmodels", "conditions, sizing, endpoint"),
    *_served("retrievalindexes", "conditions, generations, counts"),
    _child("", "configmaps", "resolved artifacts and the fetch policy of a model, configurations of gateways"),
    _child("", "services", "the endpoint of a model or an Assistant"),
    _child("", "serviceaccounts", "identity, without a token, of a model's pods and its resolver"),
    _child("", "persistentvolumeclaims", "the cache of a model, the store of an index"),
    _child("apps", "statefulsets", "the retriever of an index over its claim, its Qdrant servers"),
    _child("apps", "deployments", "the model server, the gateway of an Assistant"),
    _child("batch", "jobs", "the resolver of a model's source, the filler of its cache, the builds of an index"),
    _child("networking.k8s.io", "networkpolicies", "default deny around every pod we start"),
    _child("policy", "poddisruptionbudgets", "keeps an answering replica during node drains"),
    Permission(
        group="",
        resource="secrets",
        verbs=("create", "delete", "get", "patch"),
        scope=Scope.SERVED,
        why="our own resources' keys, and single opted-in Secrets that a spec names; never listed or watched",
    ),
    Permission(
        group="",
        resource="pods",
        verbs=_WATCH,
        scope=Scope.SERVED,
        why="what the kubelet and the scheduler recorded about a model's pods",
    ),
    Permission(
        group="events.k8s.io",
        resource="events",
        verbs=("create", "list"),
        scope=Scope.SERVED,
        why="one Event when Ready, Serving or Stalled flips; read only about a Job or pod that is stuck",
    ),
    Permission(
        group="",
        resource="nodes",
        verbs=("list", "watch"),
        scope=Scope.CLUSTER,
        why="labels, taints and totals, to place and size before scheduling",
    ),
    Permission(
        group="",
        resource="namespaces",
        verbs=_WATCH,
        scope=Scope.CLUSTER,
        why="whether it is being deleted: then nothing is written; its labels: they bind TEEPolicies",
    ),
    Permission(
        group=GROUP,
        resource="teepolicies",
        verbs=("list", "watch"),
        scope=Scope.CLUSTER,
        why="what binds the pods; where they can't be read no pod is made",
    ),
    Permission(
        group="node.k8s.io",
        resource="runtimeclasses",
        verbs=("list",),
        scope=Scope.CLUSTER,
        why="whether there is the one that a TEEPolicy asks for, and what it costs",
    ),
    Permission(
        group="storage.k8s.io",
        resource="storageclasses",
        verbs=("list",),
        scope=Scope.CLUSTER,
        why="whether a cache's claim can be made and can grow, told before it waits in vain",
    ),
    Permission(
        group="coordination.k8s.io",
        resource="leases",
        verbs=("create", "get", "update"),
        scope=Scope.OWN,
        why="one leader at a time",
    ),
    Permission(
        group="",
        resource="configmaps",
        verbs=("get",),
        scope=Scope.OWN,
        why="the initdata that a TEEPolicy names",
    ),
    Permission(
        group="",
        resource="secrets",
        verbs=("create",),
        scope=Scope.OWN,
        why="master key and certificate authority are made at the first start (RBAC can't limit create to a name)",
    ),
    Permission(
        group="",
        resource="secrets",
        verbs=("get",),
        scope=Scope.OWN,
        why="the master key that API keys are derived from",
        names=(SECRET_NAME,),
    ),
    Permission(
        group="",
        resource="secrets",
        verbs=("get", "update"),
        scope=Scope.OWN,
        why="the certificate authority of tls.mode OwnCA, and its renewal",
        names=(CA_SECRET,),
    ),
)
