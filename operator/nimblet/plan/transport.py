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
from nimblet.manifests.certificate import (
    ISSUER_NAME,
    KIND,
    NO_ISSUER,
    Request,
    certificate_manifest,
    issued_secret_manifest,
)
from nimblet.manifests.common import Manifest, Part
from nimblet.manifests.transport import ARGUMENTS, Secured, secured, secured_service, tls_secret_manifest
from nimblet.plan.facts import ChildRef
from nimblet.plan.issued import standing
from nimblet.plan.stage import Problem, Progress, problem
from nimblet.plan.transportfacts import AuthorityFacts, CertificateFacts, TransportFacts
from nimblet.settings import TLS

CLUSTER_DOMAIN: Final = "cluster.local"
"""The usual one; clients of ours ask by names without it."""


AGAIN_SECONDS: Final = 1.0
"""Until it is looked whether a Certificate is gone that must not meet our own authority."""
SKEW: Final = timedelta(minutes=5)
"""By which clients' clocks may be behind: a certificate is good from so long before it is made."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The certificate that a server is to have."""

    service: str
    namespace: str
    peers: bool = False
    """Its pods ask each other too, by names of their own: those below its headless Service."""

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
        own = (*short, self.host, f"{self.host}.{CLUSTER_DOMAIN}")
        if not self.peers:
            return own
        # however many there are; verifiers take no asterisk before fewer than two further parts
        pods = f"*.{names.service_host(names.headless(self.service), self.namespace)}"
        return (*own, pods, f"{pods}.{CLUSTER_DOMAIN}")


class Step(StrEnum):
    """What is to be done with a certificate."""

    KEEP = "Keep"
    REFRESH = "Refresh"
    """It stays; the authorities beside it have changed."""
    ISSUE = "Issue"


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
    """The Secret, and what asks cert-manager for it."""
    deletions: tuple[ChildRef, ...] = ()
    asked: tuple[ChildRef, ...] = ()
    """Our Certificate, where there is one: it goes with its pods, else cert-manager fills the Secret anew."""
    state: Problem | Progress | None = None
    """What keeps cert-manager's certificate from being there."""
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


def plan_transport(part: Part, wanted: Wanted, facts: TransportFacts, tls: TLS, now: datetime) -> Transport:
    """Return how the pods of a part are spoken to; `wanted` is not had where they speak plain HTTP."""
    if tls.mode == "CertManager":
        return _issued(part, wanted, facts, tls, now)
    deletions = asked_for(wanted, facts)
    if tls.mode == "Off":
        return Transport(deletions=deletions)
    live = facts.live
    secured = Secured(secret=wanted.secret, certificate=live.fingerprint if live is not None else facts.assumed)
    if deletions:  # cert-manager would fill the Secret anew as long as it is asked to
        return Transport(secured=secured, deletions=deletions, ready=live is not None, requeue_after=AGAIN_SECONDS)
    return Transport(
        secured=secured,
        children=(_own_secret(part, wanted, facts),) if facts.material else (),
        ready=live is not None or not facts.material,  # offline nothing was made, and nothing is waited for
        requeue_after=max((renewal(live) - now).total_seconds(), 1.0) if live is not None else None,
    )


def asked_for(wanted: Wanted, facts: TransportFacts) -> tuple[ChildRef, ...]:
    """Return our Certificate for this, where there is one."""
    request = facts.request
    if request is None or not request.uid:
        return ()
    return (ChildRef(kind=KIND, name=wanted.secret, uid=request.uid),)


def _own_secret(part: Part, wanted: Wanted, facts: TransportFacts) -> Manifest:
    """Return the Secret by our own authority; what cert-manager wrote on it is made void."""
    marked = facts.secret is not None and facts.secret.marked
    return tls_secret_manifest(
        part,
        name=wanted.secret,
        data=facts.material,
        annotations={ISSUER_NAME: NO_ISSUER} if marked else {},
    )


def _issued(part: Part, wanted: Wanted, facts: TransportFacts, tls: TLS, now: datetime) -> Transport:
    """Return how pods are spoken to whose certificate cert-manager is asked for."""
    live, request, secret = facts.live, facts.request, facts.secret
    how = standing(wanted.secret, facts, now)
    children: list[Manifest] = []
    if request is not None and request.served and (secret is None or secret.ours):
        asked = Request(
            secret=wanted.secret,
            dns_names=wanted.dns_names,
            peers=wanted.peers,
            issuer=tls.issuer.model_dump(),
            seconds=tls.certificate_seconds,
            renew_before_seconds=tls.renew_before_seconds,
        )
        children.append(certificate_manifest(part, asked))
        # not before: what we apply without entries must not take away those that are ours
        if secret is not None and secret.filled and secret.owned:
            children.append(issued_secret_manifest(part, name=wanted.secret))
    return Transport(
        asked=asked_for(wanted, facts),
        secured=Secured(secret=wanted.secret, certificate=live.fingerprint if live is not None else facts.assumed),
        children=tuple(children),
        state=how.state,
        ready=live is not None or request is None,
        requeue_after=how.requeue_after,
    )
