# SPDX-License-Identifier: Apache-2.0
"""Waiting until the operator has done what there is to do. Only for tests."""

from collections.abc import Mapping

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
    """Return the versions once a resync changes none: pods and the finished Job still come and go after Ready."""
    seen = [view.versions()]

    def same() -> bool:
        resyncs(process, 1)
        seen.append(view.versions())
        return seen[-1] == seen[-2]

    eventually(same, what="a steady state")
    return seen[-1]
