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
class RequestFacts:
    """A server's Certificate, as cert-manager tells of it."""

    served: bool = True
    """The cluster knows Certificates at all."""
    uid: str = ""
    """Of ours; "" while there is none."""
    current: bool = False
    """The Secret holds what its spec asks for now."""
    failed: bool = False
    """The last try to issue it failed."""
    message: str = ""
    """In cert-manager's words."""
    since: datetime | None = None
    """When what is not current began to be so."""


@dataclass(frozen=True, kw_only=True)
class SecretFacts:
    """The Secret of a certificate; never what it holds."""

    ours: bool = True
    """It was made for this resource; another's is left alone."""
    owned: bool = True
    """By the resource, or by nobody; a Certificate may own it too."""
    marked: bool = False
    """It names an issuer of cert-manager's, or that it has none any more."""
    filled: bool = False
    """What it holds is cert-manager's."""
    authorities: bool = True
    """It tells who is to be trusted."""


@dataclass(frozen=True, kw_only=True)
class TransportFacts:
    """What is known of a server's certificate; nothing where it has none, or when planning offline."""

    live: CertificateFacts | None = None
    """What stands in the cluster and is good."""
    material: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The entries that the Secret is to hold, in base64: what is there, or what was just made."""
    request: RequestFacts | None = None
    """What asks cert-manager; None where no issuer is named."""
    secret: SecretFacts | None = None
    """None while there is none, and in the mode Off."""
    assumed: str = ""
    """First digits of the certificate that the pods have, where the certificate itself is not looked at."""
