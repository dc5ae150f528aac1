# SPDX-License-Identifier: Apache-2.0
"""Translates what the cluster and the loader recorded into reasons and sentences. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from nimblet.conditions import Reason
from nimblet.manifests.loader import DRAFT_LOADER
from nimblet.nextstep import advised
from nimblet.plan.artifact import LoaderFailure, parse_failure
from nimblet.plan.exitcodes import adapter_of, reason_of
from nimblet.plan.facts import ContainerFailure, FailureKind
from nimblet.plan.stage import Problem, problem

RETRIEVER: Final = "retriever"
_REASONS: Final[Mapping[FailureKind, Reason]] = {
    FailureKind.UNSCHEDULABLE: Reason.UNSCHEDULABLE,
    FailureKind.IMAGE_PULL: Reason.IMAGE_PULL_FAILED,
    FailureKind.MOUNT: Reason.MOUNT_FAILED,
    FailureKind.SANDBOX: Reason.SANDBOX_FAILED,
    FailureKind.CONFIG: Reason.CONTAINER_CONFIG_ERROR,
    FailureKind.OOM_KILLED: Reason.OOM_KILLED,
    FailureKind.CRASH_LOOP: Reason.CRASH_LOOP_BACK_OFF,
    FailureKind.EXITED: Reason.CONTAINER_EXITED,
    FailureKind.EVICTED: Reason.EVICTED,
    FailureKind.LOADER: Reason.LOADER_FAILED,
    FailureKind.REFUSED: Reason.POD_REFUSED,
}
_ENDS: Final = frozenset({FailureKind.LOADER, FailureKind.EXITED, FailureKind.CRASH_LOOP})
_REFUSALS: Final[Mapping[Reason, re.Pattern[str]]] = {
    Reason.QUOTA_EXCEEDED: re.compile(r"\b(exceeded|failed) quota: "),
    Reason.POD_SECURITY_REFUSED: re.compile(r"\bviolates PodSecurity "),
    Reason.LIMIT_RANGE_VIOLATED: re.compile(
        r"\b(minimum|maximum) \S+ usage per (Container|Pod) is |\blimit to request ratio per (Container|Pod) is "
    ),
}
"""Words of the API server's admission plugins: ResourceQuota, PodSecurity, LimitRanger."""


_CLAIM_WORDS: Final = ("persistentvolumeclaim", "persistentvolume's node affinity", "volume node affinity")
"""How the scheduler tells that a claim is absent, unbound or on another node (its volumebinding plugin)."""


def loader_reason(text: str) -> Reason:
    """Return the reason a loader named, LoaderFailed for one this operator does not know."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.LOADER_FAILED


def refusal_reason(words: str) -> Reason:
    """Return what refused a pod, by the words of the plugin that did; PodRefused for any other."""
    found = (reason for reason, pattern in _REFUSALS.items() if pattern.search(words))
    return next(found, Reason.POD_REFUSED)


def loader_told(failure: ContainerFailure, *, pod: str) -> LoaderFailure | None:
    """Return what a loader said of its end: in its message, or by its exit code alone."""
    if failure.kind is FailureKind.LOADER and (told := parse_failure(failure.message)) is not None:
        return told
    by_code = reason_of(failure.container, failure.exit_code) if failure.kind in _ENDS else None
    if by_code is None:
        return None
    return LoaderFailure(reason=by_code, message=code_message(by_code, f"pod {pod}", failure.exit_code))


def code_message(reason: Reason, where: str, exit_code: int | None) -> str:
    """Return the sentence about a loader of which only the exit code is known."""
    found = f"The loader of {where} ended with exit code {exit_code}, which means {reason}; no message came out."
    return advised(reason, found)


def failure_problem(failure: ContainerFailure, *, pod: str) -> Problem:
    """Return the problem behind a recorded failure; a loader's own words win over the kubelet's."""
    told = loader_told(failure, pod=pod)
    if told is not None:
        reason = loader_reason(told.reason)
        if failure.container == RETRIEVER:  # a loader's message has its next step
            return problem(reason, f"The retriever can't use its store: {told.message.rstrip('. ')}.")
        adapter = adapter_of(failure.container)
        whose = (
            "Drafting model: " if failure.container == DRAFT_LOADER else f"Adapter {adapter}: " if adapter else ""
        )
        return Problem(reason=reason, message=whose + told.message)
    if failure.kind is FailureKind.UNSCHEDULABLE and any(word in failure.message.lower() for word in _CLAIM_WORDS):
        return problem(Reason.CLAIM_NOT_READY, f"Pod {pod} can't use its claim: {failure.message.rstrip('. ')}.")
    code = f" with exit code {failure.exit_code}" if failure.exit_code is not None else ""
    words = failure.message.strip().rstrip(".") or "the cluster gave no message"
    what: Mapping[FailureKind, str] = {
        FailureKind.UNSCHEDULABLE: f"Pod {pod} can't be scheduled: {words}.",
        FailureKind.IMAGE_PULL: f"Pod {pod} can't pull the image of {failure.container}: {words}.",
        FailureKind.MOUNT: f"Pod {pod} waits for its volumes: {words}.",
        FailureKind.SANDBOX: f"Pod {pod} waits for its network: {words}.",
        FailureKind.CONFIG: f"Pod {pod} can't start {failure.container}: {words}.",
        FailureKind.OOM_KILLED: f"Container {failure.container} of pod {pod} was killed for using more than "
        "its memory limit.",
        FailureKind.CRASH_LOOP: f"Container {failure.container} of pod {pod} ends again and again{code}: {words}.",
        FailureKind.EXITED: f"Container {failure.container} of pod {pod} ended{code}: {words}.",
        FailureKind.EVICTED: f"Pod {pod} was evicted: {words}.",
        FailureKind.LOADER: f"The loader of pod {pod} failed{code}.",
        FailureKind.REFUSED: f"The cluster refused the pods of {pod}: {words}.",
    }
    reason = refusal_reason(words) if failure.kind is FailureKind.REFUSED else _REASONS[failure.kind]
    return problem(reason, what[failure.kind])
