# SPDX-License-Identifier: Apache-2.0
"""Has what certificates need ready before anything is planned, and keeps it. Decides nothing."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, Never

from nimblet.cluster.authority import Keeper
from nimblet.cluster.certificates import Certifier, Issuer
from nimblet.cluster.client import Client
from nimblet.cluster.errors import ApiError, LeadershipLost
from nimblet.cluster.issued import CertManager, Requests
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.patience import patiently
from nimblet.cluster.pki import ENTROPY_BYTES
from nimblet.cluster.trust import Trust
from nimblet.settings import Settings

RETRY_SECONDS: Final = 30.0
"""After a look at the authority that failed: what is known goes on being good."""
EVERY_SECONDS: Final = 8.0
"""Between two lists of Certificates: what cert-manager tells is told on within 15 seconds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Certification:
    """Who knows certificates, what cert-manager was asked for, and whom the operator believes; by the settings."""

    client: Client
    trust: Trust = field(default_factory=Trust)
    keeper: Keeper | None = None
    certifier: Certifier | None = None
    requests: Requests | None = None

    def loops(self, *, wake: Callable[[Key], None], interval: float) -> Mapping[str, Coroutine[None, None, Never]]:
        """Return by name what is to run as long as the operator leads."""
        found: dict[str, Coroutine[None, None, Never]] = {}
        if self.keeper is not None:
            found["authority"] = keep_authority(self.keeper, self.trust, interval=interval)
        if self.requests is not None:
            found["certificates"] = keep_requests(self.client, self.requests, wake=wake)
        return found


async def ready_certification(
    client: Client, settings: Settings, mirror: Mirror, *, now: Callable[[], datetime]
) -> Certification:
    """Return what certificates need, once it is known."""
    requests, trust = None, Trust()
    if settings.tls.issuer.name:
        requests = Requests(mirror=mirror, namespaces=settings.watch_namespaces)
        await patiently(partial(requests.refresh, client), what="the first list of Certificates")
    if settings.tls.mode == "OwnCA":
        keeper = _keeper(client, settings, now=now)
        await patiently(keeper.refresh, what="the certificate authority")
        trust.everywhere.load_verify_locations(cadata=keeper.bundle)
        issuer = Issuer(keeper=keeper, entropy=keeper.entropy)
        return Certification(client=client, trust=trust, keeper=keeper, certifier=issuer, requests=requests)
    certifier = CertManager(trust=trust) if settings.tls.mode == "CertManager" else None
    return Certification(client=client, trust=trust, certifier=certifier, requests=requests)


def _keeper(client: Client, settings: Settings, *, now: Callable[[], datetime]) -> Keeper:
    return Keeper(
        client=client,
        namespace=settings.access.operator_namespace,
        tls=settings.tls,
        entropy=partial(secrets.token_bytes, ENTROPY_BYTES),
        now=now,
    )


async def keep_authority(keeper: Keeper, trust: Trust, *, interval: float) -> Never:
    """Renew the authority in time, and put it back where it was deleted; resources follow at their next turn."""
    wait = interval
    while True:
        await asyncio.sleep(wait)
        try:
            if await keeper.refresh():
                trust.everywhere.load_verify_locations(cadata=keeper.bundle)
            wait = interval
        except LeadershipLost:
            raise
        except ApiError as error:
            log.warning("the certificate authority could not be looked at: %s", error)
            wait = min(interval, RETRY_SECONDS)


async def keep_requests(client: Client, requests: Requests, *, wake: Callable[[Key], None]) -> Never:
    """Look at the Certificates again and again, and give those a turn whom a change concerns."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            for key in sorted(await requests.refresh(client)):
                wake(key)
        except ApiError as error:
            log.warning("Certificates can't be listed, next try in %.0f s: %s", EVERY_SECONDS, error)
