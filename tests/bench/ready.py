# SPDX-License-Identifier: Apache-2.0
"""Warm apply → Ready on the real cluster, where the time goes, and the same server started by hand beside it.

Times are those at which watchers saw the steps: Kubernetes' own are whole seconds. Warm means that images are on
the node and the operator has served a model before.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx

from e2e.models import model_path
from e2e.support.kube import Kube
from e2e.support.manifests import model_manifest, namespace_manifest
from e2e.support.objects import Model, Pod
from e2e.support.watching import Sighting, Watch, watch
from nimblet.labels import COMPONENT, MODEL
from nimblet.plan.sizing import Demand
from tests.bench.localserver import API_KEY, BenchError, run_server
from tests.bench.sizing import Case, server_args

NAMESPACE = "bench"
AIM_SECONDS = 12.0
READY_SECONDS = 120.0
STEPS = ("resolve", "make pod", "volume, fetch", "load", "probe")
"""What lies between apply, artifact stored, pod made, loader done, pod ready, CompactModel Ready."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each step of one apply, in the order of STEPS."""

    seconds: tuple[float, ...]

    @property
    def total(self) -> float:
        """Seconds from apply to Ready."""
        return sum(self.seconds)


def time_apply(kube: Kube, name: str) -> Timing:
    """Apply a model, wait until it is Ready, and return how long each step took; the model is removed again."""
    with ExitStack() as stack:
        kinds = ("compactmodels", "configmaps", "pods")
        models, maps, pods = (stack.enter_context(watch(kube.cluster, kind, NAMESPACE)) for kind in kinds)
        started = datetime.now(UTC)
        kube.apply(model_manifest(name, NAMESPACE))
        kube.wait_ready(name, NAMESPACE, seconds=READY_SECONDS)
        marks = [
            started,
            _seen(maps, lambda item: _is_artifact(item, name), "the artifact"),
            _seen(pods, lambda item: _server(item, name) is not None, "the pod"),
            _seen(pods, lambda item: _loaded(_server(item, name)), "the end of the loader"),
            _seen(pods, lambda item: _ready(_server(item, name)), "the ready pod"),
            _seen(models, lambda item: _model_ready(item, name), "the Ready model"),
        ]
    kube.run("delete", "compactmodel", name, f"--namespace={NAMESPACE}", "--wait=true")
    return Timing(tuple((after - before).total_seconds() for before, after in pairwise(marks)))


def _seen(watched: Watch, holds: Callable[[Sighting], bool], what: str) -> datetime:
    return watched.first(holds, what=what).seen_at


def _is_artifact(item: Sighting, name: str) -> bool:
    metadata = item.body["metadata"]
    return isinstance(metadata, dict) and str(metadata["name"]).startswith(f"{name}-artifact-")


def _server(item: Sighting, name: str) -> Pod | None:
    pod = Pod.model_validate(item.body)
    labels = pod.metadata.labels
    return pod if labels.get(MODEL) == name and labels.get(COMPONENT) == "model" else None


def _loaded(pod: Pod | None) -> bool:
    ended = [item.state.terminated for item in pod.status.init_container_statuses] if pod is not None else []
    return bool(ended) and all(item is not None for item in ended)


def _ready(pod: Pod | None) -> bool:
    return pod is not None and pod.ready


def _model_ready(item: Sighting, name: str) -> bool:
    model = Model.model_validate(item.body)
    return model.metadata.name == name and model.shown("Ready")[0] == "True"


def time_by_hand(kube: Kube, name: str, *, binary: Path) -> float:
    """Start the same server with the same arguments on this machine; seconds until it gave a token."""
    kube.apply(model_manifest(name, NAMESPACE))
    sizing = kube.wait_ready(name, NAMESPACE, seconds=READY_SECONDS).status.sizing
    kube.run("delete", "compactmodel", name, f"--namespace={NAMESPACE}", "--wait=true")
    if sizing is None:
        raise BenchError("expected status.sizing of a Ready model, found none")
    demand = Demand(context_length=1024, parallel=1, kv_cache_type="f16", prompt_cache_mebibytes=64)
    model = model_path("smollm2")
    args = server_args(Case(name=name, model=model, demand=demand), sizing)
    begin = datetime.now(UTC)
    with (
        TemporaryDirectory(prefix="nimblet-bench-") as folder,
        run_server(binary, args, model=model, folder=Path(folder)) as server,
    ):
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        headers = {"Authorization": f"Bearer {API_KEY}"}
        httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=60).raise_for_status()
        return (datetime.now(UTC) - begin).total_seconds()


def measure_ready(kube: Kube, *, binary: Path, runs: int) -> tuple[list[Timing], float]:
    """Return the timings of warm applies, and of the server by hand (which also warms the cluster)."""
    kube.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    kube.apply(namespace_manifest(NAMESPACE))
    try:
        by_hand = time_by_hand(kube, "warm", binary=binary)
        return [time_apply(kube, f"run-{number}") for number in range(1, runs + 1)], by_hand
    finally:
        kube.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")


def ready_table(timings: Sequence[Timing], by_hand: float) -> str:
    """Return the figures for people: medians, shares, and the ratio to the server by hand."""
    middle = [median(timing.seconds[index] for timing in timings) for index in range(len(STEPS))]
    total = median(timing.total for timing in timings)
    lines = [
        f"  {step:<16}{seconds:>7.2f} s{seconds / sum(middle):>7.0%}"
        for step, seconds in zip(STEPS, middle, strict=True)
    ]
    verdict = "within" if total <= AIM_SECONDS else "over"
    spread = ", ".join(f"{timing.total:.2f}" for timing in timings)
    lines.append(
        f"  {'apply to Ready':<16}{total:>7.2f} s  {verdict} the aim of {AIM_SECONDS:.0f} s (runs: {spread})"
    )
    lines.append(f"  {'server by hand':<16}{by_hand:>7.2f} s  start to first token; ratio {total / by_hand:.1f}")
    return "\n".join(lines)
