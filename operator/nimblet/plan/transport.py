# SPDX-License-Identifier: Apache-2.0
"""Which certificate a server of ours is to have, and what becomes of the one that it has. Pure.

Whoever gathers asks `judge_certificate` and has a certificate made where it says so; a plan renders what was found
or made, and lets no pod start before the Secret with its certificate is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from nimblet import names
from nimblet.manifests.common import Manifest, Part
from nimblet.manifests.transport import Secured, secured, secured_service, tls_secret_manifest
from nimblet.settings import TLS

CLUSTER_DOMAIN: Final = "cluster.local"
"""The usual one; clients of ours ask by names without it."""


SKEW: Final = timedelta(minutes=5)
"""By which clients' clocks may be behind: a certificate is good from so long before it is made."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The certificate that a server is to have."""

    service: str
    namespace: str

    @property
    def secret(self) -> str:
        """The Secret that holds it."""
        return names.certificate(self.service)

    @property
    def host(self) -> str:
        """The name that clients of ours ask by."""
        return names.service_host(self.service, self.namespace)

    @property
    def dns_names(self) -> tuple[str, ...]:
        """All names that it is good for."""
        short = (self.service, f"{self.service}.{self.namespace}")
        return (*short, self.host, f"{self.host}.{CLUSTER_DOMAIN}")


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


class Step(StrEnum):
    """What is to be done with a certificate."""

    KEEP = "Keep"
    REFRESH = "Refresh"
    """It stays; the authorities beside it have changed."""
    ISSUE = "Issue"


def wanted_certificate(service: str, namespace: str, tls: TLS) -> Wanted | None:
    """Return the certificate that the pods behind a Service are to have; None where they speak plain HTTP."""
    return None if tls.mode == "Off" else Wanted(service=service, namespace=namespace)


def judge_certificate(
    wanted: Wanted, found: CertificateFacts | None, authority: AuthorityFacts, now: datetime
) -> Step:
    """Return what is to be done with the certificate that was found."""
    if found is None or found.issuer not in authority.trusted or now >= renewal(found):
        return Step.ISSUE
    if set(found.dns_names) != set(wanted.dns_names) or found.not_before > now:
        return Step.ISSUE
    return Step.KEEP if found.bundle == authority.bundle else Step.REFRESH


def renewal(found: CertificateFacts) -> datetime:
    """Return when it is made anew: at two thirds of its life, which begins when it was made."""
    made = found.not_before + SKEW
    return made + (found.not_after - made) * 2 / 3


@dataclass(frozen=True, kw_only=True)
class Transport:
    """How the pods behind one Service are spoken to. Without TLS it changes nothing."""

    secured: Secured | None = None
    children: tuple[Manifest, ...] = ()
    """The Secret."""
    ready: bool = True
    """The certificate is in the cluster, so that pods may start with it."""
    requeue_after: float | None = None

    @property
    def encrypted(self) -> bool:
        """Tell whether its pods speak TLS."""
        return self.secured is not None

    @property
    def scheme(self) -> str:
        """Of the endpoint's address."""
        return "http" if self.secured is None else "https"

    def url(self, service: str, namespace: str, *, port: int | None = None, path: str = "") -> str:
        """Return the address of a Service; its usual port where none is given."""
        host = names.service_host(service, namespace)
        return f"{self.scheme}://{host}{f':{port}' if port is not None else ''}{path}"

    def service(self, manifest: Manifest) -> Manifest:
        """Return a Service as it will be applied."""
        return manifest if self.secured is None else secured_service(manifest)

    def pods(self, manifest: Manifest) -> Manifest:
        """Return a workload as it will be applied, where pods are judged by its hash."""
        return manifest if self.secured is None else secured(manifest, self.secured)


def plan_transport(part: Part, service: str, facts: TransportFacts, tls: TLS, now: datetime) -> Transport:
    """Return how the pods of a part, behind a Service, are spoken to."""
    wanted = wanted_certificate(service, part.namespace, tls)
    if wanted is None:
        return Transport()
    live = facts.live
    children = (tls_secret_manifest(part, name=wanted.secret, data=facts.material),) if facts.material else ()
    return Transport(
        secured=Secured(secret=wanted.secret, certificate=live.fingerprint if live is not None else facts.assumed),
        children=children,
        ready=live is not None or not facts.material,  # offline nothing was made, and nothing is waited for
        requeue_after=max((renewal(live) - now).total_seconds(), 1.0) if live is not None else None,
    )
