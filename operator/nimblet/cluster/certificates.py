# SPDX-License-Identifier: Apache-2.0
"""Reads the certificate of a server of ours, and has another one made where the plan's judgement asks for it.

It writes nothing: what was made is rendered by the plan and applied like every other child.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from nimblet import labels, names
from nimblet.cluster.authority import Keeper
from nimblet.cluster.child import controller_of, is_ours
from nimblet.cluster.key import Key
from nimblet.cluster.observed import Metadata, Secret, metadata_of
from nimblet.cluster.pki import (
    BadCertificateError,
    certificate_facts,
    issue,
    leaf_of,
    secret_data,
)
from nimblet.cluster.referents import Reader
from nimblet.cluster.resources import SECRET
from nimblet.manifests.certificate import ISSUER_NAME, NO_ISSUER
from nimblet.manifests.transport import AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE, TLS
from nimblet.plan.transport import Step, Wanted, judge_certificate
from nimblet.plan.transportfacts import CertificateFacts, RequestFacts, SecretFacts, TransportFacts

ENTRIES: Final = frozenset({AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE})


@dataclass(frozen=True, kw_only=True)
class Bearer:
    """The resource whose pods show the certificate."""

    key: Key
    uid: str


class Certifier(Protocol):
    """Knows the certificates of our pods."""

    async def gather(
        self, client: Reader, wanted: Wanted, bearer: Bearer, request: RequestFacts | None, now: datetime
    ) -> TransportFacts:
        """Return the certificate of the resource, and what its Secret is to hold, where we say that."""


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """Who makes certificates, and the randomness for them."""

    keeper: Keeper
    entropy: Callable[[], bytes]

    async def gather(
        self, client: Reader, wanted: Wanted, bearer: Bearer, request: RequestFacts | None, now: datetime
    ) -> TransportFacts:
        """Return the certificate of the resource, and what its Secret is to hold."""
        body = await client.get(SECRET, namespace=wanted.namespace, name=wanted.secret)
        data = _own_data(body, bearer.uid) if body is not None else {}
        live = self._read(data)
        step = judge_certificate(wanted, live, self.keeper.facts, now)
        if live is None or step is Step.ISSUE:
            leaf = issue(
                self.keeper.signer(),
                names=wanted.dns_names,
                entropy=self.entropy(),
                now=now,
                seconds=self.keeper.tls.certificate_seconds,
                peers=wanted.peers,
            )
            material = secret_data(leaf, self.keeper.bundle)
        elif step is Step.REFRESH:
            material = secret_data(leaf_of(data), self.keeper.bundle)
        else:
            material = data
        return TransportFacts(
            live=_usable(wanted, live, now),
            material=material,
            request=request,
            secret=secret_facts(body, bearer, request) if body is not None else None,
        )

    def _read(self, data: Mapping[str, str]) -> CertificateFacts | None:
        try:
            return certificate_facts(data, self.keeper.authorities)
        except BadCertificateError:
            return None


def _usable(wanted: Wanted, live: CertificateFacts | None, now: datetime) -> CertificateFacts | None:
    """Return what stands in the cluster where a pod can serve with it, even if another one is on its way."""
    if live is None or not live.issuer or now >= live.not_after:
        return None
    return live if set(wanted.dns_names) == set(live.dns_names) else None


def _own_data(body: Mapping[str, object], owner_uid: str) -> dict[str, str]:
    """Return the entries of a Secret that this resource controls; another's are not looked at."""
    owner = metadata_of(body).controller()
    if owner is None or owner.uid != owner_uid:
        return {}
    data = Secret.model_validate(body).data
    return {name: text for name, text in data.items() if name in ENTRIES}


def secret_facts(
    body: Mapping[str, object], bearer: Bearer, request: RequestFacts | None, *, authorities: bool = True
) -> SecretFacts:
    """Return how a certificate's Secret stands; a Certificate of the resource may own it."""
    holder, issuer = controller_of(body), metadata_of(body).annotations.get(ISSUER_NAME)
    own = is_ours(body, kind=bearer.key.kind, name=bearer.key.name, uid=bearer.uid)
    theirs = holder is not None and request is not None and holder.uid == request.uid
    return SecretFacts(
        ours=own or theirs,
        owned=own,
        marked=issuer is not None,
        filled=issuer is not None and issuer != NO_ISSUER,
        authorities=authorities,
    )


def tls_host(pod: Metadata) -> str:
    """Return the name that a pod's certificate is good for: its Service's, which ends in the component."""
    own = pod.labels
    if own.get(labels.TRANSPORT) != TLS:
        return ""
    service = f"{own.get(labels.INSTANCE, '')}-{own.get(labels.COMPONENT, '')}"
    return names.service_host(service, pod.namespace)
