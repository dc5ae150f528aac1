# SPDX-License-Identifier: Apache-2.0
"""One pass for one resource: read, parse, gather, plan, apply, delete, tell. The same for every event.

It keeps nothing worth keeping: what it remembers (refused writes, lost fights) is learned again after a restart.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from nimblet.api.common import StatusModel
from nimblet.cluster.apply import ApplyContext, Owner, apply_children, delete_children
from nimblet.cluster.client import Json
from nimblet.cluster.contest import ContestLedger
from nimblet.cluster.facts import Gatherer
from nimblet.cluster.key import Key
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.sightings import Recent
from nimblet.cluster.status import stored_conditions, write_status
from nimblet.plan.facts import WriteFailure
from nimblet.plan.result import Plan
from nimblet.settings import Settings
from nimblet.shell.kinds import Kind, Later, Subject, owner_of
from nimblet.shell.metrics import Metrics

AFTER_WRITES_SECONDS: Final = 1.0
"""Own writes raise no event that counts: look once more at what became of them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Writes that the last pass could not do, and how many passes in a row had any."""

    failures: tuple[WriteFailure, ...]
    passes: int


@dataclass(kw_only=True)
class Reconciler:
    """Passes over our resources. `contests` and `refused` hold what must outlive a pass, by key."""

    kinds: Mapping[str, Kind]
    gatherer: Gatherer
    settings: Settings
    metrics: Metrics
    now: Callable[[], datetime]
    contests: ContestLedger
    refused: dict[Key, Refused] = field(default_factory=dict)
    uids: dict[Key, str] = field(default_factory=dict)
    recent: Recent = field(default_factory=Recent)

    async def reconcile(self, key: Key) -> float | None:
        """Do one pass; return the seconds until the next one is wanted without an event."""
        with self.metrics.reconcile_seconds.labels(kind=key.kind).time():
            kind = self.kinds[key.kind]
            body = await self.gatherer.client.get(kind.resource, namespace=key.namespace, name=key.name)
            if body is None or metadata_of(body).deletion_timestamp is not None:
                # Children carry ownerReferences: the garbage collector takes them.
                log.info("%s: %s, nothing to do", key, "gone" if body is None else "being deleted")
                self._forget(key)
                return None
            self.gatherer.mirror.put(key.kind, body)
            self._know(key, metadata_of(body).uid)
            self.recent.alive.saw(metadata_of(body).uid)
            return await self._pass(key, body, kind.read(body))

    async def _pass(self, key: Key, body: Json, subject: Subject) -> float | None:
        known = self.refused.get(key, Refused(failures=(), passes=0))
        planned = await subject.plan(known.failures, self.now())
        if isinstance(planned, Later):
            return planned.seconds
        written: list[str] = []  # kinds
        context = self._context(owner_of(body), written, read_first=bool(known.failures))
        failures = await apply_children(context, planned.plan.children)
        if failures != known.failures:
            planned = await subject.plan(failures, self.now())
            if isinstance(planned, Later):
                return planned.seconds
        await self._delete(key, planned.plan)
        if planned.act is not None:
            await planned.act()
        await self._tell(key, body, subject.status, planned.plan)
        waits = [
            planned.plan.requeue_after,
            planned.look_again,
            self._remember(key, failures, passes=known.passes),
        ]
        if written:
            waits.append(AFTER_WRITES_SECONDS)
        return min((wait for wait in waits if wait is not None), default=None)

    def _context(self, owner: Owner, written: list[str], *, read_first: bool) -> ApplyContext:
        mirror = self.gatherer.mirror

        def observed(result: Json) -> None:
            kind = str(result["kind"])
            written.append(kind)
            self.metrics.wrote("apply", kind)
            if mirror.holds(kind):
                mirror.put(kind, result)

        return ApplyContext(
            client=self.gatherer.client,
            owner=owner,
            live=lambda kind, name: mirror.get(kind, owner.namespace, name),
            observed=observed,
            contests=self.contests,
            recent=self.recent,
            read_first=read_first,
        )

    async def _delete(self, key: Key, plan: Plan[StatusModel]) -> None:
        if not plan.deletions:
            return
        mirror = self.gatherer.mirror
        await delete_children(self.gatherer.client, namespace=key.namespace, refs=plan.deletions, seen=mirror.put)
        for ref in plan.deletions:
            self.metrics.wrote("delete", ref.kind)
            if mirror.holds(ref.kind):
                identity = {"name": ref.name, "namespace": key.namespace, "uid": ref.uid}
                mirror.remove(ref.kind, {"metadata": identity})

    async def _tell(self, key: Key, body: Json, before: StatusModel, plan: Plan[StatusModel]) -> None:
        """Write the status where it differs, and log each condition that flips."""
        if not await write_status(self.gatherer.client, body=body, status=plan.status):
            return
        self.metrics.wrote("status", key.kind)
        for item in stored_conditions(plan.status):
            old = next((each for each in stored_conditions(before) if each.type == item.type), None)
            if old is None or (old.status, old.reason) != (item.status, item.reason):
                log.info("%s: %s=%s %s: %s", key, item.type, item.status, item.reason, item.message)

    def _remember(self, key: Key, failures: tuple[WriteFailure, ...], *, passes: int) -> float | None:
        if not failures:
            self.refused.pop(key, None)
            return None
        self.refused[key] = Refused(failures=failures, passes=passes + 1)
        timing = self.settings.timing
        return min(float(timing.retry_cap_seconds), timing.retry_base_seconds * 2.0 ** min(passes, 20))

    def _know(self, key: Key, uid: str) -> None:
        """Remember whose memories these are: a resource made anew under an old name starts with none."""
        if self.uids.get(key, uid) != uid:
            self._forget(key)
        self.uids[key] = uid

    def _forget(self, key: Key) -> None:
        self.refused.pop(key, None)
        self.contests.forget(self.uids.pop(key, ""))
        self.gatherer.observer.forget(key)
        self.gatherer.poller.forget(key)
        self.gatherer.challenger.forget(key)
        self.gatherer.referents.forget(key)
