# SPDX-License-Identifier: Apache-2.0
"""The gate: the container that proves a pod's guest before any other starts, and answers the operator. Pure.

A sidecar (an init container that goes on): its startup probe holds back every container behind it.
"""

from dataclasses import dataclass
from typing import Final

from nimblet.manifests.common import CONTAINER_SECURITY, Manifest
from nimblet.manifests.network import dns_rule, ingress_rule, namespace_peer
from nimblet.manifests.parts import listed, part

GATE: Final = "attest"
"""The container's name."""
GATE_PORT: Final = 8082
ENVIRONMENT: Final = "NIMBLET_ATTESTATION"
RESOURCES: Final[Manifest] = {
    "requests": {"cpu": "10m", "memory": "96Mi"},
    "limits": {"memory": "128Mi"},
}
"""The interpreter, TLS and keys need about 60 MiB, the largest evidence 4 MiB a few times over."""
STARTUP_SECONDS: Final = 300
"""Hardware signs and a broker judges within seconds; certificates may have to be fetched."""
PROBE_SECONDS: Final = 2


@dataclass(frozen=True, kw_only=True)
class GateForm:
    """How the gate stands in pods. `text` is its configuration, `server_text` that of the model server's."""

    image: str
    pull_policy: str
    text: str
    server_text: str
    operator_namespace: str
    kbs_port: int | None = None
    """Port of the key broker, where the gate asks it itself."""


def gate_container(form: GateForm, *, is_server: bool) -> Manifest:
    """Return the gate of one pod."""
    return {
        "name": GATE,
        "image": form.image,
        "imagePullPolicy": form.pull_policy,
        "args": ["attest", "--port", str(GATE_PORT)],
        "env": [
            {"name": ENVIRONMENT, "value": form.server_text if is_server else form.text},
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        ],
        "restartPolicy": "Always",
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": GATE_PORT},
            "periodSeconds": PROBE_SECONDS,
            "failureThreshold": STARTUP_SECONDS // PROBE_SECONDS,
        },
        "resources": RESOURCES,
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "File",
    }


def opened(policy: Manifest, form: GateForm) -> Manifest:
    """Return a NetworkPolicy that lets the operator ask the gate, and the gate its key broker.

    A policy knows no names, so that the broker's port is open to every address: for all containers of the pod.
    """
    spec = part(policy, "spec")
    inward, outward = [*listed(spec, "ingress")], [*listed(spec, "egress")]
    inward.append(ingress_rule([namespace_peer(form.operator_namespace)], GATE_PORT))
    if form.kbs_port is not None:
        outward += [rule for rule in (dns_rule(),) if rule not in outward]
        outward.append({"ports": [{"protocol": "TCP", "port": form.kbs_port}]})
    return {**policy, "spec": {**spec, "ingress": inward, "egress": outward}}
