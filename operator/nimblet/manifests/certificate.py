# SPDX-License-Identifier: Apache-2.0
"""What asks cert-manager for a server's certificate, and what is ours of the Secret that it makes. Pure.

Fields are those of cert-manager.io/v1 (its API reference). Whether it is asked is decided in plan/transport.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nimblet import labels
from nimblet.manifests.common import Manifest, Part, metadata
from nimblet.manifests.transport import SECRET_TYPE

GROUP: Final = "cert-manager.io"
API_VERSION: Final = f"{GROUP}/v1"
KIND: Final = "Certificate"
ISSUER_NAME: Final = f"{GROUP}/issuer-name"
"""Annotation that cert-manager puts on a Secret that it filled; where it names another it fills it anew."""
NO_ISSUER: Final = "(tls.mode OwnCA)"
"""Its value on a Secret that the installation's own authority filled after cert-manager: no issuer's name."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a certificate is to be, and who is asked for it."""

    secret: str
    dns_names: Sequence[str]
    issuer: Mapping[str, str]
    """Name, kind and group."""
    seconds: int
    peers: bool = False
    """Its servers show it to each other as clients, too."""
    renew_before_seconds: int | None = None


def certificate_manifest(part: Part, request: Request) -> Manifest:
    """Return the Certificate. A key of the curve P-256, a new one each time: as our own authority makes them."""
    usages = ["digital signature", "server auth", *(["client auth"] if request.peers else [])]
    spec: Manifest = {
        "secretName": request.secret,
        "dnsNames": list(request.dns_names),
        "duration": go_duration(request.seconds),
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": usages,
        "issuerRef": dict(request.issuer),
        "secretTemplate": {"annotations": {labels.ISSUED_FOR: issued_for(part)}},
    }
    if request.renew_before_seconds is not None:
        spec["renewBefore"] = go_duration(request.renew_before_seconds)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": metadata(request.secret, part.namespace, labels_=part.labels),
        "spec": spec,
    }


def issued_secret_manifest(part: Part, *, name: str) -> Manifest:
    """Return what is ours of a Secret that cert-manager filled: whose it is, and never its entries."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(name, part.namespace, labels_=part.labels),
        "type": SECRET_TYPE,
    }


def issued_for(part: Part) -> str:
    """Return the value of ISSUED_FOR for the owner of a part."""
    return labels.retained_for(labels.KINDS[part.kind_label], part.owner)


def go_duration(seconds: int) -> str:
    """Return a duration as Go writes it, so that who reads and writes it back changes nothing."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
