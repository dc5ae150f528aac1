# SPDX-License-Identifier: Apache-2.0
"""Applies a plan's children by server-side apply, and deletes what it no longer wants. Decides nothing else.

The rules: nothing is written where the stored hash and every rendered leaf agree with the live object; what the
mirror lacks is written only if nobody has its name; the first try never forces; force is used only on an object
just read that is ours (controller ownerRef, or a claim retained for its name), bound to its uid; a field that a
rival took back three times is left to it; nothing is written for an owner that is going, or in a namespace that
is; an immutable field is told, never worked around.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet.cluster.child import Child, Owner, controller_of, is_ours, prepare, stored_hash
from nimblet.cluster.client import Client, Json
from nimblet.cluster.contest import Contest, ContestLedger
from nimblet.cluster.drift import Drift, drift
from nimblet.cluster.errors import Changed, Conflict, Forbidden, Invalid, NotFound, Transient
from nimblet.cluster.refusal import (
    conflict_failure,
    contested_failure,
    field_conflicts,
    is_namespace_going,
    latest_rival,
    refusal_failure,
)
from nimblet.cluster.resources import NAMESPACE, SECRET, resource_of
from nimblet.cluster.sightings import Recent
from nimblet.plan.facts import ChildRef, WriteFailure
from nimblet.plan.result import Manifest

__all__ = ["ApplyContext", "Owner", "apply_children", "delete_children"]

log = logging.getLogger(__name__)

WORKLOADS: Final = frozenset({"Deployment", "Job", "StatefulSet"})
"""Kinds that start pods: held back while something before them in the plan was refused (a NetworkPolicy, say)."""


@dataclass(frozen=True, kw_only=True)
class ApplyContext:
    """`live(kind, name)`: the mirror's view in the owner's namespace, all but status and managedFields kept.

    It only saves requests: what is written is decided on a fresh read, or by the API server itself. It is never
    asked for Secrets, which no mirror holds. `observed` gets each object that a write returned. `recent` outlives
    the pass and saves reads that were just made.
    """

    client: Client
    owner: Owner
    live: Callable[[str, str], Mapping[str, object] | None]
    observed: Callable[[Json], object]
    contests: ContestLedger
    recent: Recent = field(default_factory=Recent)
    read_first: bool = False
    """Read also what the mirror lacks: after a refusal, so that a name somebody has is not tried in vain."""


class _GoingError(Exception):
    """The owner or its namespace is being deleted: nothing is left to do."""


async def apply_children(context: ApplyContext, children: Sequence[Manifest]) -> tuple[WriteFailure, ...]:
    """Apply `children` in order and return what was refused. Transient errors and LeadershipLost propagate."""
    if context.owner.deleting:
        return ()
    run = _Pass(context)
    failures: list[WriteFailure] = []
    try:
        for manifest in children:
            child = prepare(manifest, context.owner)
            if failures and child.kind in WORKLOADS:
                log.info("%s: %s held back until what it needs is applied", context.owner, child)
                continue
            failure = await run.apply(child)
            if failure is not None:
                log.warning("%s: %s: %s", context.owner, failure.category, failure.message)
                failures.append(failure)
    except _GoingError as going:
        log.info("%s: nothing applied: %s", context.owner, going)
        return ()
    return tuple(failures)


def _unseen(kind: str, body: Json) -> None:
    """Keep nothing of what was read."""


async def delete_children(
    client: Client, *, namespace: str, refs: Iterable[ChildRef], seen: Callable[[str, Json], object] = _unseen
) -> None:
    """Delete exactly these objects: one that is gone, or whose name has another object now, is left alone.

    Changed, once all others are deleted, where one that may only go as it was seen is another by now. `seen` gets
    its kind and how it is: a watch that lags would have it judged as it was again and again.
    """
    changed: Changed | None = None
    for ref in refs:
        resource = resource_of(ref.kind)
        try:
            deleted = await client.delete(
                resource, namespace=namespace, name=ref.name, uid=ref.uid, version=ref.version
            )
        except Changed as error:
            changed = error
            body = await client.get(resource, namespace=namespace, name=ref.name)
            if body is not None:
                seen(ref.kind, body)
            continue
        log.info("%s %s/%s: %s", ref.kind, namespace, ref.name, "deleted" if deleted else "gone already")
    if changed is not None:
        raise changed


class _Pass:
    """One pass over an owner's children; whether it may write at all is looked up once, before the first write."""

    def __init__(self, context: ApplyContext) -> None:
        self._context = context
        self._client = context.client
        self._contests = context.contests
        self._checked = False

    async def apply(self, child: Child) -> WriteFailure | None:
        """Bring one child to its manifest, or say why not."""
        if child.resource is SECRET:
            return await self._apply_secret(child)
        view = self._context.live(child.kind, child.name)
        if view is None and not self._context.read_first:
            return await self._write_or_refuse(child, None)
        if view is not None and self._is_current(child, view):
            self._contests.agreed(child.key)
            return None
        return await self._apply_read(child)

    async def _apply_secret(self, child: Child) -> WriteFailure | None:
        """Bring a Secret to its manifest. It is read each time, but for one that was as rendered a moment ago."""
        seen, secrets = (child.key, child.hash), self._context.recent.secrets
        if secrets.recent(seen):
            return None
        failure = await self._apply_read(child)
        if failure is None:
            secrets.saw(seen)
        return failure

    async def _apply_read(self, child: Child) -> WriteFailure | None:
        namespace = self._context.owner.namespace
        current = await self._client.get(child.resource, namespace=namespace, name=child.name)
        if current is None:
            return await self._write_or_refuse(child, None)
        return await self._apply_over(child, current)

    async def _apply_over(self, child: Child, current: Json) -> WriteFailure | None:
        """Bring an object that was just read to its manifest, if it is ours."""
        owner = self._context.owner
        if not is_ours(current, kind=owner.kind, name=owner.name, uid=owner.uid):
            return conflict_failure(child, controller_of(current), owner=owner)
        if "deletionTimestamp" in current["metadata"]:
            log.info("%s: %s is being deleted; it is made anew when it is gone", self._context.owner, child)
            return None
        if self._is_current(child, current):
            self._contests.agreed(child.key)
            return None
        return await self._write_or_refuse(child, current)

    def _is_current(self, child: Child, live: Mapping[str, object]) -> bool:
        if stored_hash(live) != child.hash:
            return False
        return not self._drift(child, live)

    def _drift(self, child: Child, live: Mapping[str, object]) -> tuple[Drift, ...]:
        return self._contests.unsettled(child.key, child.hash, drift(child.manifest, live))

    async def _write_or_refuse(self, child: Child, current: Json | None) -> WriteFailure | None:
        await self._check(lacking=current is None)
        try:
            if current is not None:
                return await self._update(child, current)
            return await self._create(child)
        except NotFound as error:
            raise _GoingError(error.detail) from error  # the namespace went between two requests
        except Forbidden as error:
            if is_namespace_going(error):
                raise _GoingError(error.detail) from error
            return refusal_failure(child, error)
        except Invalid as error:
            return refusal_failure(child, error)

    async def _create(self, child: Child) -> WriteFailure | None:
        """Make a child, if nobody has its name; whoever has it is looked at first."""
        try:
            result = await self._client.apply_new(child.manifest)
        except Conflict as error:
            found = await self._client.get(
                child.resource, namespace=self._context.owner.namespace, name=child.name
            )
            if found is None:
                raise Transient(f"{child} appeared and went while it was made: {error.detail}") from error
            return await self._apply_over(child, found)
        self._written(child, result)
        return None

    async def _update(self, child: Child, current: Json) -> WriteFailure | None:
        contest = self._contests.contest(child.key, child.hash)
        if contest is not None:
            return contested_failure(child, contest)
        # with our hash stored, what differs was changed by someone else since
        repairs = stored_hash(current) == child.hash
        lost = {item.path: "" for item in self._drift(child, current)} if repairs else {}
        contest = self._contests.lost(child.key, child.hash, lost)
        if contest is not None:
            return self._give_up(child, await self._named(child, current, contest))
        uid = current["metadata"]["uid"]
        try:
            result = await self._client.apply(child.manifest, uid=uid)
        except Conflict as error:
            taken = field_conflicts(error)
            if not taken:
                raise Transient(f"{child} changed while it was written: {error.detail}") from error
            contest = self._contests.lost(child.key, child.hash, taken)
            if contest is not None:
                return self._give_up(child, contest)
            result = await self._force(child, uid=uid, taken=taken)
            lost |= taken
        self._contests.repaired(child.key, child.hash, lost)
        self._written(child, result)
        return None

    def _give_up(self, child: Child, contest: Contest) -> WriteFailure:
        self._contests.give_up(child.key, child.hash, contest)
        return contested_failure(child, contest)

    async def _force(self, child: Child, *, uid: str, taken: Mapping[str, str]) -> Json:
        rivals = ", ".join(f"{field} from {manager}" for field, manager in sorted(taken.items()))
        log.info("%s: %s: taking back %s", self._context.owner, child, rivals)
        try:
            return await self._client.apply(child.manifest, force=True, uid=uid)
        except Conflict as error:
            raise Transient(f"{child} was replaced while it was written: {error.detail}") from error

    async def _named(self, child: Child, current: Json, contest: Contest) -> Contest:
        """Return the contest with its rival's name: the API server tells it when a dry run conflicts."""
        uid = current["metadata"]["uid"]
        try:
            await self._client.apply(child.manifest, uid=uid, dry_run=True)
        except Conflict as error:
            taken = field_conflicts(error)
            if contest.field in taken:
                return Contest(field=contest.field, manager=taken[contest.field])
        # the rival removed the field, so that nobody holds it now
        return Contest(field=contest.field, manager=latest_rival(current))

    def _written(self, child: Child, result: Json) -> None:
        self._contests.settle(child.key, child.hash, drift(child.manifest, result))
        self._context.observed(result)
        log.info("%s: applied %s", self._context.owner, child)

    async def _check(self, *, lacking: bool) -> None:
        """Read owner and namespace afresh before the first write: the mirror may be behind a deletion.

        And before each child that is lacking, where the owner had children before: the garbage collector may have
        taken it, since the owner went after all that was read of it.
        """
        owner, alive = self._context.owner, self._context.recent.alive
        suspicious = lacking and owner.known
        if self._checked and not suspicious:
            return
        if suspicious or not alive.recent(owner.uid):
            found = await self._client.get(resource_of(owner.kind), namespace=owner.namespace, name=owner.name)
            if found is None or found["metadata"]["uid"] != owner.uid or "deletionTimestamp" in found["metadata"]:
                raise _GoingError("its owner is deleted")
            alive.saw(owner.uid)
        if not alive.recent(owner.namespace):
            await self._check_namespace(owner.namespace)
            alive.saw(owner.namespace)
        self._checked = True

    async def _check_namespace(self, name: str) -> None:
        try:
            namespace = await self._client.get(NAMESPACE, name=name)
        except Forbidden:
            # a namespaced installation may not read it; creating in it is refused by name then
            log.debug("namespace %s can't be read", name)
        else:
            if namespace is None or "deletionTimestamp" in namespace["metadata"]:
                raise _GoingError(f"namespace {name} is being deleted")
