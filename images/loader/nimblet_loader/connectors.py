# SPDX-License-Identifier: Apache-2.0
"""Which connector serves which kind of source: the one place where a new kind is added."""

from collections.abc import Callable, Mapping
from pathlib import Path

from nimblet_egress.client import Client
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_loader.claim import ClaimConnector
from nimblet_loader.connector import Connector
from nimblet_loader.contract import FetchPolicy
from nimblet_loader.hub import HubConnector
from nimblet_loader.manifest import go_machine
from nimblet_loader.oci import OCIConnector
from nimblet_loader.ollama import OllamaConnector
from nimblet_loader.s3 import S3Connector
from nimblet_loader.web import WebConnector

CLAIM_DIR = Path("/source")
"""Where the pod's manifest mounts the claim of a pvc:// source."""
DIGEST_REQUIRED = frozenset({"https", "http"})
"""Schemes of sources that pin nothing themselves: the user's sha256 is required. Plain http also needs a rule."""


SCHEMES = ("hf", "https", "http", "s3", "ollama", "oci", "pvc")
"""Every scheme that `connect` knows; the conformance table has a column for each."""


def connect(
    client: Client, policy: FetchPolicy, *, uri: str, revision: str | None, claim: Path = CLAIM_DIR
) -> Connector:
    """Return the connector of a source, or raise SourceError ConfigInvalid for an unknown kind."""
    makers: Mapping[str, Callable[[], Connector]] = {
        "hf": lambda: HubConnector(client, endpoint=policy.hf_endpoint, uri=uri, revision=revision),
        "https": lambda: WebConnector(client, uri=uri),
        "http": lambda: WebConnector(client, uri=uri),
        "s3": lambda: S3Connector(client, policy.s3, uri=uri),
        "ollama": lambda: OllamaConnector(client, registry=policy.ollama_registry, uri=uri),
        "oci": lambda: OCIConnector(
            client, policy.oci, uri=uri, max_bytes=policy.max_file_bytes, machine=go_machine()
        ),
        "pvc": lambda: ClaimConnector(claim, uri=uri),
    }
    maker = makers.get(uri.partition("://")[0].lower())
    if maker is None:
        raise SourceError(
            Reason.ConfigInvalid,
            f"Expected a source that begins with {', '.join(f'{name}://' for name in SCHEMES if name != 'http')}; "
            f"found {quoted(uri)}. Use one of those, or a newer loader.",
        )
    return maker()
