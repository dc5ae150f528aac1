# SPDX-License-Identifier: Apache-2.0
"""Tells a retriever which generation to serve: the one order that the operator gives to a pod.

It goes to the pod's own address with the operator's own key; what comes of it is observed like everything else.
"""

import logging
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from nimblet.cluster.key import Key
from nimblet.cluster.poll import Poller
from nimblet.manifests.network import HTTP_PORT
from nimblet.plan.facts import PodFacts

SERVING_PATH: Final = "/v1/serving"
TIMEOUT_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServeOrder:
    """One order to one pod."""

    key: Key
    pod: PodFacts
    generation: str
    api_key: str = field(repr=False)


async def give(poller: Poller, order: ServeOrder) -> bool:
    """Give the order and have the pod asked anew; tell whether it was taken. The next pass gives it again."""
    url = f"{poller.url_of(order.pod, HTTP_PORT)}{SERVING_PATH}"
    try:
        async with poller.session.put(
            url,
            json={"generation": order.generation},
            headers={"Authorization": f"Bearer {order.api_key}"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            allow_redirects=False,
            server_hostname=order.pod.tls_host or None,
            ssl=poller.trust_of(order.pod.tls_host) or True,
        ) as response:
            taken = response.ok
            detail = f"HTTP {response.status}"
    except (TimeoutError, aiohttp.ClientError) as error:
        taken, detail = False, type(error).__name__
    log.log(
        logging.INFO if taken else logging.WARNING,
        "%s: told %s to serve %s: %s",
        order.key,
        order.pod.name,
        order.generation,
        detail,
    )
    poller.ask_again(order.key)
    return taken
