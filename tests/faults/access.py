# SPDX-License-Identifier: Apache-2.0
"""How an operator reaches its proxy, and a proxy the API server. Only for tests."""

import base64
import json
import ssl
from pathlib import Path

from e2e.cluster.controlplane import ControlPlane
from tests.cluster.operator_support import OPERATOR_USER
from tests.faults.proxy import Upstream


def plain_kubeconfig(url: str) -> dict[str, object]:
    """Return a kubeconfig that leads to a proxy, which logs in itself."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "faults",
        "clusters": [{"name": "faults", "cluster": {"server": url}}],
        "users": [{"name": "faults", "user": {}}],
        "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "faults"}}],
    }


def upstream_of(plane: ControlPlane, directory: Path) -> Upstream:
    """Return the way to the API server with the operator's own rights."""
    config = json.loads(plane.user_kubeconfig(OPERATOR_USER).read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    certificate, key = directory / "operator.crt", directory / "operator.key"
    certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
    key.touch(mode=0o600)
    key.write_bytes(base64.b64decode(user["client-key-data"]))
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=authority)
    tls.load_cert_chain(certificate, key)
    return Upstream(url=cluster["server"], tls=tls)
