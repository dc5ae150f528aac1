# SPDX-License-Identifier: Apache-2.0
"""The loop that looks whether what users name has changed, and gives whoever names it a turn. Decides nothing."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Never

from nimblet.cluster.client import Client
from nimblet.cluster.errors import ApiError
from nimblet.cluster.key import Key
from nimblet.cluster.referents import Referents

EVERY_SECONDS: Final = 8.0
"""Between two lists: a ConfigMap or claim that is gone is told within 15 seconds."""
SECRETS_EVERY: Final = 4
"""Lists for each look at Secrets, which costs a request for each: half a minute, for what pods have mounted."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Looks for changes for as long as it runs."""

    client: Client
    referents: Referents
    namespaces: tuple[str, ...]
    wake: Callable[[Key], None]

    async def run(self) -> Never:
        """Look for ever. A look that failed is one that saw nothing: the next one compares with the same notes."""
        rounds = 0
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            rounds += 1
            try:
                await self.once(secrets=rounds % SECRETS_EVERY == 0)
            except ApiError as error:
                log.warning("what users name can't be read, next try in %.0f s: %s", EVERY_SECONDS, error)

    async def once(self, *, secrets: bool) -> None:
        """Wake whoever names what has changed."""
        found = await self.referents.listed(self.client, namespaces=self.namespaces)
        if secrets:
            found |= await self.referents.secrets(self.client)
        for key in sorted(found):
            log.info("%s: what it names has changed", key)
            self.wake(key)
