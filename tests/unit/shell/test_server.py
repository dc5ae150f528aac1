# SPDX-License-Identifier: Apache-2.0
"""Probes and metrics over real HTTP."""

import aiohttp
import pytest

from nimblet.cluster.mirror import Mirror
from nimblet.shell.metrics import Metrics, StateCollector
from nimblet.shell.queue import Queue
from nimblet.shell.server import Limits, Signs, Verdict, application, liveness, readiness, serve
from tests.unit.cluster_facts.builders import model, pod
from tests.unit.shell.virtual import dice

LIMITS = Limits(resync=1000, queue=300, lease=60)


def signs(
    *,
    leads: bool = True,
    resync: float | None = 10,
    queue: float = 0,
    lease: float | None = 1,
    running: float = 50,
) -> Signs:
    return Signs(leads=leads, running=running, resync=resync, queue=queue, lease=lease)


@pytest.mark.parametrize(
    ("sign", "alive"),
    [
        (signs(), True),
        (signs(resync=1001), False),
        (signs(resync=None, running=999), True),
        (signs(resync=None, running=1001), False),
        (signs(queue=301), False),
        (signs(leads=False, resync=None, running=99999), True),
        (signs(leads=False, lease=61), False),
    ],
)
def test_liveness(sign: Signs, alive: bool) -> None:
    assert liveness(sign, LIMITS).ok is alive


def test_readiness() -> None:
    assert readiness(signs()).ok
    assert readiness(signs(leads=False, resync=None)).ok
    assert not readiness(signs(resync=None)).ok


@pytest.mark.asyncio
async def test_the_port_serves_probes_and_metrics() -> None:
    mirror, metrics = Mirror(), Metrics()
    mirror.put("CompactModel", model(placed="False"))
    mirror.put("Pod", pod())
    aged = {"name": "docs", "namespace": "team", "uid": "u", "resourceVersion": "1"}
    mirror.put("RetrievalIndex", {"metadata": aged, "status": {"lastIndexedTime": "1970-01-01T00:01:40Z"}})
    metrics.wrote("apply", "Deployment")
    metrics.registry.register(
        StateCollector(queue=Queue(rng=dice()), mirror=mirror, clock=lambda: 5.0, resync_age=lambda: 3.0)
    )
    app = application(
        registry=metrics.registry,
        live=lambda: Verdict(ok=True, why="fine"),
        ready=lambda: Verdict(ok=False, why="reading"),
    )
    runner = await serve(app, port=0)
    try:
        root = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{root}/livez") as live, session.get(f"{root}/readyz") as ready:
                assert (live.status, await live.text()) == (200, "fine\n")
                assert (ready.status, await ready.text()) == (503, "reading\n")
            async with session.get(f"{root}/metrics") as response:
                lines = (await response.text()).splitlines()
    finally:
        await runner.cleanup()
    assert 'nimblet_writes_total{kind="Deployment",verb="apply"} 1.0' in lines
    assert 'nimblet_conditions{kind="CompactModel",status="False",type="Placed"} 1.0' in lines
    assert 'nimblet_mirror_objects{kind="Pod"} 1.0' in lines
    assert "nimblet_resync_age_seconds 3.0" in lines
    assert "nimblet_queue_depth 0.0" in lines
    indexed = 'nimblet_index_last_indexed_timestamp_seconds{name="docs",namespace="team"} 100.0'
    assert indexed in lines, "the lag of an index is the one figure with a name"
    assert not any("small" in line for line in lines)
