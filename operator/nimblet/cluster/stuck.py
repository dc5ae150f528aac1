# SPDX-License-Identifier: Apache-2.0
"""What only Events tell: why a Job gets no pod, and why a pod's containers are not even made.

Asked by the uid of one object, and only while the object itself shows that it is stuck: no Event is watched or
kept. The newest Warning is quoted without what changes at each try, so that a status that quotes it stays still.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from nimblet.cluster.client import Client
from nimblet.cluster.errors import Forbidden
from nimblet.cluster.jobfacts import PODLESS_SECONDS, age_seconds, is_podless, pods_of, refusal_words
from nimblet.cluster.observed import Event, Job, Metadata, Pod
from nimblet.cluster.podfailure import ENDED_PHASES, RESOLVER, is_being_set_up, pod_failure
from nimblet.cluster.resources import EVENT
from nimblet.plan.facts import ContainerFailure, FailureKind

FIRST_LOOK_SECONDS: Final = 3.0
"""What is set up in less was never stuck: a controller makes a pod, and a kubelet mounts, within a second."""
NEXT_LOOK_SECONDS: Final = 8.0
"""Between two looks at what is stuck: with a reconcile's own time a Warning is told within 15 seconds."""
REFUSALS: Final = frozenset({"FailedCreate"})
MOUNTS: Final = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
EVICTIONS: Final = frozenset({"Evicted", "Preempting"})
EVICTION_SECONDS: Final = 60.0
"""How long an ended pod is asked about: by then another has replaced it, and it only waits to be collected."""
SANDBOXES: Final = frozenset({"FailedCreatePodSandBox", "NetworkNotReady"})
GIVEN_UP: Final = frozenset({FailureKind.EVICTED, FailureKind.REFUSED})
_SUMMARY: Final = "Unable to attach or mount volumes"
"""The kubelet's summary after two minutes, which drops the cause."""
_LONG_ID: Final = re.compile(r"\b[0-9a-f]{32,64}\b")
_COLON: Final = re.compile(r"\s+:\s+")
_EPOCH: Final = datetime.fromtimestamp(0, UTC)

log = logging.getLogger(__name__)


async def newest_warning(client: Client, about: Metadata, *, reasons: Iterable[str]) -> Event | None:
    """Return the newest Warning about one object, of the reasons asked for."""
    wanted = frozenset(reasons)
    selector = f"regarding.uid={about.uid},type=Warning"
    listed = client.list(EVENT, namespace=about.namespace, field_selector=selector)
    try:
        found = [event async for body in listed if (event := Event.model_validate(body)).reason in wanted]
    except Forbidden as error:
        log.warning("%s/%s: its Events can't be read: %s", about.namespace, about.name, error)
        return None
    return max(found, key=lambda event: (not event.note.startswith(_SUMMARY), _at(event)), default=None)


def _at(event: Event) -> datetime:
    series = event.series.last_observed_time if event.series is not None else None
    return series or event.deprecated_last_timestamp or event.event_time or _EPOCH


async def blocked_job(client: Client, job: Job, pods: Sequence[Pod], *, now: datetime) -> ContainerFailure | None:
    """Return why a Job has no pod, in the API server's words, or why its pod is not set up."""
    for pod in pods_of(job, pods):
        failure = await setup_failure(client, pod, now=now)
        if failure is not None:
            return failure
    if not is_podless(job, pods) or age_seconds(job, now=now) < FIRST_LOOK_SECONDS:
        return None
    event = await newest_warning(client, job.metadata, reasons=REFUSALS)
    if event is None:
        return None
    return ContainerFailure(kind=FailureKind.REFUSED, container=RESOLVER, message=refusal_words(event.note))


async def blocked_set(client: Client, found: Metadata, *, missing: bool, now: datetime) -> str:
    """Return why a StatefulSet makes no more pods, in the API server's words; empty where nothing is told."""
    since = found.creation_timestamp
    if not missing or since is None or (now - since).total_seconds() < FIRST_LOOK_SECONDS:
        return ""
    event = await newest_warning(client, found, reasons=REFUSALS)
    return refusal_words(event.note) if event is not None else ""


def next_job_look(job: Job, pods: Sequence[Pod], *, now: datetime) -> float:
    """Return seconds until an unfinished Job should be looked at again: a refused pod sends no event of ours."""
    if is_podless(job, pods):
        return next_look(age_seconds(job, now=now))
    wait = next_setup_look(pods_of(job, pods), now=now)
    return wait if wait is not None else PODLESS_SECONDS


async def setup_failure(client: Client, pod: Pod, *, now: datetime) -> ContainerFailure | None:
    """Return why a pod's volumes or network are not ready, if it waits for them too long."""
    if pod_failure(pod) is not None or setup_seconds(pod, now=now) < FIRST_LOOK_SECONDS:
        return None
    event = await newest_warning(client, pod.metadata, reasons=MOUNTS | SANDBOXES)
    if event is None:
        return None
    kind = FailureKind.MOUNT if event.reason in MOUNTS else FailureKind.SANDBOX
    return ContainerFailure(kind=kind, container="", message=still(event.note))


async def eviction(client: Client, pod: Pod, *, now: datetime) -> ContainerFailure | None:
    """Return why an ended pod was given up, where its status forgot.

    A server that ends well at SIGTERM leaves the kubelet a pod that Succeeded, without a word of the eviction.
    """
    ready = pod.condition("Ready")
    ended_at = ready.last_transition_time if ready is not None else None
    known = pod_failure(pod)
    if pod.status.phase not in ENDED_PHASES or (known is not None and known.kind in GIVEN_UP):
        return None
    if ended_at is None or (now - ended_at).total_seconds() > EVICTION_SECONDS:
        return None
    event = await newest_warning(client, pod.metadata, reasons=EVICTIONS)
    if event is None:
        return None
    return ContainerFailure(kind=FailureKind.EVICTED, container="", message=still(event.note), at=ended_at)


def still(words: str) -> str:
    """Return a kubelet's words without ids that differ from try to try."""
    return _COLON.sub(": ", _LONG_ID.sub("…", " ".join(words.split())))


def setup_seconds(pod: Pod, *, now: datetime) -> float:
    """Return for how long the kubelet has been setting a pod up; 0 for one that is not being set up."""
    scheduled = pod.condition("PodScheduled")
    since = scheduled.last_transition_time if scheduled is not None else None
    return (now - since).total_seconds() if since is not None and is_being_set_up(pod) else 0.0


def next_setup_look(pods: Sequence[Pod], *, now: datetime) -> float | None:
    """Return seconds until pods that are being set up should be looked at again; None where none is."""
    ages = [setup_seconds(pod, now=now) for pod in pods if is_being_set_up(pod)]
    return min((next_look(age) for age in ages), default=None)


def next_look(age: float) -> float:
    """Return seconds until something unfinished of this age should be looked at again."""
    return FIRST_LOOK_SECONDS - age if age < FIRST_LOOK_SECONDS else NEXT_LOOK_SECONDS
