# SPDX-License-Identifier: Apache-2.0
"""Kubeconfig files with everything inlined, as JSON (which every YAML reader takes)."""

import base64
import json
from pathlib import Path

from e2e.cluster.pki import Pair, write_secret

CONTEXT = "nimblet"


def kubeconfig_manifest(*, server: str, authority: bytes, client: Pair) -> dict[str, object]:
    """Return a kubeconfig for `server` (https URL); `authority` is the CA's PEM."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {"server": server, "certificate-authority-data": _encoded(authority)},
            }
        ],
        "users": [
            {
                "name": CONTEXT,
                "user": {
                    "client-certificate-data": _encoded(client.certificate),
                    "client-key-data": _encoded(client.key),
                },
            }
        ],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
    }


def write_kubeconfig(path: Path, manifest: dict[str, object]) -> None:
    """Write a kubeconfig, readable by its owner only."""
    write_secret(path, json.dumps(manifest, indent=2).encode() + b"\n")


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
