# SPDX-License-Identifier: Apache-2.0
"""What is known of certificates and of who signs them: frozen values; a key is in the Secret's entries alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class CertificateFacts:
    """A certificate whose key is beside it; never the key."""

    fingerprint: str
    dns_names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    issuer: str
    """Fingerprint of the trusted authority that signed it; "" where none did."""
    bundle: str
    """Hash of the authorities beside it."""


@dataclass(frozen=True, kw_only=True)
class AuthorityFacts:
    """Who signs."""

    trusted: frozenset[str]
    """Fingerprints."""
    bundle: str
    """Hash of the certificates that clients are to trust."""


@dataclass(frozen=True, kw_only=True)
class TransportFacts:
    """What is known of a server's certificate; nothing where it has none, or when planning offline."""

    live: CertificateFacts | None = None
    """What stands in the cluster and is good."""
    material: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The entries that the Secret is to hold, in base64: what is there, or what was just made."""
    assumed: str = ""
    """First digits of the certificate that the pods have, where the certificate itself is not looked at."""
