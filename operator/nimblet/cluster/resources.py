# SPDX-License-Identifier: Apache-2.0
"""Every kind we touch and its place in the API. A table and its paths; no I/O.

A kind that is not in the table can't be read or written: that keeps permissions.py complete.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from nimblet.api import assistant, compactmodel, retrievalindex, teepolicy
from nimblet.api.definition import Definition
from nimblet.labels import GROUP, VERSION
from nimblet.manifests.certificate import GROUP as CERTIFICATE_GROUP


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind as the API server serves it; the core group is the empty string."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version


CONFIG_MAP: Final = Resource(kind="ConfigMap", plural="configmaps")
SECRET: Final = Resource(kind="Secret", plural="secrets")
SERVICE: Final = Resource(kind="Service", plural="services")
SERVICE_ACCOUNT: Final = Resource(kind="ServiceAccount", plural="serviceaccounts")
CLAIM: Final = Resource(kind="PersistentVolumeClaim", plural="persistentvolumeclaims")
POD: Final = Resource(kind="Pod", plural="pods")
NODE: Final = Resource(kind="Node", plural="nodes", namespaced=False)
NAMESPACE: Final = Resource(kind="Namespace", plural="namespaces", namespaced=False)
DEPLOYMENT: Final = Resource(kind="Deployment", plural="deployments", group="apps")
STATEFUL_SET: Final = Resource(kind="StatefulSet", plural="statefulsets", group="apps")
JOB: Final = Resource(kind="Job", plural="jobs", group="batch")
NETWORK_POLICY: Final = Resource(kind="NetworkPolicy", plural="networkpolicies", group="networking.k8s.io")
DISRUPTION_BUDGET: Final = Resource(kind="PodDisruptionBudget", plural="poddisruptionbudgets", group="policy")
STORAGE_CLASS: Final = Resource(
    kind="StorageClass", plural="storageclasses", group="storage.k8s.io", namespaced=False
)
RUNTIME_CLASS: Final = Resource(
    kind="RuntimeClass", plural="runtimeclasses", group="node.k8s.io", namespaced=False
)
CERTIFICATE: Final = Resource(kind="Certificate", plural="certificates", group=CERTIFICATE_GROUP)
"""Of cert-manager: the one kind that a cluster may not know."""
LEASE: Final = Resource(kind="Lease", plural="leases", group="coordination.k8s.io")
EVENT: Final = Resource(kind="Event", plural="events", group="events.k8s.io")


def _own(definition: Definition) -> Resource:
    return Resource(
        kind=definition.kind,
        plural=definition.plural,
        group=GROUP,
        version=VERSION,
        namespaced=definition.namespaced,
    )


COMPACT_MODEL: Final = _own(compactmodel.DEFINITION)
RETRIEVAL_INDEX: Final = _own(retrievalindex.DEFINITION)
ASSISTANT: Final = _own(assistant.DEFINITION)
TEE_POLICY: Final = _own(teepolicy.DEFINITION)

RESOURCES: Final = (
    CONFIG_MAP,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    CLAIM,
    POD,
    NODE,
    NAMESPACE,
    DEPLOYMENT,
    STATEFUL_SET,
    JOB,
    NETWORK_POLICY,
    DISRUPTION_BUDGET,
    STORAGE_CLASS,
    LEASE,
    EVENT,
    COMPACT_MODEL,
    RETRIEVAL_INDEX,
    ASSISTANT,
    TEE_POLICY,
    RUNTIME_CLASS,
    CERTIFICATE,
)
BY_KIND: Final[Mapping[str, Resource]] = {resource.kind: resource for resource in RESOURCES}


def resource_of(kind: str) -> Resource:
    """Return the resource of a kind. KeyError names the kinds there are."""
    resource = BY_KIND.get(kind)
    if resource is None:
        raise KeyError(f"expected one of {', '.join(sorted(BY_KIND))}, found {kind!r}; add it to RESOURCES")
    return resource


def resource_for(manifest: Mapping[str, object]) -> Resource:
    """Return the resource of a manifest. KeyError for an unknown kind or another version of a known one."""
    resource = resource_of(str(manifest.get("kind")))
    if manifest.get("apiVersion") != resource.api_version:
        raise KeyError(
            f"expected {resource.kind} of {resource.api_version}, found {manifest.get('apiVersion')!r}; correct it"
        )
    return resource


def path(
    resource: Resource, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None
) -> str:
    """Return the URL path of a collection, an object or its subresource.

    Without a namespace a namespaced resource means all namespaces, which only collections have: else ValueError.
    """
    if name is not None and resource.namespaced and not namespace:
        raise ValueError(f"expected a namespace for {resource.kind} {name!r}, found none; pass it")
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    parts = [root]
    if namespace and resource.namespaced:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(resource.plural)
    parts += [quote(part, safe="") for part in (name, subresource) if part]
    return "/".join(parts)
