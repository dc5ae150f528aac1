# SPDX-License-Identifier: Apache-2.0
"""Why a pod does not run, out of what the kubelet, the scheduler and the eviction recorded. Pure.

Messages carry no counters or back-off times, so that a status that quotes them stays still.
"""

import re
from collections.abc import Iterator
from typing import Final

from nimblet.cluster.observed import ContainerStatus, Pod, Terminated, Waiting
from nimblet.manifests.gate import GATE
from nimblet.manifests.loader import DRAFT_LOADER
from nimblet.plan.exitcodes import adapter_of
from nimblet.plan.facts import ContainerFailure, FailureKind
from nimblet.plan.failure import RETRIEVER

SERVER: Final = "server"
LOADER: Final = "loader"
RESOLVER: Final = "resolver"
FILLER: Final = "filler"
INDEXER: Final = "indexer"
STOPPED_EXIT: Final = 143
"""Of a gate that was asked to end: 128 + SIGTERM."""
TELLING: Final = frozenset({LOADER, DRAFT_LOADER, RETRIEVER, GATE})
"""Containers whose termination message names a reason."""

IMAGE_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
CONFIG_REASONS: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreStartHookError"}
)
SETTING_UP: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Waiting reasons of containers that were never made: the kubelet is at the pod's volumes, network or images."""
CRASH_REASON: Final = "CrashLoopBackOff"
OOM_REASON: Final = "OOMKilled"
SIGKILL_EXIT: Final = 137
"""128 + SIGKILL: the exit code that an OOM kill leaves where the runtime lost its reason."""
CRASHES_OF_A_LOOP: Final = 2
"""Ends of a container from which on it is called a crash loop: the kubelet backs off from the second."""
MAX_TAIL: Final = 600
"""Longest quote of a container's last words, in characters."""
_BACK_OFF: Final = re.compile(r'^Back-off pulling image "[^"]*": (ErrImagePull: )?')
"""What the kubelet puts before the cause between two tries (since 1.31; before, it keeps the cause to itself)."""
_OOM_WORDS: Final = re.compile(r"\boom\b|oom-?killed|out of memory", re.IGNORECASE)


def pod_failure(pod: Pod) -> ContainerFailure | None:
    """Return the failure that keeps a pod from running, or its last one that may come back; None if none.

    A pod that is being deleted ends its containers itself: of it only an eviction is told.
    """
    evicted = _evicted(pod)
    if evicted is not None or pod.metadata.deletion_timestamp is not None:
        return evicted
    unplaced = _unplaced(pod)
    if unplaced is not None:
        return unplaced
    failures = list(_container_failures(pod))
    return next((item for item in failures if not item.running_again), failures[0] if failures else None)


ENDED_PHASES: Final = frozenset({"Succeeded", "Failed"})
"""Phases from which a pod never comes back."""


def is_being_set_up(pod: Pod) -> bool:
    """Tell whether a pod has its node, and the kubelet is still at its volumes or network.

    Since 1.29 a condition tells when these are done; before, pulling images counts as well.
    """
    scheduled, prepared = pod.condition("PodScheduled"), pod.condition("PodReadyToStartContainers")
    if pod.status.phase != "Pending" or pod.metadata.deletion_timestamp is not None:
        return False
    if scheduled is None or scheduled.status != "True" or (prepared is not None and prepared.status == "True"):
        return False
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    return all(item.state.waiting is not None and item.state.waiting.reason in SETTING_UP for item in statuses)


def _evicted(pod: Pod) -> ContainerFailure | None:
    status = pod.status
    disruption = pod.condition("DisruptionTarget")
    if disruption is not None and disruption.status == "True":
        return ContainerFailure(
            kind=FailureKind.EVICTED,
            container="",
            message=disruption.message or disruption.reason,
            at=disruption.last_transition_time,
        )
    if status.phase != "Failed" or not status.reason:
        return None
    kind = FailureKind.EVICTED if status.reason in _EVICTIONS else FailureKind.REFUSED
    ready = pod.condition("Ready")
    return ContainerFailure(
        kind=kind,
        container="",
        message=f"{status.reason}: {status.message}".rstrip(": "),
        at=ready.last_transition_time if ready is not None else None,
    )


