# SPDX-License-Identifier: Apache-2.0
"""Which connector serves which kind of source: the one place where a new kind is added."""

from nimblet_loader.client import Client
from nimblet_loader.connector import Connector
from nimblet_loader.contract import FetchPolicy
from nimblet_loader.errors import LoaderError, Reason, quoted
from nimblet_loader.hub import HubConnector
from nimblet_loader.ollama import OllamaConnector
from nimblet_loader.s3 import S3Connector
from nimblet_loader.web import WebConnector

DIGEST_REQUIRED = frozenset({"https", "http"})
"""Schemes of sources that pin nothing themselves: the user's sha256 is required. Plain http also needs a rule."""


def connect(client: Client, policy: FetchPolicy, *, uri: str, revision: str | None) -> Connector:
    """Return the connector of a source, or raise LoaderError ConfigInvalid for an unknown kind."""
    scheme = uri.partition("://")[0].lower()
    if scheme == "hf":
        return HubConnector(client, endpoint=policy.hf_endpoint, uri=uri, revision=revision)
    if scheme == "s3":
        return S3Connector(client, policy.s3, uri=uri)
    if scheme == "ollama":
        return OllamaConnector(client, registry=policy.ollama_registry, uri=uri)
    if scheme in DIGEST_REQUIRED:
        return WebConnector(client, uri=uri)
    raise LoaderError(
        Reason.ConfigInvalid,
        f"Expected a source that begins with hf://, https://, s3:// or ollama://; found {quoted(uri)}. "
        "Use one of those, or a newer loader.",
    )
