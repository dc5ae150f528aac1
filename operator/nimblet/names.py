# SPDX-License-Identifier: Apache-2.0
"""Deterministic names of children: `<cr>-<role>`, at most 63 characters, never random.

A CR's name has at most 40 characters (a CEL rule of every CRD), so no name below needs shortening.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

MAX_OWNER_LENGTH: Final = 40
HASH_LENGTH: Final = 10
TRIES_NAMED: Final = 1000
"""Tries whose Jobs have names of their own; older ones are long gone. A Job's name is a label of its pods too, of
63 characters at most, and a source may fail for weeks."""


def content_hash(value: object, *, length: int = HASH_LENGTH) -> str:
    """Return a short, stable hash of a JSON-able value; equal values give equal hashes in every process."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def server(owner: str) -> str:
    """Deployment, Service and ServiceAccount of the model server."""
    return f"{owner}-model"


def server_policy(owner: str) -> str:
    """NetworkPolicy of the model server."""
    return f"{owner}-model"


def resolver_job(owner: str, *, source_hash: str, attempt: int) -> str:
    return f"{owner}-resolve-{source_hash}-{attempt % TRIES_NAMED}"


def resolver(owner: str) -> str:
    """ServiceAccount and NetworkPolicy of the resolver."""
    return f"{owner}-resolve"


def artifact(owner: str, *, source_hash: str) -> str:
    return f"{owner}-artifact-{source_hash}"


def fetch_policy(owner: str) -> str:
    """ConfigMap with the admin's fetch policy, mounted by resolver and loader."""
    return f"{owner}-fetch"


def api_key(owner: str) -> str:
    return f"{owner}-key"


def claim(owner: str) -> str:
    """PersistentVolumeClaim of the cache."""
    return f"{owner}-cache"


def filler(owner: str) -> str:
    """ServiceAccount and NetworkPolicy of the cache's filler."""
    return f"{owner}-fill"


def fill_job(owner: str, *, folder: str, attempt: int) -> str:
    return f"{owner}-fill-{folder[:HASH_LENGTH]}-{attempt % TRIES_NAMED}"


def gateway(owner: str) -> str:
    """Deployment, Service, ServiceAccount, NetworkPolicy and budget of an Assistant's gateway."""
    return f"{owner}-gateway"


def gateway_config(owner: str, *, config_hash: str) -> str:
    """ConfigMap with a gateway's configuration."""
    return f"{owner}-gateway-{config_hash}"


def gateway_key(owner: str) -> str:
    """Secret with the generated key of an Assistant's endpoint."""
    return f"{owner}-gateway-key"


def retriever(owner: str) -> str:
    """Workload, Service, ServiceAccount, NetworkPolicy and ConfigMap of the retriever."""
    return f"{owner}-retriever"


def retriever_keys(owner: str) -> str:
    """Secret with the hashes of the keys that the retriever accepts."""
    return f"{owner}-retriever-keys"


def purpose_key(owner: str, *, purpose: str) -> str:
    """Secret with the key of one purpose: search, build or push."""
    return f"{owner}-{purpose}-key"


def index_claim(owner: str) -> str:
    """PersistentVolumeClaim of an Embedded store."""
    return f"{owner}-index"


def indexer(owner: str) -> str:
    """ServiceAccount and NetworkPolicy of the build Jobs."""
    return f"{owner}-indexer"


def build(owner: str, *, build_hash: str, attempt: int) -> str:
    """One build Job, and the ConfigMap that it alone reads."""
    return f"{owner}-build-{build_hash[:8]}-{attempt % TRIES_NAMED}"


def key_entry(versions: Sequence[int]) -> str:
    """Entry of the key Secret with the keys of these versions, one a line: same name, same content, for ever."""
    return f"keys-{version_text(versions)}"


def version_text(versions: Sequence[int]) -> str:
    """Return versions of a key as a label's value."""
    return "-".join(str(version) for version in versions)


def certificate(service: str) -> str:
    """Secret with the certificate of what answers behind a Service of ours."""
    return f"{service}-tls"


def service_host(service: str, namespace: str) -> str:
    """Name by which a Service is asked."""
    return f"{service}.{namespace}.svc"


def headless(service: str) -> str:
    """Service that gives each pod behind another one a name of its own."""
    return f"{service}-headless"


def qdrant(owner: str, *, number: int) -> str:
    """Everything of a set of Qdrant servers; pods of it are numbered, too, hence the letter."""
    return f"{owner}-qdrant" if number == 1 else f"{owner}-qdrant-s{number}"


def qdrant_keys(owner: str) -> str:
    """Secret with the keys of an index's Qdrant servers."""
    return f"{owner}-qdrant-keys"
