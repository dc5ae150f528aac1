# SPDX-License-Identifier: Apache-2.0
"""Every row of the fault matrix, several at a time since most of a row is waiting; e2e/matrix is the frame.

With NIMBLET_WRITE_MATRIX=1 the rows that went well are written into docs/fault-matrix.md.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from e2e.matrix import table
from e2e.matrix.play import Fault, Outcome, play
from e2e.matrix.rows import FAULTS
from e2e.matrix.scene import scene_of
from e2e.support.canaries import Canaries, none_seen
from e2e.support.kube import Kube

WRITE = "NIMBLET_WRITE_MATRIX"
AT_A_TIME = 6
"""On two cores: more rows at a time would wait for each other's pods."""
LONGEST_SECONDS = 420
Outcomes = Mapping[str, Future[Outcome]]


def _play(kube: Kube, fault: Fault, canaries: Canaries) -> Outcome:
    """Play a row; where it went well its pods make room for the next one."""
    with scene_of(kube, fault.namespace) as scene:
        outcome = play(scene, fault)
        none_seen(canaries.look(fault.namespace))
    kube.run("delete", "namespace", fault.namespace, "--wait=false")
    return outcome


@pytest.fixture(scope="module")
def outcomes(kube: Kube, canaries: Canaries, request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """The rows that were selected, all under way; on demand written down."""
    selected = {item.name for item in request.session.items}
    chosen = [fault for fault in FAULTS if f"test_fault[{fault.name}]" in selected]
    rows = sorted(chosen, key=lambda fault: not fault.slow)
    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="row") as pool:
        futures = {fault.name: pool.submit(_play, kube, fault, canaries) for fault in rows}
        yield futures
    good = {name: future.result() for name, future in futures.items() if future.exception() is None}
    if os.environ.get(WRITE) == "1":
        table.write(good)


@pytest.fixture
def namespace(kube: Kube, fault: Fault) -> Iterator[str]:
    """The row's namespace, for the diagnostics of a failure; its cluster-scoped admission goes with it."""
    yield fault.namespace
    admission = "mutatingadmissionpolicybindings,mutatingadmissionpolicies"
    kube.run("delete", admission, fault.namespace, "--ignore-not-found")
    if os.environ.get("NIMBLET_E2E_KEEP") != "1":
        kube.run("delete", "namespace", fault.namespace, "--ignore-not-found", "--wait=false")


@pytest.mark.timeout(LONGEST_SECONDS + 30, func_only=True)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(outcomes: Outcomes, fault: Fault, namespace: str) -> None:
    outcome = outcomes[fault.name].result(timeout=LONGEST_SECONDS)
    print(
        f"{namespace}: {fault.reason} {outcome.told_seconds:.1f} s after {fault.record.words}: {outcome.message}"
    )
    print(f"healed after {outcome.healed_seconds:.1f} s; answered beside the broken edit: {outcome.answered}")
