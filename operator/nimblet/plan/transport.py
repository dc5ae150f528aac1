# SPDX-License-Identifier: Apache-2.0
"""Which certificate a server of ours is to have, and what becomes of the one that it has. Pure.

Whoever gathers asks `judge_certificate` and has a certificate made where it says so; a plan renders what was found
or made, and lets no pod start before the Secret with its certificate is there.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from nimblet import names
from nimblet.conditions import Reason
from nimblet.manifests.common import Manifest, Part
from nimblet.manifests.transport import ARGUMENTS, Secured, secured, secured_service, tls_secret_manifest
from nimblet.plan.stage import Problem, problem
from nimblet.plan.transportfacts import AuthorityFacts, CertificateFacts, TransportFacts
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

    def pods(self, manifest: Manifest, *, runtime: str = "") -> Manifest:
        """Return a workload as it will be applied, where pods are judged by its hash. `runtime`: of a model's."""
        return manifest if self.secured is None else secured(manifest, self.secured, runtime=runtime)

    def refuses(self, runtime: str) -> Problem | None:
        """Return that a model's runtime can't serve HTTPS: it is refused, not served in plaintext."""
        if self.secured is None or runtime in ARGUMENTS:
            return None
        found = f"The chart's tls.mode is not Off, and {runtime} has no option for TLS."
        return problem(Reason.RUNTIME_UNSUITABLE, found)


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
