# SPDX-License-Identifier: Apache-2.0
"""What snapshots of a Dedicated store come to: the condition Snapshotted and status.snapshots. Pure."""

from nimblet.api.common import ConditionStatus
from nimblet.api.indexstatus import MAX_SNAPSHOTS, SnapshotStatus
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import ConditionType, Reason, Verdict, verdict
from nimblet.plan.indexfacts import RetrieverFacts
from nimblet.plan.stage import problem


def snapshotted(index: RetrievalIndex, told: RetrieverFacts | None) -> Verdict | None:
    """Return how the last snapshots went; None where none are asked for."""
    if not _wanted(index):
        return None
    if told is None or told.snapshots is None:
        message = "No snapshot has been taken yet: a generation must serve, from one set of servers."
        return verdict(ConditionType.SNAPSHOTTED, ConditionStatus.UNKNOWN, Reason.PENDING, message)
    last, held = told.snapshots.last, told.snapshots.held
    if not last.ok:
        failed = problem(Reason.SNAPSHOT_FAILED, f"{last.message.rstrip('. ')}.")
        return verdict(ConditionType.SNAPSHOTTED, ConditionStatus.FALSE, failed.reason, failed.message)
    newest = max((item.taken_at for item in held if item.taken_at is not None), default=None)
    since = f"; the newest of {newest:%Y-%m-%dT%H:%M:%SZ}" if newest is not None else ""
    servers = len({item.server for item in held})
    message = f"{len(held)} snapshot(s) on {servers} server(s){since}."
    return verdict(ConditionType.SNAPSHOTTED, ConditionStatus.TRUE, Reason.SNAPSHOTS_TAKEN, message)


def known_snapshots(index: RetrievalIndex, told: RetrieverFacts | None) -> list[SnapshotStatus]:
    """Return what is told of them; as it was while nothing serves: after a loss it is what one restores from."""
    if not _wanted(index):
        return []
    if told is None or told.serving is None or told.snapshots is None:
        return list(index.status.snapshots)
    return [
        SnapshotStatus(
            server=item.server,
            collection=item.collection,
            name=item.name,
            bytes=item.bytes,
            taken_at=item.taken_at,
        )
        for item in told.snapshots.held[:MAX_SNAPSHOTS]
    ]


def _wanted(index: RetrievalIndex) -> bool:
    dedicated = index.spec.store.dedicated
    return dedicated is not None and dedicated.snapshots is not None
