# SPDX-License-Identifier: Apache-2.0
"""Many CompactModels at once on a real API server with make-believe nodes: `python -m tests.bench scale`.

Times and requests come from the API server's own audit log, CPU and memory from the operator's metrics. Beside it
a bare client makes the writes that the operator makes for one model, as fast as it can, in the same run.
"""

import asyncio
import os
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from nimblet.cluster.client import connect
from nimblet.plan.facts import ModelFacts
from nimblet.plan.result import Manifest
from tests.bench.plane import BARE_SIDE, SIDE, Usage, apply_each, bench_rig, usage, wait_ready
from tests.builders import API_KEY, a_model, base_facts, plan_of
from tests.cluster.operator_support import OPERATOR_USER

COUNT: Final = 100
TIMING: Final = {"resyncSeconds": 600, "probeRetrySeconds": 1, "retryBaseSeconds": 60, "stableSeconds": 1}
CREATED: Final = 201


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run. `deployments` are seconds from a model's creation to its Deployment's."""

    count: int
    deployments: tuple[float, ...]
    span: float
    """Seconds from the first model's creation to the last Deployment's."""
    ready: float
    """Seconds from the first model's creation until all were Ready."""
    bare: float
    """Seconds in which the bare client made its writes for as many models."""
    bare_cpu: float
    writes_each: int
    before: Usage
    after: Usage
    verbs: Counter[str]


def measure(count: int) -> Figures:
    """Bring up a control plane, let the operator and then the bare client work, and take everything down."""
    with bench_rig(TIMING) as rig:
        process = rig.start()
        before = usage(process)
        began = time.monotonic()
        rig.create_models(count)
        wait_ready(process, count)
        ready = time.monotonic() - began
        after = usage(process)
        process.terminate()
        manifests = writes_of_one()
        cpu = time.process_time()
        bare = asyncio.run(_bare(rig.plane.kubeconfig, BARE_SIDE, manifests, count))
        bare_cpu = time.process_time() - cpu
        entries = rig.audit()
    deployments, span = times_of(entries, SIDE)
    return Figures(
        count=count,
        deployments=deployments,
        span=span,
        ready=ready,
        bare=bare,
        bare_cpu=bare_cpu,
        writes_each=len(manifests),
        before=before,
        after=after,
        verbs=verbs_of(entries, SIDE),
    )


def writes_of_one() -> tuple[Manifest, ...]:
    """Return what the operator applies for one model: the children, the resolver Job, the artifact."""
    model = a_model(name="name")
    resolving = plan_of(model, ModelFacts(api_key=API_KEY)).children
    running = plan_of(model, base_facts(model)).children
    known = {(item["kind"], _name(item)) for item in resolving}
    return (*resolving, *(item for item in running if (item["kind"], _name(item)) not in known))


def _name(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return str(metadata["name"]) if isinstance(metadata, dict) else ""


async def _bare(kubeconfig: Path, namespace: str, manifests: Sequence[Manifest], count: int) -> float:
    """Apply the manifests `count` times under other names; return the seconds it took."""
    works = [[renamed(manifest, f"b{number}", namespace) for manifest in manifests] for number in range(count)]
    client = await connect(kubeconfig)
    began = time.monotonic()
    await apply_each(client, works)
    took = time.monotonic() - began
    await client.close()
    return took


def renamed(manifest: Manifest, prefix: str, namespace: str) -> Manifest:
    """Return the manifest for another place; what its pods refer to need not exist."""
    metadata = manifest["metadata"]
    if not isinstance(metadata, dict):
        raise TypeError(f"expected metadata to be a dict, found {type(metadata).__name__}")
    return {**manifest, "metadata": {**metadata, "name": f"{prefix}-{metadata['name']}", "namespace": namespace}}


def times_of(entries: Sequence[Any], namespace: str) -> tuple[tuple[float, ...], float]:
    """Return sorted seconds from each model's creation to its Deployment's, and from the first to the last."""
    created: dict[str, datetime] = {}
    deployed: dict[str, datetime] = {}
    for entry in entries:
        ref, code = entry.get("objectRef") or {}, (entry.get("responseStatus") or {}).get("code")
        if ref.get("namespace") != namespace or code != CREATED:
            continue
        at = datetime.fromisoformat(entry["stageTimestamp"])
        if ref["resource"] == "compactmodels":
            created[ref["name"]] = at
        elif ref["resource"] == "deployments":
            deployed[str(ref["name"]).removesuffix("-model")] = at
    times = sorted((deployed[name] - at).total_seconds() for name, at in created.items())
    return tuple(times), (max(deployed.values()) - min(created.values())).total_seconds()


def verbs_of(entries: Sequence[Any], namespace: str) -> Counter[str]:
    """Return the operator's requests in a namespace by verb and resource."""
    counted: Counter[str] = Counter()
    for entry in entries:
        ref = entry.get("objectRef") or {}
        ours = entry["user"]["username"] == OPERATOR_USER
        if ours and (ref.get("namespace") == namespace or ref.get("resource") == "namespaces"):
            parts = [entry["verb"], ref["resource"], ref.get("subresource", "")]
            counted["/".join(part for part in parts if part)] += 1
    return counted


def table(figures: Figures) -> str:
    """Return the figures as text, aims beside."""
    count = figures.count
    rate, bare = count / figures.span, count / figures.bare
    cuts = statistics.quantiles(figures.deployments, n=100, method="inclusive")
    cpu = (figures.after.cpu - figures.before.cpu) / count
    before, after = figures.before.resident / 2**20, figures.after.resident / 2**20
    rows = [
        f"models at once                     {count}",
        f"to its Deployment, p50 / p99       {cuts[49]:.2f} s / {cuts[98]:.2f} s",
        f"all Deployments                    {figures.span:.1f} s, {rate:.1f} models/s",
        f"all Ready                          {figures.ready:.1f} s",
        f"bare client, {figures.writes_each} writes a model     {figures.bare:.1f} s, {bare:.1f} models/s",
        f"operator / bare client             {rate / bare:.2f} (aim at least 0.40)",
        f"operator's CPU a model             {cpu * 1000:.1f} ms (aim at most 8)",
        f"bare client's CPU a model          {figures.bare_cpu / count * 1000:.1f} ms",
        f"operator's memory before / after   {before:.0f} / {after:.0f} MiB (aim at most 200)",
        f"requests a model                   {sum(figures.verbs.values()) / count:.1f}",
    ]
    rows.append(f"load of the machine                {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    rows += [f"  {name:<33}{number / count:.2f}" for name, number in figures.verbs.most_common()]
    return "\n".join(rows)
