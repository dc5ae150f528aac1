# SPDX-License-Identifier: Apache-2.0
"""Last stage: judge from the observed pods whether the model serves and whether the spec is what serves. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from nimblet.conditions import Reason
from nimblet.plan.facts import Answer, ContainerFailure, DeploymentFacts, FailureKind, PodFacts, WorkloadFacts
from nimblet.plan.failure import failure_problem
from nimblet.plan.stage import Problem, Progress, earliest, problem
from nimblet.settings import Timing

LOST_SECONDS: Final = 60.0
"""How long an eviction is told while its replacement starts; an older one explains nothing any more."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """The pods, judged. `state` is None when the wanted replicas of `revision` answer and nothing else does."""

    answering: int
    wanted: int
    updated: int
    current: int
    serving_old: bool
    """A pod of an older template still answers."""
    draining: bool
    """A pod that answered is being drained and takes requests until then."""
    state: Problem | Progress | None
    requeue_after: float | None
    download_percent: int | None
    placed_on: tuple[str, ...]
    loaded: bool
    """The loader of a pod of this revision has finished: every file was checked."""
    digests: Mapping[str, str]
    """SHA-256 by path of the files of this revision, as one of its loaders found them."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What the rollout is measured against; `revision` is None while no template could be rendered."""

    revision: str | None
    replicas: int
    served_at: datetime | None
    """When the stored status, which says Serving True, last changed: a busy pod of an older template still counts
    that ran then."""
    ready_since: datetime | None
    """Since when the stored status says Ready True of this generation: a busy pod of then still counts."""
    proof: str = "token"
    """What a pod gives when it answers; plan/task.py names it."""
    workload: str = "Deployment"
    """Kind of what makes the pods."""
    silence: Reason = Reason.NOT_ANSWERING
    """Reason of a pod that is ready by its probe and does not give it."""
    words: Mapping[str, Reason] = field(default_factory=dict)
    """Reasons that such a pod tells by words of its own."""
    polled: bool = False
    """Its pods are asked outside of passes, and wake the resource themselves when they say something else."""


@dataclass(frozen=True, kw_only=True)
class _Stand:
    """The pods that matter, by how they stand."""

    current: Sequence[PodFacts]
    """Of the wanted template: those that are alive, and lost ones that are still told of."""
    old: Sequence[PodFacts]
    unstable: Sequence[PodFacts]
    good: int
    """Current ones that answer, and are trusted to."""


def judge_rollout(facts: WorkloadFacts, expected: Expectation, timing: Timing, *, now: datetime) -> Rollout:
    """Return how the pods stand against what is wanted."""
    alive = [pod for pod in facts.pods if not pod.terminating and not _lost(pod)]
    lost = [pod for pod in facts.pods if pod.revision == expected.revision and _lost(pod)]
    current = [pod for pod in alive if pod.revision == expected.revision]
    old = [pod for pod in alive if pod.revision != expected.revision]
    answering = [pod for pod in alive if _answers(pod, expected)]
    unstable = [pod for pod in current if _unstable_for(pod, timing, now=now) > 0]
    good = [pod for pod in current if pod in answering and pod not in unstable and not _lacking(pod)]
    short = len(current) < expected.replicas
    told = [pod for pod in lost if short or (len(good) < expected.replicas and _told_for(pod, now=now) > 0)]
    stand = _Stand(current=[*current, *told], old=old, unstable=unstable, good=len(good))
    silent = [pod for pod in alive if pod.ready and (pod not in answering or _lacking(pod))]
    loading = [pod for pod in current if pod.loading]
    percents = [pod.download_percent for pod in loading if pod.download_percent is not None]
    return Rollout(
        answering=len(answering),
        wanted=expected.replicas,
        updated=len(current),
        current=len(alive),
        serving_old=any(pod in answering for pod in old),
        draining=any(pod.terminating and pod.ready and _answered(pod) for pod in facts.pods),
        state=_state(facts, expected, stand),
        requeue_after=earliest(
            timing.probe_retry_seconds if silent and not expected.polled else None,
            2.0 if loading else None,
            min((_unstable_for(pod, timing, now=now) for pod in unstable), default=None),
            min((left for pod in told if (left := _told_for(pod, now=now)) > 0), default=None),
        ),
        download_percent=min(percents) // 10 * 10 if percents else None,
        placed_on=tuple(sorted({pod.node for pod in current if pod.node})),
        loaded=any(pod.container_id for pod in current),
        digests=next((pod.digests for pod in current if pod.digests), {}),
    )


def _lost(pod: PodFacts) -> bool:
    """Tell whether a pod has ended for good: it stays listed, but counts only until another answers instead."""
    given_up = pod.failure is not None and pod.failure.kind in (FailureKind.EVICTED, FailureKind.REFUSED)
    return pod.ended or given_up