_EVICTIONS: Final = frozenset({"Evicted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "Terminated"})
"""Pod reasons with which a node gives a pod up; any other on a failed pod is the kubelet's refusal to start it."""


def _unplaced(pod: Pod) -> ContainerFailure | None:
    scheduled = pod.condition("PodScheduled")
    if scheduled is None or scheduled.status != "False":
        return None
    return ContainerFailure(
        kind=FailureKind.UNSCHEDULABLE,
        container="",
        message=scheduled.message or scheduled.reason,
        at=scheduled.last_transition_time,
    )


def _container_failures(pod: Pod) -> Iterator[ContainerFailure]:
    for status in pod.status.init_container_statuses:
        failure = _container_failure(status, is_init=True)
        if failure is not None:
            yield failure
    for status in pod.status.container_statuses:
        failure = _container_failure(status, is_init=False)
        if failure is not None:
            yield failure


def _container_failure(status: ContainerStatus, *, is_init: bool) -> ContainerFailure | None:
    state, last = status.state, status.last_state.terminated
    loops = status.restart_count + (state.terminated is not None) >= CRASHES_OF_A_LOOP
    if state.terminated is not None:
        return _ended(status.name, state.terminated, is_init=is_init, loops=loops)
    if state.waiting is not None:
        blocked = _blocked(status.name, state.waiting)
        if blocked is not None:
            return blocked
        crashed = state.waiting.reason == CRASH_REASON
        if last is None:
            words = state.waiting.message or "the container ended again and again"
            return _failure(FailureKind.CRASH_LOOP, status.name, words) if crashed else None
        return _ended(status.name, last, is_init=is_init, loops=crashed or loops)
    if last is None or state.running is None:
        return None
    return _ended(status.name, last, is_init=is_init, loops=loops, running_again=True)


def _blocked(container: str, waiting: Waiting) -> ContainerFailure | None:
    if waiting.reason in IMAGE_REASONS:
        return _failure(FailureKind.IMAGE_PULL, container, image_words(waiting))
    if waiting.reason in CONFIG_REASONS:
        return _failure(FailureKind.CONFIG, container, f"{waiting.reason}: {waiting.message}".rstrip(": "))
    return None


def image_words(waiting: Waiting) -> str:
    """Return the cause of a failed pull, the same words during the try and during the back-off after it."""
    if waiting.reason not in ("ErrImagePull", "ImagePullBackOff"):
        return f"{waiting.reason}: {waiting.message}".rstrip(": ")
    return _BACK_OFF.sub("", waiting.message) or waiting.message or waiting.reason


def _failure(kind: FailureKind, container: str, message: str) -> ContainerFailure:
    return ContainerFailure(kind=kind, container=container, message=message)


def _ended(
    container: str, ended: Terminated, *, is_init: bool, loops: bool = False, running_again: bool = False
) -> ContainerFailure | None:
    """Return what the end of a container means: a server must never end, an init container only well."""
    if is_init and ended.exit_code == 0 and ended.reason != OOM_REASON:
        return None
    if container in (RESOLVER, FILLER) and ended.exit_code == 0:
        return None
    if container == GATE and ended.exit_code == STOPPED_EXIT:
        return None  # the pod's work is done, or it is being deleted
    kind = FailureKind.CRASH_LOOP if loops else FailureKind.EXITED
    message = tail(ended.message) or f"ended with exit code {ended.exit_code}"
    if is_oom(ended):
        kind = FailureKind.OOM_KILLED
        message = "killed for using more memory than its limit"
    elif (container in TELLING or adapter_of(container) is not None) and ended.message.lstrip().startswith("{"):
        kind, message = FailureKind.LOADER, ended.message.strip()
    return ContainerFailure(
        kind=kind,
        container=container,
        message=message,
        exit_code=ended.exit_code,
        at=ended.finished_at,
        running_again=running_again,
    )


def is_oom(ended: Terminated) -> bool:
    """Tell whether the kernel killed the container for its memory."""
    if ended.reason == OOM_REASON:
        return True
    return ended.exit_code == SIGKILL_EXIT and _OOM_WORDS.search(f"{ended.reason} {ended.message}") is not None


def tail(text: str) -> str:
    """Return the last lines of a container's words that fit the quote, on one line."""
    words = " ".join(line.strip() for line in text.splitlines() if line.strip())
    return words if len(words) <= MAX_TAIL else f"… {words[-MAX_TAIL:]}"
