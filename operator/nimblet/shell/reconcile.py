# SPDX-License-Identifier: Apache-2.0
"""One pass for one resource: read, parse, gather, plan, apply, delete, tell. The same for every event.

It keeps nothing worth keeping: what it remembers (refused writes, lost fights) is learned again after a restart.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from nimblet import labels
from nimblet.api.compactmodel import CompactModel, CompactModelStatus
from nimblet.cluster.apply import ApplyContext, Owner, apply_children, delete_children
from nimblet.cluster.client import Json
from nimblet.cluster.contest import ContestLedger
from nimblet.cluster.facts import Gatherer, gather_model_facts
from nimblet.cluster.key import Key
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.parse import InvalidModel, parse_compactmodel
from nimblet.cluster.resources import COMPACT_MODEL
from nimblet.cluster.sightings import Recent
from nimblet.cluster.status import write_status
from nimblet.plan.compactmodel import plan_compactmodel, plan_invalid
from nimblet.plan.facts import WriteFailure
from nimblet.plan.result import Plan
from nimblet.plan.source import source_hash
from nimblet.settings import Settings
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
    """Passes over CompactModels. `contests` and `refused` hold what must outlive a pass, by key."""

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
            body = await self.gatherer.client.get(COMPACT_MODEL, namespace=key.namespace, name=key.name)
            if body is None or metadata_of(body).deletion_timestamp is not None:
                # Children carry ownerReferences: the garbage collector takes them.
                log.info("%s: %s, nothing to do", key, "gone" if body is None else "being deleted")
                self._forget(key)
                return None
            self.gatherer.mirror.put(key.kind, body)
            self._know(key, metadata_of(body).uid)
            self.recent.alive.saw(metadata_of(body).uid)
            parsed = parse_compactmodel(body)
            if isinstance(parsed, InvalidModel):
                plan = plan_invalid(
                    generation=parsed.generation, status=parsed.status, errors=parsed.errors, now=self.now()
                )
                await self._tell(key, body, parsed.status, plan)
                return plan.requeue_after
            return await self._pass(key, body, parsed)

    async def _pass(self, key: Key, body: Json, model: CompactModel) -> float | None:
        known = self.refused.get(key, Refused(failures=(), passes=0))
        plan, look_again = await self._plan(model, known.failures)
        written: list[str] = []  # kinds
        context = self._context(key, model, written, read_first=bool(known.failures))
        failures = await apply_children(context, plan.children)
        if failures != known.failures:
            plan, look_again = await self._plan(model, failures)
        await self._delete(key, plan)
        await self._tell(key, body, model.status, plan)
        waits = [plan.requeue_after, look_again, self._remember(key, failures, passes=known.passes)]
        if written:
            waits.append(AFTER_WRITES_SECONDS)
        return min((wait for wait in waits if wait is not None), default=None)

    async def _plan(
        self, model: CompactModel, failures: Sequence[WriteFailure]
    ) -> tuple[Plan[CompactModelStatus], float | None]:
        now = self.now()
        wanted = source_hash(model.spec, self.settings)
        gathered = await gather_model_facts(
            self.gatherer, model, wanted_source=wanted, write_failures=failures, now=now
        )
        return plan_compactmodel(model, gathered.facts, self.settings, now), gathered.look_again

    def _context(self, key: Key, model: CompactModel, written: list[str], *, read_first: bool) -> ApplyContext:
        mirror = self.gatherer.mirror

        def observed(result: Json) -> None:
            kind = str(result["kind"])
            written.append(kind)
            self.metrics.wrote("apply", kind)
            if mirror.holds(kind):
                mirror.put(kind, result)

        owner = Owner(
            api_version=labels.API_VERSION,
            kind=key.kind,
            name=model.name,
            uid=model.uid,
            namespace=model.namespace,
            deleting=model.deleting,
        )
        return ApplyContext(
            client=self.gatherer.client,
            owner=owner,
            live=lambda kind, name: mirror.get(kind, model.namespace, name),
            observed=observed,
            contests=self.contests,
            recent=self.recent,
            read_first=read_first,
        )

    async def _delete(self, key: Key, plan: Plan[CompactModelStatus]) -> None:
        if not plan.deletions:
            return
        await delete_children(self.gatherer.client, namespace=key.namespace, refs=plan.deletions)
        for ref in plan.deletions:
            self.metrics.wrote("delete", ref.kind)
            if self.gatherer.mirror.holds(ref.kind):
                identity = {"name": ref.name, "namespace": key.namespace, "uid": ref.uid}
                self.gatherer.mirror.remove(ref.kind, {"metadata": identity})

    async def _tell(
        self, key: Key, body: Json, before: CompactModelStatus, plan: Plan[CompactModelStatus]
    ) -> None:
        """Write the status where it differs, and log each condition that flips."""
        if not await write_status(self.gatherer.client, body=body, status=plan.status):
            return
        self.metrics.wrote("status", key.kind)
        for item in plan.status.conditions:
            old = next((each for each in before.conditions if each.type == item.type), None)
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
