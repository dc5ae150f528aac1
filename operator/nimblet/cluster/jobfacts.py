# SPDX-License-Identifier: Apache-2.0
"""A Job of the loader and its pod as one fact. Pure."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from nimblet import labels
from nimblet.cluster.observed import Job, Pod, StatusCondition
from nimblet.cluster.podfailure import FILLER, INDEXER, RESOLVER, pod_failure
from nimblet.plan.facts import ContainerFailure, FailureKind, JobFacts

PODLESS_SECONDS: Final = 10.0
"""A Job without a pod for this long has its pods refused: its controller makes one within a second."""
_REFUSED: Final = re.compile(r'^(?:Error creating: )?pods "[^"]*" is forbidden: ')
"""What stands before the API server's reason; the pod's name in it is another at each try."""


def refusal_words(message: str) -> str:
    """Return why pods were refused, without the name of the pod of this try."""
    return _REFUSED.sub("", message)


def pods_of(job: Job, pods: Sequence[Pod]) -> list[Pod]:
    """Return a Job's own pods."""
    return [pod for pod in pods if _is_of(pod, job)]


def is_podless(job: Job, pods: Sequence[Pod]) -> bool:
    """Tell whether a Job that did not succeed has no pod that we or its controller know of."""
    return _condition(job, "Complete") is None and not job.status.active and not pods_of(job, pods)


def age_seconds(job: Job, *, now: datetime) -> float:
    """Return for how long a Job exists."""
    created = job.metadata.creation_timestamp
    return (now - created).total_seconds() if created is not None else 0.0


def job_facts(job: Job, pods: Sequence[Pod], *, now: datetime) -> JobFacts:
    """Return what is known of a resolver or fill Job; `pods` may hold others' too."""
    own = pods_of(job, pods)
    newest = max(own, key=lambda pod: (pod.metadata.creation_timestamp or now, pod.metadata.name), default=None)
    complete, failed = _condition(job, "Complete"), _condition(job, "Failed")
    ended = complete or failed
    loader = newest.container(container_of(job)) if newest is not None else None
    terminated = loader.state.terminated if loader is not None else None
    return JobFacts(
        name=job.metadata.name,
        uid=job.metadata.uid,
        source_hash=job.metadata.labels.get(labels.SOURCE_HASH, ""),
        credentials_hash=job.metadata.annotations.get(labels.CREDENTIALS_HASH, ""),
        attempt=_attempt(job),
        folder=job.metadata.labels.get(labels.CACHE_FOLDER, ""),
        claim_uid=job.metadata.annotations.get(labels.CLAIM_UID, ""),
        created_at=job.metadata.creation_timestamp,
        succeeded=complete is not None,
        failed=failed is not None,
        finished_at=ended.last_transition_time if ended is not None else None,
        exit_code=terminated.exit_code if terminated is not None else None,
        result=terminated.message if terminated is not None else None,
        failure=_failure(job, newest, now=now),
        message=failed.message if failed is not None else "",
    )


def container_of(job: Job) -> str:
    """Return the name of the container that does a Job's work: its component's."""
    component = job.metadata.labels.get(labels.COMPONENT, "")
    return component if component in (FILLER, INDEXER) else RESOLVER


def is_fill(job: Job) -> bool:
    """Tell whether a Job fills a cache."""
    return job.metadata.labels.get(labels.COMPONENT) == FILLER


def lacks_result(facts: JobFacts) -> bool:
    """Tell whether a finished Job's own words are still missing: its pod's last event has not come."""
    return facts.ended and facts.result is None


def _is_of(pod: Pod, job: Job) -> bool:
    owner = pod.metadata.controller()
    return owner is not None and owner.uid == job.metadata.uid


def _condition(job: Job, type_: str) -> StatusCondition | None:
    found = (item for item in job.status.conditions if item.type == type_ and item.status == "True")
    return next(found, None)


def _attempt(job: Job) -> int:
    text = job.metadata.annotations.get(labels.ATTEMPT, "")
    return int(text) if text.isdecimal() else 1


def _failure(job: Job, pod: Pod | None, *, now: datetime) -> ContainerFailure | None:
    if pod is not None:
        failure = pod_failure(pod)
        # What the resolver says itself, with its exit code and message, is its result and no failure to start.
        return None if failure is None or failure.kind is FailureKind.EXITED else failure
    finished = any(item.status == "True" and item.type in ("Complete", "Failed") for item in job.status.conditions)
    if finished or job.status.active or age_seconds(job, now=now) < PODLESS_SECONDS:
        return None
    return ContainerFailure(
        kind=FailureKind.REFUSED,
        container=container_of(job),
        message=f"No pod was made for the Job: `kubectl describe job {job.metadata.name}` shows what refused it.",
    )
