# SPDX-License-Identifier: Apache-2.0
"""Work that a loader's Job does: one Job a try, the next one after a growing wait. Pure.

The resolver and the cache's filler run in this frame; what a finished try means is theirs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nimblet.api.common import Condition, ConditionStatus
from nimblet.conditions import Reason
from nimblet.manifests.common import Manifest
from nimblet.plan.artifact import parse_failure
from nimblet.plan.exitcodes import LOADER_REASONS
from nimblet.plan.facts import ChildRef, JobFacts
from nimblet.plan.failure import code_message, failure_problem, loader_reason
from nimblet.plan.stage import Problem, Progress, StageOutcome, problem
from nimblet.settings import Timing

LEAVING_SECONDS: Final = 2.0
"""After which it is looked whether a Job that was deleted is gone: no event tells of one that we deleted."""


@dataclass(frozen=True, kw_only=True)
class Tries:
    """One piece of work. `jobs` are all of its role, `latest` the newest that is about this very work."""

    jobs: tuple[JobFacts, ...]
    latest: JobFacts | None
    inputs_hash: str
    """What a try depends on beside its arguments: another value starts the next try at once."""
    make: Callable[[int], Manifest]
    """Returns the Job of a try by its number."""
    working: Progress
    told: Problem | None
    """The failure that the stored status tells: a retry keeps it in view until it ends."""


def newest(jobs: Iterable[JobFacts]) -> JobFacts | None:
    """Return the Job of the latest try."""
    return max(jobs, key=lambda job: job.attempt, default=None)


def told_problem(condition: Condition | None, *, bad: ConditionStatus, generation: int) -> Problem | None:
    """Return what a stored condition says about this generation, if it says something is wrong."""
    if condition is None or condition.status is not bad or condition.observed_generation != generation:
        return None
    return Problem(reason=loader_reason(condition.reason), message=condition.message)


def plan_tries(tries: Tries, timing: Timing, *, now: datetime) -> StageOutcome:
    """Return the first try, a look at the one under way, or the next one when its time has come."""
    job = tries.latest
    if job is None:
        return _first(tries)
    if not (job.failed or job.succeeded):
        # A Job's template can't change and a try runs once, so a Job that exists is left as it is.
        return StageOutcome(deletions=job_refs(tries.jobs, but=job), state=_under_way(tries, job))
    return plan_next(tries, job, job_problem(job), wait=retry_delay(job.attempt, timing), now=now)


def _first(tries: Tries) -> StageOutcome:
    """Return the first try. What has its name was for something else, a claim that is gone: it goes before."""
    made, gone = tries.make(1), job_refs(tries.jobs)
    metadata = made["metadata"]
    if isinstance(metadata, dict) and metadata["name"] in {ref.name for ref in gone}:
        return StageOutcome(deletions=gone, state=tries.working, requeue_after=LEAVING_SECONDS)
    return StageOutcome(children=(made,), deletions=gone, state=tries.working)


def plan_next(tries: Tries, job: JobFacts, failed: Problem, *, wait: float, now: datetime) -> StageOutcome:
    """Return the try after a finished one, once `wait` seconds are over or its inputs changed."""
    due = (job.finished_at or now) + timedelta(seconds=wait)
    if tries.inputs_hash != job.credentials_hash or now >= due:
        return StageOutcome(children=(tries.make(job.attempt + 1),), deletions=job_refs(tries.jobs), state=failed)
    others = job_refs(tries.jobs, but=job)
    return StageOutcome(deletions=others, state=failed, requeue_after=(due - now).total_seconds())


def retry_delay(attempt: int, timing: Timing) -> float:
    """Return the seconds to wait after a try: they double up to the cap."""
    return float(min(timing.retry_cap_seconds, timing.retry_base_seconds * 2.0 ** min(attempt - 1, 16)))


def job_problem(job: JobFacts) -> Problem:
    """Return why a finished try gave nothing."""
    if job.failure is not None:
        return failure_problem(job.failure, pod=job.name)
    if job.result is not None and (told := parse_failure(job.result)) is not None:
        return Problem(reason=loader_reason(told.reason), message=told.message)
    if job.succeeded:
        return problem(Reason.LOADER_FAILED, f"Job {job.name} ended without a result; it is tried again.")
    by_code = LOADER_REASONS.get(job.exit_code or 0)
    if by_code is not None:
        return Problem(reason=by_code, message=code_message(by_code, f"Job {job.name}", job.exit_code))
    ending = f"exit code {job.exit_code}" if job.exit_code is not None else job.message or "no result"
    return problem(Reason.LOADER_FAILED, f"Job {job.name} failed: {ending}.")


def job_refs(jobs: Iterable[JobFacts], *, but: JobFacts | None = None) -> tuple[ChildRef, ...]:
    """Return Jobs, all but one, to be deleted."""
    kept = but.name if but is not None else None
    return tuple(ChildRef(kind="Job", name=job.name, uid=job.uid) for job in jobs if job.name != kept)


def _under_way(tries: Tries, job: JobFacts) -> Problem | Progress:
    if job.failure is not None:
        return failure_problem(job.failure, pod=job.name)
    return tries.told if job.attempt > 1 and tries.told is not None else tries.working
