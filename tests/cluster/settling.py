# SPDX-License-Identifier: Apache-2.0
"""Waiting until the operator has done what there is to do. Only for tests."""

from collections.abc import Collection, Mapping
from typing import Any

from tests.cluster.operator_support import Launcher, Process, View, eventually

RESYNCS = 'nimblet_resyncs_total{outcome="done"}'


def started(launcher: Launcher) -> Process:
    """Start an operator that has read the cluster once: how long it takes to tell is counted from then on."""
    process = launcher.start()
    eventually(lambda: process.metric(RESYNCS) >= 1, what="the operator's first read of the cluster")
    return process


def passes(process: Process, *kinds: str) -> float:
    """Return how often resources of these kinds were looked at."""
    return sum(process.metric(f'nimblet_reconcile_duration_seconds_count{{kind="{kind}"}}') for kind in kinds)


def ready(view: View, *names: str) -> None:
    for name in names:
        eventually(lambda name=name: view.is_ready(name), what=f"{name} Ready")  # type: ignore[misc]


def resyncs(process: Process, count: int) -> None:
    """Return after `count` more resyncs and an empty queue."""
    goal = process.metric(RESYNCS) + count
    eventually(lambda: process.metric(RESYNCS) >= goal, what=f"{count} resyncs")
    eventually(lambda: process.metric("nimblet_queue_depth") == 0, what="an empty queue")


def settled(process: Process, view: View) -> Mapping[str, str]:
    """Return the versions once a resync changes none: pods and the finished Job still come and go after Ready.

    That nothing changes for a while proves little on a busy machine: what is known to change still is waited for.
    """
    seen = [view.versions()]

    def same() -> bool:
        resyncs(process, 1)
        found = view.objects()
        seen.append({name: item["metadata"]["resourceVersion"] for name, item in found.items()})
        return seen[-1] == seen[-2] and not under_way(found)

    eventually(same, what="a steady state")
    return seen[-1]


def under_way(objects: Mapping[str, Any]) -> list[str]:
    """Return what Kubernetes' own controllers have not finished with: what goes, Jobs that run, specs not seen."""
    uids = {item["metadata"]["uid"] for item in objects.values()}
    return [name for name, item in objects.items() if _goes(item, uids) or _lags(name.partition("/")[0], item)]


def _goes(item: Any, uids: Collection[str]) -> bool:
    """Tell whether it is being deleted, or will be since the Job that it is of is gone."""
    owners = item["metadata"].get("ownerReferences", ())
    orphaned = any(owner["kind"] == "Job" and owner["uid"] not in uids for owner in owners)
    return orphaned or "deletionTimestamp" in item["metadata"]


def _lags(kind: str, item: Any) -> bool:
    """Tell whether a status is still to come of what a controller has before it."""
    status = item.get("status", {})
    if kind == "Job":
        ends = {each["type"] for each in status.get("conditions", ()) if each["status"] == "True"}
        return not ends & {"Complete", "Failed"}
    if kind in ("Deployment", "StatefulSet"):
        return bool(status.get("observedGeneration") != item["metadata"]["generation"])
    return False
