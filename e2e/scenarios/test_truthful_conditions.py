# SPDX-License-Identifier: Apache-2.0
"""Six failures, each provoked for real: the right reason, the next step, and soon after the cluster recorded it.

"Soon" counts from the cluster's own time of the record (a container's end, an event, a pod's condition) to the
moment at which a watcher of the CompactModel saw the reason.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from e2e.models import SMOLLM2
from e2e.support.hub import UNLOADABLE_FILE, WEIGHTS_URL, odd_sha256
from e2e.support.kube import Kube
from e2e.support.manifests import Manifest, model_manifest
from e2e.support.objects import Model, Pod
from e2e.support.stack import Stack, upgrade
from e2e.support.wait import until
from e2e.support.watching import DELIVERY_SECONDS, Sighting, Watch, watch
from nimblet import labels
from nimblet.api.common import Condition
from nimblet.conditions import Reason
from nimblet.nextstep import NEXT_STEP

NAME = "trouble"
SOON = timedelta(seconds=15)
CLOCK_GRAIN = timedelta(seconds=1)
"""Kubernetes stores whole seconds, cut off."""
PATIENCE_SECONDS = 120.0
MISSING_IMAGE = "nimblet.local/llamacpp:does-not-exist"


@dataclass(frozen=True)
class Told:
    """The condition that named the reason, and when a watcher saw it first."""

    condition: Condition
    seen_at: datetime


def first_told(watched: Watch, reason: Reason) -> Told:
    """Return the first sighting of Ready False with a reason."""

    def says(sighting: Sighting) -> bool:
        return Model.model_validate(sighting.body).shown("Ready") == ("False", reason.value)

    sighting = watched.first(says, what=f"Ready False with {reason}")
    ready = Model.model_validate(sighting.body).condition("Ready")
    assert ready is not None
    return Told(condition=ready, seen_at=sighting.seen_at)


def provoke(stack: Stack, namespace: str, manifest: Manifest, *, reason: Reason, step: str = "") -> Told:
    """Apply a model that can't work and return the condition that says why and what to do.

    `step` is the next step where the loader words it itself, knowing more than the reason tells.
    """
    with watch(stack.cluster, "compactmodels", namespace) as models:
        stack.kube.apply(manifest)
        wanted = {"Ready": reason.value}
        model = stack.kube.wait_condition(NAME, namespace, wanted=wanted, seconds=PATIENCE_SECONDS)
        told = first_told(models, reason)
    assert model.shown("Ready") == ("False", reason.value)
    assert model.shown("Stalled") == ("True", reason.value)
    assert model.shown("Serving")[0] in ("False", "")
    assert (step or NEXT_STEP[reason]) in told.condition.message
    return told


def assert_soon(told: Told, recorded: datetime) -> None:
    """The reason came after its cause, and within fifteen seconds."""
    delay = told.seen_at - recorded
    print(f"{told.condition.reason}: told {delay.total_seconds():.1f} s after it was recorded")
    assert -CLOCK_GRAIN <= delay <= SOON, f"told {delay.total_seconds():.1f} s after {recorded}"


def first_end(pods: Watch, *, component: str, reason: str = "") -> datetime:
    """Return when a container of a component's pods ended in failure first: a later try takes its place soon."""

    def ends(sighting: Sighting) -> list[datetime]:
        pod = Pod.model_validate(sighting.body)
        if pod.metadata.labels.get(labels.COMPONENT) != component:
            return []
        states = [state for item in pod.containers for state in (item.state, item.last_state)]
        ended = [state.terminated for state in states if state.terminated is not None]
        failed = [item for item in ended if item.exit_code != 0 and reason in ("", item.reason)]
        return [item.finished_at for item in failed if item.finished_at is not None]

    return min(ends(pods.first(lambda item: bool(ends(item)), what=f"a container of a {component} that failed")))


def first_event(kube: Kube, namespace: str, *, reason: str) -> datetime:
    """Return when an event of this reason happened first; who reports it writes it beside the status, or after."""

    def first() -> datetime | None:
        times = [event.at for event in kube.events(namespace) if event.reason == reason]
        return min((at for at in times if at is not None), default=None)

    return until(first, what=f"an Event {reason}", seconds=DELIVERY_SECONDS)


def test_unknown_repository(stack: Stack, namespace: str) -> None:
    manifest = model_manifest(NAME, namespace, uri="hf://nobody/no-such-model")
    step = "Correct source.uri, or reference a Secret with a token."
    with watch(stack.cluster, "pods", namespace) as pods:
        told = provoke(stack, namespace, manifest, reason=Reason.REPOSITORY_NOT_FOUND, step=step)
        ended = first_end(pods, component="resolver")
    assert "nobody/no-such-model" in told.condition.message
    assert_soon(told, ended)


