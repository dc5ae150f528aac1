# SPDX-License-Identifier: Apache-2.0
"""First stage: turn the source into a stored artifact by resolver Jobs. Pure.

One try is one Job, named by source hash and attempt; the artifact ConfigMap ends the stage. Failures are
tried again with exponential backoff, and at once when the referenced Secret changed.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from nimblet.api.common import ConditionStatus
from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import ConditionType, Reason, find
from nimblet.manifests.configuration import artifact_manifest
from nimblet.manifests.loader import LoaderPod, resolver_job_manifest
from nimblet.plan.artifact import Artifact, parse_artifact, parse_failure
from nimblet.plan.facts import ChildRef, JobFacts, ModelFacts
from nimblet.plan.failure import failure_problem, loader_reason
from nimblet.plan.references import secret_flaw
from nimblet.plan.source import required_keys, scheme_of
from nimblet.plan.stage import Problem, Progress, StageOutcome, problem
from nimblet.settings import Settings

SUSPENDED: Final = "Not looked at while spec.suspend is true."


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Outcome of the stage; `artifact` is set when the source is known."""

    outcome: StageOutcome
    artifact: Artifact | None = None


def plan_resolution(
    model: CompactModel, facts: ModelFacts, settings: Settings, *, loader: LoaderPod, now: datetime
) -> Resolution:
    """Return the Job to run or the artifact that is there."""
    stored = next((item for item in facts.artifacts if item.source_hash == loader.source_hash), None)
    if stored is not None and (artifact := parse_artifact(stored.text)) is not None:
        child = artifact_manifest(model.name, model.namespace, source_hash=loader.source_hash, text=stored.text)
        done = StageOutcome(children=(child,), deletions=_jobs(facts, keep=None))
        return Resolution(outcome=done, artifact=artifact)
    if model.spec.suspend:
        return Resolution(outcome=StageOutcome(state=Progress(reason=Reason.SUSPENDED, message=SUSPENDED)))
    blocked = _secret_problem(model, facts)
    if blocked is not None:
        return Resolution(outcome=StageOutcome(state=blocked))
    job = _latest(facts, loader.source_hash)
    if job is not None and _is_done(job) and job.result is not None:
        artifact = parse_artifact(job.result)
        if artifact is not None:
            child = artifact_manifest(model.name, model.namespace, source_hash=loader.source_hash, text=job.result)
            return Resolution(outcome=StageOutcome(children=(child,)), artifact=artifact)
    outcome = _run(model, facts, settings, loader=loader, job=job, now=now)
    if stored is not None:  # it can't be read by this version: away with it, the Job makes it anew
        damaged = ChildRef(kind="ConfigMap", name=stored.name, uid=stored.uid)
        outcome = replace(outcome, deletions=(damaged, *outcome.deletions))
    return Resolution(outcome=outcome)


def _is_done(job: JobFacts) -> bool:
    """Tell whether the resolver ended well: its pod shows it a second or two before the Job's controller does."""
    return job.succeeded or job.exit_code == 0


def _run(
    model: CompactModel,
    facts: ModelFacts,
    settings: Settings,
    *,
    loader: LoaderPod,
    job: JobFacts | None,
    now: datetime,
) -> StageOutcome:
    credentials = facts.secret.content_hash if facts.secret is not None else ""
    if job is None:
        return StageOutcome(
            children=(_job_child(loader, 1, credentials),),
            deletions=_jobs(facts, keep=None),
            state=Progress(reason=Reason.RESOLVING, message="Reading the source's listing and header."),
        )
    # A Job's template can't change and a try runs once, so a Job that exists is left as it is.
    others = _jobs(facts, keep=job.name)
    if not (job.failed or job.succeeded):
        return StageOutcome(deletions=others, state=_under_way(model, job))
    failed = _job_problem(job)
    wait = _retry_delay(job, settings)
    due = (job.finished_at or now) + timedelta(seconds=wait)
    if credentials != job.credentials_hash or now >= due:
        return StageOutcome(
            children=(_job_child(loader, job.attempt + 1, credentials),),
            deletions=_jobs(facts, keep=None),
            state=failed,
        )
    return StageOutcome(deletions=others, state=failed, requeue_after=(due - now).total_seconds())


def _under_way(model: CompactModel, job: JobFacts) -> Problem | Progress:
    """A retry keeps the last failure in view until it ends: no flapping between tries."""
    if job.failure is not None:
        return failure_problem(job.failure, pod=job.name)
    last = find(model.status.conditions, ConditionType.RESOLVED)
    told = last is not None and last.status is ConditionStatus.FALSE
    if job.attempt > 1 and last is not None and told and last.observed_generation == model.generation:
        return Problem(reason=loader_reason(last.reason), message=last.message)
    return Progress(reason=Reason.RESOLVING, message="Reading the source's listing and header.")


def _retry_delay(job: JobFacts, settings: Settings) -> float:
    exponent = min(job.attempt - 1, 16)
    return min(settings.timing.retry_cap_seconds, settings.timing.retry_base_seconds * 2.0**exponent)


def _job_problem(job: JobFacts) -> Problem:
    if job.failure is not None:
        return failure_problem(job.failure, pod=job.name)
    if job.result is not None and (told := parse_failure(job.result)) is not None:
        return Problem(reason=loader_reason(told.reason), message=told.message)
    if job.succeeded:
        return problem(Reason.LOADER_FAILED, f"Job {job.name} ended without a result; it is tried again.")
    ending = f"exit code {job.exit_code}" if job.exit_code is not None else job.message or "no result"
    return problem(Reason.LOADER_FAILED, f"Job {job.name} failed: {ending}.")


def _secret_problem(model: CompactModel, facts: ModelFacts) -> Problem | None:
    ref = model.spec.source.credentials_secret_ref
    if ref is None:
        return None
    required = required_keys(scheme_of(model.spec))
    flaw = secret_flaw(ref.name, facts.secret, namespace=model.namespace, required=required)
    if flaw is not None or facts.secret is None:
        return flaw
    if not facts.secret.hosts:
        return problem(Reason.SECRET_NOT_USABLE, f"Secret {ref.name} names no host it may be sent to.")
    return None


def _latest(facts: ModelFacts, source_hash: str) -> JobFacts | None:
    mine = [job for job in facts.jobs if job.source_hash == source_hash]
    return max(mine, key=lambda job: job.attempt, default=None)


def _job_child(loader: LoaderPod, attempt: int, credentials_hash: str) -> dict[str, object]:
    return resolver_job_manifest(loader, attempt=attempt, credentials_hash=credentials_hash)


def _jobs(facts: ModelFacts, *, keep: str | None) -> tuple[ChildRef, ...]:
    return tuple(ChildRef(kind="Job", name=job.name, uid=job.uid) for job in facts.jobs if job.name != keep)
