# SPDX-License-Identifier: Apache-2.0
"""What settled RetrievalIndexes and Assistants cost: `python -m tests.bench settled`.

Requests are counted in the API server's own audit log, CPU is the operator's own figure, and what retrievers and
gateways are asked is counted by their stub. Nothing changes in the time, and there is no resync.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from nimblet import labels
from tests.bench.idle import SETTLE_SECONDS
from tests.bench.plane import SIDE, Rig, bench_rig, usage, wait
from tests.bench.scale import TIMING
from tests.cluster.operator_support import OPERATOR_USER, SMALLEST, Process, View
from tests.cluster.settling import passes
from tests.cluster.stub_server import RETRIEVER_STATUS

COUNT: Final = 50
"""Indexes, and as many Assistants that answer from one each."""
PATIENCE_SECONDS: Final = 420.0
WINDOW_SECONDS: Final = 60.0
GENERATION: Final = {
    "name": "g000001",
    "embedding": "e",
    "documents": 2,
    "chunks": 12,
    "bytes": 4096,
    "sealed": True,
    "gate": None,
}
MAPS: Final = f"/api/v1/namespaces/{SIDE}/configmaps"


@dataclass(frozen=True, kw_only=True)
class Settled:
    """One run: what happened in `seconds` in which nothing was to do."""

    count: int
    seconds: float
    cpu: float
    passes: float
    asked: int
    requests: Counter[str]
    load: float


def measure(count: int) -> Settled:
    """Let so many indexes and Assistants become Ready, then look on."""
    with bench_rig(TIMING) as rig:
        process = rig.start()
        _make(rig, process, count)
        time.sleep(SETTLE_SECONDS)
        began, at, before = time.monotonic(), datetime.now(UTC), usage(process)
        seen, asked = passes(process, *SMALLEST), rig.launcher.stub.questions
        time.sleep(WINDOW_SECONDS)
        until, seconds = datetime.now(UTC), time.monotonic() - began
        cpu = usage(process).cpu - before.cpu
        seen, asked = passes(process, *SMALLEST) - seen, rig.launcher.stub.questions - asked
        load = os.getloadavg()[0]
        process.terminate()
        requests = requests_between(rig.audit(), at, until)
    return Settled(count=count, seconds=seconds, cpu=cpu, passes=seen, asked=asked, requests=requests, load=load)


def _make(rig: Rig, process: Process, count: int) -> None:
    """Make a model, so many indexes of one ConfigMap, and an Assistant on each; wait until all are Ready."""
    stub, view = rig.launcher.stub, View(api=rig.plane.api, namespace=SIDE)
    head = {"name": "handbook", "namespace": SIDE, "labels": {labels.USE: "true"}}
    view.api.create(MAPS, {"metadata": head, "data": {"a.md": "Nimblet is nimble."}})
    view.create("small")
    indexes, assistants = view.of("RetrievalIndex"), view.of("Assistant")
    # all retrievers are one stub, which holds a generation from the start: that is the one pinned
    stub.retriever = {**RETRIEVER_STATUS, "serving": GENERATION["name"], "generations": [GENERATION]}
    for number in range(count):
        indexes.create(f"i{number}", generation=GENERATION["name"])
    for number in range(count):
        assistants.create(f"a{number}", indexRefs=[{"name": f"i{number}"}], grounding="Required")
    for kind in ("RetrievalIndex", "Assistant"):
        line = f'nimblet_conditions{{kind="{kind}",status="True",type="Ready"}}'
        wait(lambda line=line: process.metric(line) >= count, PATIENCE_SECONDS, f"{count} Ready of {kind}")  # type: ignore[misc]


def requests_between(entries: Iterable[Any], since: datetime, until: datetime) -> Counter[str]:
    """Return the operator's requests that ended between two times, by verb and resource; watches left out."""
    counted: Counter[str] = Counter()
    for entry in entries:
        ours = entry["user"]["username"] == OPERATOR_USER and entry["verb"] != "watch"
        if ours and since <= datetime.fromisoformat(entry["stageTimestamp"]) <= until:
            ref = entry.get("objectRef") or {}
            counted["/".join(part for part in (entry["verb"], ref.get("resource", "")) if part)] += 1
    return counted


def table(found: Settled) -> str:
    """Return the figures as text."""
    rows: Sequence[str] = (
        f"settled                              {found.count} indexes, {found.count} Assistants",
        f"requests to the API server           {found.requests.total() / found.seconds:.2f}/s",
        f"reconcile passes                     {found.passes / found.seconds:.2f}/s",
        f"questions to retrievers and gateways {found.asked / found.seconds:.2f}/s",
        f"operator's CPU                       {found.cpu / found.seconds:.2%} of one core",
        f"load of the machine                  {found.load:.1f} on {os.cpu_count()} cores",
    )
    each = [f"  {name:<35}{number / found.seconds:.2f}/s" for name, number in found.requests.most_common()]
    return "\n".join([*rows, *each])