def test_digest_of_the_spec_that_the_source_does_not_have(stack: Stack, namespace: str) -> None:
    integrity = {"sha256": {SMOLLM2.file: "0" * 64}}
    manifest = model_manifest(NAME, namespace, integrity=integrity)
    step = "Correct integrity.sha256, or do not use"
    with watch(stack.cluster, "pods", namespace) as pods:
        told = provoke(stack, namespace, manifest, reason=Reason.DIGEST_MISMATCH, step=step)
        ended = first_end(pods, component="resolver")
    assert_soon(told, ended)
    assert stack.kube.pods(namespace, model=NAME, component="model") == []


def test_bytes_that_differ_from_the_digest_the_source_reports(stack: Stack, namespace: str) -> None:
    manifest = model_manifest(NAME, namespace, uri="hf://faults/wrong-digest")
    step = "The file was replaced or tampered with: do not use it"
    with watch(stack.cluster, "pods", namespace) as pods:
        told = provoke(stack, namespace, manifest, reason=Reason.DIGEST_MISMATCH, step=step)
        ended = first_end(pods, component="model")
    assert SMOLLM2.sha256 in told.condition.message
    assert_soon(told, ended)
    assert stack.kube.model(NAME, namespace).shown("Verified") == ("False", Reason.DIGEST_MISMATCH.value)


@contextmanager
def missing_server_image(stack: Stack) -> Iterator[None]:
    """While the block runs, the chart's values name a server image that does not exist."""
    upgrade(stack, {"images": {"llamacpp": MISSING_IMAGE}})
    try:
        yield
    finally:
        upgrade(stack, {})


def test_image_that_can_not_be_pulled(stack: Stack, namespace: str) -> None:
    """Counted from the pod's status: a waiting state has no time of its own, so it is when a watcher saw it.

    The kubelet's event comes up to 15 s before, since the status waits for the pod's next turn after its back-off.
    """
    with missing_server_image(stack), watch(stack.cluster, "pods", namespace) as pods:
        told = provoke(stack, namespace, model_manifest(NAME, namespace), reason=Reason.IMAGE_PULL_FAILED)
        assert MISSING_IMAGE in told.condition.message
        # two watchers, either of which may be late: what is told before it is seen was told at once
        seen_at = pods.first(pull_failed, what="a pod whose image can't be pulled").seen_at
        assert_soon(told, min(seen_at, told.seen_at))
        event = first_event(stack.kube, namespace, reason="Failed")
        print(f"the kubelet's event came {(told.seen_at - event).total_seconds():.1f} s before")


def pull_failed(sighting: Sighting) -> bool:
    waiting = [item.state.waiting for item in Pod.model_validate(sighting.body).containers]
    return any(item is not None and item.reason in ("ErrImagePull", "ImagePullBackOff") for item in waiting)


def test_server_that_needs_more_memory_than_its_limit(stack: Stack, namespace: str) -> None:
    manifest = model_manifest(NAME, namespace, resources={"memory": "40Mi"})
    with watch(stack.cluster, "pods", namespace) as pods:
        told = provoke(stack, namespace, manifest, reason=Reason.OOM_KILLED)
        ended = first_end(pods, component="model", reason="OOMKilled")
    assert_soon(told, ended)


def test_server_that_ends_again_and_again(stack: Stack, namespace: str) -> None:
    manifest = model_manifest(
        NAME,
        namespace,
        uri=f"{WEIGHTS_URL}/{UNLOADABLE_FILE}",
        integrity={"sha256": {UNLOADABLE_FILE: odd_sha256(UNLOADABLE_FILE)}},
    )
    told = provoke(stack, namespace, manifest, reason=Reason.CRASH_LOOP_BACK_OFF)
    assert_soon(told, first_event(stack.kube, namespace, reason="BackOff"))


def test_pod_that_no_node_can_hold(stack: Stack, namespace: str) -> None:
    manifest = model_manifest(NAME, namespace, resources={"memory": "500Gi"})
    told = provoke(stack, namespace, manifest, reason=Reason.UNSCHEDULABLE)
    assert "Insufficient memory" in told.condition.message
    assert "500.00Gi" in told.condition.message
    assert_soon(told, unscheduled_at(stack.kube, namespace))


def unscheduled_at(kube: Kube, namespace: str) -> datetime:
    """Return when the scheduler said that it finds no node."""
    (pod,) = kube.pods(namespace, model=NAME, component="model")
    condition = pod.condition("PodScheduled")
    assert condition is not None
    assert condition.last_transition_time is not None
    return condition.last_transition_time
