# SPDX-License-Identifier: Apache-2.0
"""One leader at a time, by a coordination.k8s.io Lease. Doesn't run or stop anything: it tells and raises.

Times are local: a holder counts its lease from before the request that renewed it, a rival counts from when it
saw the record change. So clocks of different machines are never compared (the official client's election does
that, and can't tell how long the lease still holds). After a loss the process must end.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Never

from nimblet.cluster.client import Client, Json
from nimblet.cluster.errors import ApiError, Conflict, LeadershipLost
from nimblet.cluster.resources import LEASE

log = logging.getLogger(__name__)

LEASE_NAME: Final = "nimblet-operator"
MICROTIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
"""metav1.MicroTime."""


@dataclass(frozen=True, kw_only=True)
class LeaseOptions:
    """`identity` is unique to the process. A leader that is gone is followed after `duration` seconds."""

    namespace: str
    identity: str
    name: str = LEASE_NAME
    duration: int = 15
    """Seconds a renewal holds: kube-controller-manager's own default."""
    renew: float = 5.0
    """Seconds between renewals (and a candidate's looks): two may fail before the lease ends."""
    retry: float = 1.0
    """Seconds between tries of a renewal that failed."""


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """`monotonic` measures, `now` only fills the record's times for readers, `sleep` waits."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Lease:
    """A candidate: `acquire`, then `keep` beside the work, `guard` before each write, `release` at the end."""

    def __init__(self, client: Client, options: LeaseOptions, clocks: Clocks | None = None) -> None:
        self._client = client
        self._options = options
        self._clocks = clocks or Clocks()
        self._held_until: float | None = None
        self._seen: str | None = None
        self._seen_at = 0.0
        self._last_read = self._clocks.monotonic()
        self._renewed = asyncio.Condition()

    def remaining(self) -> float:
        """Return the seconds for which the lease is surely ours; 0 or less when it isn't."""
        return 0.0 if self._held_until is None else self._held_until - self._clocks.monotonic()

    def silence(self) -> float:
        """Return the seconds since the Lease was last read or written: a standby is live while this is small."""
        return self._clocks.monotonic() - self._last_read

    async def acquire(self) -> None:
        """Return once the lease is ours. Errors of the API server are logged and outlived."""
        while True:
            try:
                if await self._try():
                    log.info("leading as %s", self._options.identity)
                    return
            except (ApiError, TimeoutError) as error:
                log.warning("Lease %s can't be read or taken: %s", self._options.name, error)
            await self._clocks.sleep(self._options.renew)

    async def keep(self) -> Never:
        """Renew for ever. LeadershipLost when the lease ran out or has another holder."""
        while True:
            await self._clocks.sleep(min(self._options.renew, max(self.remaining(), 0)))
            while True:
                if self.remaining() <= 0:
                    await self._lose("it could not be renewed in time")
                try:
                    if await self._try():
                        break
                except (ApiError, TimeoutError) as error:
                    log.warning("Lease %s not renewed: %s", self._options.name, error)
                else:
                    await self._lose("another holder has it")
                await self._clocks.sleep(min(self._options.retry, max(self.remaining(), 0)))

    async def guard(self) -> None:
        """Return when the lease outlives a write; else wait for its renewal. LeadershipLost where none comes."""
        needed = self._client.timeouts.of("PATCH")
        while (left := self.remaining()) <= needed:
            if left <= 0:
                raise LeadershipLost(f"Lease {self._options.name} ran out; nothing is written without it")
            try:
                async with asyncio.timeout(left), self._renewed:
                    await self._renewed.wait()
            except TimeoutError:
                continue

    async def release(self) -> None:
        """Give the lease up, so that a standby needs not wait. Only after the last write."""
        if self.remaining() <= 0:
            return
        self._held_until = None
        try:
            await self._give_up()
        except Conflict:  # a renewal of ours that was cut short did arrive; there is one at most
            await self._give_up()

    async def _give_up(self) -> None:
        found = await self._read()
        if found is not None and found["spec"].get("holderIdentity") == self._options.identity:
            await self._client.replace({**found, "spec": {**found["spec"], "holderIdentity": ""}})

    async def _try(self) -> bool:
        """Read the record, then create, take or renew it. False while someone else holds it."""
        started = self._clocks.monotonic()
        # a hanging request must leave time for another try before the lease ends
        async with asyncio.timeout(self._options.renew):
            found = await self._read()
            if found is not None and not self._may_take(found):
                self._held_until = None
                return False
            try:
                if found is None:
                    await self._client.create(self._record(None))
                else:
                    await self._client.replace({**found, "spec": self._record(found)["spec"]})
            except Conflict:
                # someone was quicker, or our own earlier write did arrive: the next look tells
                log.info("Lease %s changed while it was written", self._options.name)
                if self.remaining() > 0:
                    raise
                return False
        self._last_read = self._clocks.monotonic()
        self._held_until = started + self._options.duration
        async with self._renewed:
            self._renewed.notify_all()
        return True

    async def _read(self) -> Json | None:
        found = await self._client.get(LEASE, namespace=self._options.namespace, name=self._options.name)
        self._last_read = self._clocks.monotonic()
        version = found["metadata"]["resourceVersion"] if found is not None else None
        if version != self._seen:
            self._seen, self._seen_at = version, self._last_read
        return found

    def _may_take(self, found: Json) -> bool:
        holder = found["spec"].get("holderIdentity") or ""
        if holder in ("", self._options.identity):
            return True
        lasts = float(found["spec"].get("leaseDurationSeconds") or self._options.duration)
        return self._clocks.monotonic() - self._seen_at > lasts

    def _record(self, found: Json | None) -> Json:
        now = self._clocks.now().astimezone(UTC).strftime(MICROTIME)
        before = found["spec"] if found is not None else {}
        ours = before.get("holderIdentity") == self._options.identity
        transitions = int(before.get("leaseTransitions") or 0)
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._options.name, "namespace": self._options.namespace},
            "spec": {
                "holderIdentity": self._options.identity,
                "leaseDurationSeconds": self._options.duration,
                "acquireTime": before.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": transitions if ours or found is None else transitions + 1,
            },
        }

    async def _lose(self, why: str) -> Never:
        self._held_until = None
        async with self._renewed:
            self._renewed.notify_all()
        raise LeadershipLost(f"Lease {self._options.name}: {why}")
