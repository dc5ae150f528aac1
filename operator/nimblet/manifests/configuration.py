# SPDX-License-Identifier: Apache-2.0
"""ConfigMaps, the key Secret and ServiceAccounts. Pure: values in, dict out."""

import base64
from collections.abc import Iterable, Mapping, Sequence

from nimblet import labels, names
from nimblet.manifests.common import Manifest, Part, metadata, model_labels
from nimblet.manifests.loader import POLICY_FILE

ARTIFACT_KEY = "artifact.json"
API_KEY = "api-key"


def artifact_manifest(owner: str, namespace: str, *, source_hash: str, text: str) -> Manifest:
    """Return the immutable ConfigMap that holds what the resolver found; `text` is its JSON as it came."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            names.artifact(owner, source_hash=source_hash),
            namespace,
            labels_={**model_labels(owner, "artifact"), labels.SOURCE_HASH: source_hash},
        ),
        "immutable": True,
        "data": {ARTIFACT_KEY: text},
    }


def fetch_policy_manifest(
    owner: str, namespace: str, *, text: str, others: Mapping[str, str] | None = None
) -> Manifest:
    """Return the ConfigMap with the admin's fetch policy; a change reaches pods without a restart.

    `others` are those of the adapters' sources: each names the hosts of its own credentials alone.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(names.fetch_policy(owner), namespace, labels_=model_labels(owner, "fetch-policy")),
        "data": {POLICY_FILE: text, **(others or {})},
    }


def api_key_manifest(
    part: Part, *, name: str, api_key: str, entries: Mapping[str, str], annotations: Mapping[str, str]
) -> Manifest:
    """Return the Secret with the endpoint's API key; `entries` hold what the pods accept beside it."""
    texts = {API_KEY: api_key, **entries}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(name, part.namespace, labels_=part.labels, annotations=annotations),
        "type": "Opaque",
        "data": {entry: base64.b64encode(text.encode()).decode() for entry, text in texts.items()},
    }


def service_account_manifest(part: Part, *, name: str) -> Manifest:
    """Return a ServiceAccount without any permission or token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(name, part.namespace, labels_=part.labels),
        "automountServiceAccountToken": False,
    }


def with_pull_secrets(
    children: Iterable[Mapping[str, object]], secrets: Sequence[str]
) -> tuple[Mapping[str, object], ...]:
    """Return the children, their ServiceAccounts with registry credentials: pods get them from there when made.

    Not in the templates: naming other credentials must roll no pod that has its image already.
    """
    found = tuple(children)
    if not secrets:
        return found
    named: Manifest = {"imagePullSecrets": [{"name": secret} for secret in secrets]}
    return tuple({**child, **named} if child["kind"] == "ServiceAccount" else child for child in found)
