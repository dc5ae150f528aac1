# SPDX-License-Identifier: Apache-2.0
"""What `scale` and `idle` measure on: a real API server with make-believe nodes, and operators beside it.

It takes no figure itself.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster.controlplane import ControlPlane, ControlPlaneOptions
from e2e.cluster.kwok import FakeNode
from nimblet import labels
from nimblet.cluster.client import Client, connect
from nimblet.plan.result import Manifest
from tests.cluster.crd_support import install_all
from tests.cluster.operator_support import NAMESPACE, OPERATOR_USER, Launcher, Process, grant_least_rights, stages
from tests.cluster.stub_server import stub_server

AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "Metadata", "users": [OPERATOR_USER]},
        {"level": "Metadata", "resources": [{"group": labels.GROUP, "resources": ["compactmodels"]}]},
        {"level": "None"},
    ],
}
CONCURRENCY: Final = 8
"""As many writes at a time as the operator has workers."""
SECONDS_EACH: Final = 2.0
"""Longest that is waited for one model, on average, before the run is given up."""
BASE_SECONDS: Final = 60.0
NODES: Final = 10
RATE: Final = 500
"""Requests a second that the cluster's controllers may make: by default they would be what is measured."""
SCRAPE_SECONDS: Final = 2.0
"""Between two looks at the operator's metrics: each is work for it."""
OK: Final = 200
ROOMY: Final = {"cpu": "1000", "memory": "4Ti", "pods": "10000", "ephemeral-storage": "100Ti"}
SIDE: Final = "operator-side"
"""Namespace of the models that the operator serves."""
BARE_SIDE: Final = "bare-side"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the operator's process used: seconds of CPU since its start, bytes resident."""

    cpu: float
    resident: float


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A control plane with the namespaces, and the means to start operators."""

    plane: ControlPlane
    launcher: Launcher
    directory: Path

    def audit(self) -> list[object]:
        """Return the API server's audit log: the operator's requests, and everybody's about models."""
        return [json.loads(line) for line in (self.directory / "audit.log").read_text().splitlines()]

    def start(self) -> Process:
        """Start an operator and wait until it is ready."""
        process = self.launcher.start()
        wait(lambda: process.probe("/readyz") == OK, BASE_SECONDS, "the operator ready")
        return process

    def create_models(self, count: int) -> None:
        """Create so many models, some at a time."""
        asyncio.run(_create_models(self.plane.kubeconfig, count))


@contextmanager
def bench_rig(timing: Mapping[str, int]) -> Iterator[Rig]:
    """Bring everything up, and take it down with the block."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nimblet-bench-")))
        plane = stack.enter_context(ControlPlane(_options(directory)))
        stub = stack.enter_context(stub_server())
        install_all(plane.api)
        for name in (NAMESPACE, SIDE, BARE_SIDE):
            plane.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        grant_least_rights(plane.api)
        for number in range(NODES):
            plane.add_node(FakeNode(f"node-{number}", allocatable=ROOMY))
        launcher = Launcher(
            kubeconfig=plane.user_kubeconfig(OPERATOR_USER),
            stub=stub,
            directory=directory,
            timing=timing,
        )
        stack.callback(launcher.end_all)
        yield Rig(plane=plane, launcher=launcher, directory=directory)


def _options(directory: Path) -> ControlPlaneOptions:
    policy = directory / "audit.yaml"
    policy.write_text(json.dumps(AUDIT_POLICY), encoding="utf-8")
    flags = (f"--audit-policy-file={policy}", f"--audit-log-path={directory / 'audit.log'}")
    return ControlPlaneOptions(scheduler=True, stages=stages(), extra_apiserver_args=flags, rate=RATE)


def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when the condition holds; TimeoutError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected {what} within {seconds:g} s")
        time.sleep(SCRAPE_SECONDS)


def wait_ready(process: Process, count: int) -> None:
    """Return when so many models are Ready by the operator's own metrics."""
    wait(lambda: _ready(process) >= count, BASE_SECONDS + SECONDS_EACH * count, f"{count} models Ready")


def _ready(process: Process) -> float:
    return process.metric('nimblet_conditions{kind="CompactModel",status="True",type="Ready"}')


def usage(process: Process) -> Usage:
    """Return what a process used so far, by its own metrics."""
    return Usage(
        cpu=process.metric("process_cpu_seconds_total"), resident=process.metric("process_resident_memory_bytes")
    )


async def _create_models(kubeconfig: Path, count: int) -> None:
    manifests: list[Manifest] = [
        {
            "apiVersion": labels.API_VERSION,
            "kind": "CompactModel",
            "metadata": {"name": f"m{number}", "namespace": SIDE},
            "spec": {"source": {"uri": "hf://org/repo"}},
        }
        for number in range(count)
    ]
    client = await connect(kubeconfig)
    await apply_each(client, [(manifest,) for manifest in manifests])
    await client.close()


async def apply_each(client: Client, works: Sequence[Sequence[Manifest]]) -> None:
    """Apply the manifests of each work in order, some works at a time."""
    room = asyncio.Semaphore(CONCURRENCY)

    async def do(work: Sequence[Manifest]) -> None:
        async with room:
            for manifest in work:
                await client.apply(manifest)

    await asyncio.gather(*(do(work) for work in works))
