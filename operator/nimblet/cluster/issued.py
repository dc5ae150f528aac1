# SPDX-License-Identifier: Apache-2.0
"""Reads what cert-manager tells of our Certificates, and what it wrote into their Secrets, but never a key.

Its definition may be missing, or come later: Certificates are listed again and again, and never watched. It
writes nothing and decides nothing.
"""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nimblet.cluster.certificates import Bearer, secret_facts
from nimblet.cluster.client import Client
from nimblet.cluster.errors import NotFound
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import OWN_KINDS, Mirror
from nimblet.cluster.observed import Certificate, CertificateCondition, Secret, metadata_of
from nimblet.cluster.pki import BadCertificateError, authorities_of, public_facts
from nimblet.cluster.referents import Reader
from nimblet.cluster.resources import CERTIFICATE, SECRET
from nimblet.cluster.resync import rebuild
from nimblet.cluster.trust import Trust
from nimblet.manifests.transport import AUTHORITIES_FILE, CERTIFICATE_FILE
from nimblet.plan.transport import Wanted
from nimblet.plan.transportfacts import CertificateFacts, RequestFacts, TransportFacts

PUBLIC: Final = frozenset({AUTHORITIES_FILE, CERTIFICATE_FILE})
NEWEST: Final = str(2**63)
"""A resourceVersion later than any: what the cluster does not know has no objects."""

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Requests:
    """Our Certificates, as the mirror has them, and whether the cluster knows any."""

    mirror: Mirror
    namespaces: tuple[str, ...]
    served: bool = True

    async def refresh(self, client: Client) -> frozenset[Key]:
        """List them; return whom a change concerns: everybody, where cert-manager came or went."""
        before = self.served
        try:
            touched = await rebuild(client, self.mirror, namespaces=self.namespaces, kinds=(CERTIFICATE.kind,))
            self.served = True
        except NotFound:
            touched = self.mirror.prune(CERTIFICATE.kind, seen=(), version=NEWEST)
            self.served = False
        if self.served is not before:
            log.info("cert-manager's Certificates are %s", "there" if self.served else "not known to the cluster")
            touched |= {key for kind in OWN_KINDS for key in self.mirror.keys(kind)}
        return frozenset(key for key in touched if key.kind in OWN_KINDS)

    def facts(self, bearer: Bearer, name: str) -> RequestFacts:
        """Return the Certificate of this name; another's is as none."""
        body = self.mirror.get(CERTIFICATE.kind, bearer.key.namespace, name) if self.served else None
        owner = metadata_of(body).controller() if body is not None else None
        if body is None or owner is None or owner.uid != bearer.uid:
            return RequestFacts(served=self.served)
        return _told(Certificate.model_validate(body))


def _told(found: Certificate) -> RequestFacts:
    """Return what its conditions say of the spec that it has now."""
    ready, issuing = _of_now(found, "Ready"), _of_now(found, "Issuing")
    begun = issuing if issuing is not None and issuing.status == "True" else ready
    failed = issuing is not None and issuing.status == "False" and issuing.reason == "Failed"
    words = [item.message for item in (issuing if failed else None, ready, issuing) if item is not None]
    return RequestFacts(
        uid=found.metadata.uid,
        current=ready is not None and ready.status == "True",
        failed=failed,
        message=next((text for text in words if text), ""),
        since=(begun.last_transition_time if begun is not None else None) or found.metadata.creation_timestamp,
    )


def _of_now(found: Certificate, type_: str) -> CertificateCondition | None:
    """Return a condition, unless it is about an older spec."""
    condition = found.condition(type_)
    if condition is None or condition.observed_generation not in (0, found.metadata.generation):
        return None
    return condition


@dataclass(frozen=True, kw_only=True)
class CertManager:
    """Reads the Secrets that cert-manager fills, and has their authorities trusted."""

    trust: Trust

    async def gather(
        self, client: Reader, wanted: Wanted, bearer: Bearer, request: RequestFacts | None, now: datetime
    ) -> TransportFacts:
        """Return the certificate that stands in the cluster."""
        body = await client.get(SECRET, namespace=wanted.namespace, name=wanted.secret)
        if body is None:
            return TransportFacts(request=request)
        data = {name: text for name, text in Secret.model_validate(body).data.items() if name in PUBLIC}
        authorities = _authorities(data)
        facts = secret_facts(body, bearer, request, authorities=bool(authorities))
        if not facts.ours or not authorities:
            return TransportFacts(request=request, secret=facts)
        self.trust.learn(wanted.namespace, authorities)
        return TransportFacts(request=request, secret=facts, live=_usable(wanted, data, now))


def _authorities(data: Mapping[str, str]) -> str:
    """Return the authorities beside a certificate, "" where there are none."""
    try:
        found = authorities_of(data)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except (BadCertificateError, ssl.SSLError):
        return ""
    return found


def _usable(wanted: Wanted, data: Mapping[str, str], now: datetime) -> CertificateFacts | None:
    """Return the certificate where a pod can serve with it; whether it is trusted shows when the pod is asked."""
    try:
        found = public_facts(data)
    except BadCertificateError:
        return None
    good = found.not_before <= now < found.not_after and set(wanted.dns_names) <= set(found.dns_names)
    return found if good else None