def _told_for(pod: PodFacts, *, now: datetime) -> float:
    """Return for how many seconds more a lost pod is the reason why its replacement does not answer yet."""
    if pod.failure is None or pod.failure.at is None:
        return 0.0
    return max(0.0, LOST_SECONDS - (now - pod.failure.at).total_seconds())


def _answered(pod: PodFacts) -> bool:
    seen = pod.observation
    return seen is not None and (seen.answered or seen.answer in (Answer.ANSWERED, Answer.PARTLY))


def _lacking(pod: PodFacts) -> bool:
    """Tell whether a pod serves, and not all that its spec asks for."""
    return pod.observation is not None and pod.observation.answer is Answer.PARTLY


def _answers(pod: PodFacts, expected: Expectation) -> bool:
    """Busy says nothing against a pod that was seen to answer, and nothing for one that was not."""
    if not pod.ready or pod.observation is None:
        return False
    if pod.observation.answer is Answer.BUSY and not pod.observation.answered:
        return _was_seen(pod, expected)
    return _answered(pod)


def _was_seen(pod: PodFacts, expected: Expectation) -> bool:
    """Tell whether a stored status speaks of this run of a pod: one that began later was never seen to answer."""
    since = expected.ready_since if pod.revision == expected.revision else expected.served_at
    restarted = pod.failure.at if pod.failure is not None and pod.failure.running_again else None
    begun = [moment for moment in (pod.created_at, restarted) if moment is not None]
    return since is not None and all(moment <= since for moment in begun)


def _unstable_for(pod: PodFacts, timing: Timing, *, now: datetime) -> float:
    """Return for how many seconds more a restarted container must run before it is trusted."""
    failure = pod.failure
    if failure is None or not failure.running_again or failure.at is None:
        return 0.0
    return max(0.0, timing.stable_seconds - (now - failure.at).total_seconds())


def _state(facts: WorkloadFacts, expected: Expectation, stand: _Stand) -> Problem | Progress | None:
    deployment = facts.deployment
    if expected.revision is None or deployment is None:
        return Progress(reason=Reason.PROGRESSING, message=f"The {expected.workload} is being made.")
    away = frozenset(node.name for node in facts.nodes if not node.reachable)
    found = _pod_problem(expected, stand, away) or _own_problem(deployment, expected.revision)
    if found is not None:
        return found
    if stand.good == len(stand.current) == expected.replicas and not stand.old:
        if deployment.revision == expected.revision:
            return None
        return Progress(
            reason=Reason.PROGRESSING, message=f"The {expected.workload} is taking up the new template."
        )
    return _progress(expected, stand)


def _pod_problem(expected: Expectation, stand: _Stand, away: Collection[str]) -> Problem | None:
    for pod in stand.current:
        if pod.node in away and not pod.ready:
            return problem(
                Reason.NODE_NOT_READY,
                f"Pod {pod.name} is on node {pod.node}, which is not ready or does not report.",
            )
    for pod in stand.current:
        if pod.failure is not None and (not pod.failure.running_again or pod in stand.unstable):
            return failure_problem(pod.failure, pod=pod.name)
    for pod in stand.current:
        seen = pod.observation
        if pod.ready and seen is not None and seen.answer in (Answer.FAILED, Answer.PARTLY):
            lack = "gave no" if seen.answer is Answer.FAILED else "lacks part of what makes a"
            return problem(
                expected.words.get(seen.reason, expected.silence),
                f"Pod {pod.name} is ready by its probe but {lack} {expected.proof}: {seen.detail.rstrip('.')}.",
            )
    return None


def _own_problem(deployment: DeploymentFacts, revision: str) -> Problem | None:
    if deployment.revision != revision or deployment.observed_generation != deployment.generation:
        return None  # its conditions are about an older template
    if deployment.refused:
        refusal = ContainerFailure(kind=FailureKind.REFUSED, container="", message=deployment.refused)
        return failure_problem(refusal, pod=deployment.name)
    if deployment.progress_deadline_exceeded:
        return problem(
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            f"Deployment {deployment.name} made no progress within its deadline.",
        )
    return None


def _progress(expected: Expectation, stand: _Stand) -> Progress:
    good, older = stand.good, len(stand.old)
    loading = [pod for pod in stand.current if pod.loading]
    if loading:
        percents = [pod.download_percent for pod in loading if pod.download_percent is not None]
        done = f" {min(percents) // 10 * 10} %" if percents else ""
        return Progress(
            reason=Reason.DOWNLOADING, message=f"Fetching and checking the weights:{done or ' begun'}."
        )
    if older:
        return Progress(
            reason=Reason.PROGRESSING,
            message=f"{good} of {expected.replicas} replicas of the new spec answer; {older} older remain.",
        )
    return Progress(
        reason=Reason.STARTING, message=f"{good} of {expected.replicas} replicas answer; the rest is starting."
    )
