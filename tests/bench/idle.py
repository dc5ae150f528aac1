# SPDX-License-Identifier: Apache-2.0
"""What an operator costs that has nothing to do: `python -m tests.bench idle`.

CPU of its process while models stand Ready on a real API server, without a resync in the time and with one a
minute (the default is one in ten minutes).
"""

import os
import sys
import time
from dataclasses import dataclass, replace
from typing import Final

from tests.bench.plane import bench_rig, usage, wait_ready
from tests.bench.scale import TIMING
from tests.cluster.operator_support import Process

COUNT: Final = 100
SETTLE_SECONDS: Final = 15.0
"""After the last model is Ready: the last looks are over then."""
WINDOW_SECONDS: Final = 65.0
RESYNC_SECONDS: Final = 60


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Shares of one core, and the resident memory in MiB."""

    count: int
    quiet: float
    resyncing: float
    resident: float
    load: float


def main() -> int:
    """Measure and print; nothing fails."""
    sys.stdout.write(f"{table(measure(COUNT))}\n")
    return 0


def measure(count: int) -> Idle:
    """Make the models Ready, then watch one operator without and one with resyncs."""
    with bench_rig(TIMING) as rig:
        first = rig.start()
        rig.create_models(count)
        wait_ready(first, count)
        quiet = share(first)
        resident = usage(first).resident / 2**20
        first.terminate()
        launcher = replace(rig.launcher, timing={**TIMING, "resyncSeconds": RESYNC_SECONDS})
        second = replace(rig, launcher=launcher).start()
        wait_ready(second, count)
        resyncing = share(second)
        load = os.getloadavg()[0]
        second.terminate()
    return Idle(count=count, quiet=quiet, resyncing=resyncing, resident=resident, load=load)


def share(process: Process) -> float:
    """Return the share of one core that a process used while nothing happened."""
    time.sleep(SETTLE_SECONDS)
    began, before = time.monotonic(), usage(process).cpu
    time.sleep(WINDOW_SECONDS)
    return (usage(process).cpu - before) / (time.monotonic() - began)


def table(idle: Idle) -> str:
    """Return the figures as text."""
    rows = (
        f"idle models                        {idle.count}",
        f"operator's CPU, no resync          {idle.quiet:.2%} of one core over {WINDOW_SECONDS:.0f} s",
        f"operator's CPU, a resync a minute  {idle.resyncing:.2%} of one core over {WINDOW_SECONDS:.0f} s",
        f"operator's memory                  {idle.resident:.0f} MiB",
        f"load of the machine                {idle.load:.1f} on {os.cpu_count()} cores",
    )
    return "\n".join(rows)
