# SPDX-License-Identifier: Apache-2.0
"""Waiting until the operator has done what there is to do. Only for tests."""

from collections.abc import Mapping

from tests.cluster.operator_support import Process, View, eventually


def ready(view: View, *names: str) -> None:
    for name in names:
        eventually(lambda name=name: view.is_ready(name), what=f"{name} Ready")  # type: ignore[misc]


def resyncs(process: Process, count: int) -> None:
    """Return after `count` more resyncs and an empty queue."""
    metric = 'nimblet_resyncs_total{outcome="done"}'
    goal = process.metric(metric) + count
    eventually(lambda: process.metric(metric) >= goal, what=f"{count} resyncs")
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
