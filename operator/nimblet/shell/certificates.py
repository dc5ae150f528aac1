# SPDX-License-Identifier: Apache-2.0
"""Has the installation's authority ready before anything is planned, and keeps it. Decides nothing."""

import asyncio
import logging
import secrets
import ssl
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final, Never

from nimblet.cluster.authority import Keeper
from nimblet.cluster.certificates import Issuer
from nimblet.cluster.client import Client
from nimblet.cluster.errors import ApiError, LeadershipLost
from nimblet.cluster.patience import patiently
from nimblet.cluster.pki import ENTROPY_BYTES
from nimblet.settings import Settings

RETRY_SECONDS: Final = 30.0
"""After a look that failed: what is known goes on being good."""

log = logging.getLogger(__name__)


async def ready_issuer(client: Client, settings: Settings, *, now: Callable[[], datetime]) -> Issuer | None:
    """Return who makes certificates; None where our pods speak plain HTTP."""
    if settings.tls.mode == "Off":
        return None
    entropy = partial(secrets.token_bytes, ENTROPY_BYTES)
    keeper = Keeper(
        client=client,
        namespace=settings.access.operator_namespace,
        tls=settings.tls,
        entropy=entropy,
        now=now,
    )
    await patiently(keeper.refresh, what="the certificate authority")
    return Issuer(keeper=keeper, entropy=entropy)


def trusting(issuer: Issuer | None) -> ssl.SSLContext:
    """Return what pods are verified by: our authorities alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if issuer is not None:
        context.load_verify_locations(cadata=issuer.keeper.bundle)
    return context


async def keep_authority(issuer: Issuer, trust: ssl.SSLContext, *, interval: float) -> Never:
    """Renew the authority in time, and put it back where it was deleted; resources follow at their next turn."""
    wait = interval
    while True:
        await asyncio.sleep(wait)
        try:
            if await issuer.keeper.refresh():
                trust.load_verify_locations(cadata=issuer.keeper.bundle)
            wait = interval
        except LeadershipLost:
            raise
        except ApiError as error:
            log.warning("the certificate authority could not be looked at: %s", error)
            wait = min(interval, RETRY_SECONDS)
