# SPDX-License-Identifier: Apache-2.0
"""First stage: turn the source into a stored artifact by resolver Jobs. Pure.

One try is one Job, named by source hash and attempt; the artifact ConfigMap ends the stage. Failures are
tried again with exponential backoff, and at once when the referenced Secret changed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from nimblet.api.common import Condition, ConditionStatus
from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import ConditionType, Reason
from nimblet.manifests.configuration import artifact_manifest
from nimblet.manifests.loader import LoaderPod, resolver_job_manifest
from nimblet.merging import find
from nimblet.plan.artifact import Artifact, parse_artifact, unpacked
from nimblet.plan.facts import ChildRef, JobFacts, ModelFacts
from nimblet.plan.references import secret_flaw
from nimblet.plan.source import required_keys, scheme_of
from nimblet.plan.stage import Problem, Progress, StageOutcome, earliest, problem
from nimblet.plan.tries import Tries, job_refs, newest, plan_tries, told_problem
from nimblet.settings import Settings

SUSPENDED: Final = "Not looked at while spec.suspend is true."
SECRET_POLL_SECONDS: Final = 5.0
"""Between two reads of a Secret that was just found wanting: a user puts it right and watches."""
SECRET_POLL_CAP_SECONDS: Final = 30.0
"""The same for one that nobody puts right: it grows to this in five minutes."""
CREDENTIAL_REASONS: Final = frozenset(
    {Reason.TOKEN_INVALID, Reason.ACCESS_DENIED, Reason.GATED_REPOSITORY, Reason.REPOSITORY_NOT_FOUND}
)
"""Failures of a source that another content of the Secret may heal."""

TRUST_REASONS: Final = frozenset(
    {
        Reason.SIGNATURE_INVALID,
        Reason.SIGNATURE_MISMATCH,
        Reason.SIGNER_MISMATCH,
        Reason.CERTIFICATE_EXPIRED,
        Reason.UNSIGNED_FILE,
        Reason.SIGNED_FILE_MISSING,
    }
)
"""Failures that another signature heals, or another key."""
MANIFEST_REASONS: Final = frozenset({Reason.DIGEST_MISMATCH, Reason.DIGEST_REQUIRED, Reason.FILE_NOT_FOUND})
"""Failures that another manifest of digests may heal."""


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
        done = StageOutcome(children=(child,), deletions=job_refs(facts.jobs))
        return Resolution(outcome=done, artifact=artifact)
    if model.spec.suspend:
        return Resolution(outcome=StageOutcome(state=Progress(reason=Reason.SUSPENDED, message=SUSPENDED)))
    unusable = secret_problem(model, facts)
    if unusable is not None:
        return blocked(model, unusable, now=now)
    job = newest(job for job in facts.jobs if job.source_hash == loader.source_hash)
    if job is not None and _is_done(job) and job.result is not None:
        text = unpacked(job.result)
        artifact = parse_artifact(text)
        if artifact is not None:
            child = artifact_manifest(model.name, model.namespace, source_hash=loader.source_hash, text=text)
            return Resolution(outcome=StageOutcome(children=(child,)), artifact=artifact)
    outcome = plan_tries(_tries(model, facts, loader=loader, job=job), settings.timing, now=now)
    if outcome.requeue_after is not None and _may_heal(model, outcome.state):
        outcome = replace(
            outcome, requeue_after=earliest(outcome.requeue_after, secret_poll(model.status.conditions, now))
        )
    if stored is not None:  # it can't be read by this version: away with it, the Job makes it anew
        damaged = ChildRef(kind="ConfigMap", name=stored.name, uid=stored.uid)
        outcome = replace(outcome, deletions=(damaged, *outcome.deletions))
    return Resolution(outcome=outcome)


def blocked(model: CompactModel, state: Problem, *, now: datetime) -> Resolution:
    """Return a stage that waits for an object which nothing tells us of: it is looked at again."""
    return Resolution(outcome=StageOutcome(state=state, requeue_after=secret_poll(model.status.conditions, now)))


def _may_heal(model: CompactModel, state: Problem | Progress | None) -> bool:
    """Tell whether another content of the source's Secret, or of what integrity names, may heal a failure."""
    if not isinstance(state, Problem):
        return False
    integrity = model.spec.integrity
    if integrity is not None and integrity.references and state.reason in TRUST_REASONS | MANIFEST_REASONS:
        return True
    return model.spec.source.credentials_secret_ref is not None and state.reason in CREDENTIAL_REASONS


def _is_done(job: JobFacts) -> bool:
    """Tell whether the resolver ended well: its pod shows it a second or two before the Job's controller does."""
    return job.succeeded or job.exit_code == 0


def _tries(model: CompactModel, facts: ModelFacts, *, loader: LoaderPod, job: JobFacts | None) -> Tries:
    credentials = facts.secret.content_hash if facts.secret is not None else ""
    return Tries(
        jobs=facts.jobs,
        latest=job,
        inputs_hash=credentials,
        make=lambda attempt: resolver_job_manifest(loader, attempt=attempt, credentials_hash=credentials),
        working=Progress(reason=Reason.RESOLVING, message="Reading the source's listing and header."),
        told=told_problem(
            find(model.status.conditions, ConditionType.RESOLVED),
            bad=ConditionStatus.FALSE,
            generation=model.generation,
        ),
    )


def secret_poll(stored: Iterable[Condition], now: datetime) -> float:
    """Return when a Secret is read again: none is watched, so that none but the named ones is ever seen."""
    last = find(stored, ConditionType.STALLED)
    waiting = last is not None and last.status is ConditionStatus.TRUE
    age = (now - last.last_transition_time).total_seconds() if last is not None and waiting else 0.0
    return min(SECRET_POLL_CAP_SECONDS, max(SECRET_POLL_SECONDS, age / 10))


def secret_problem(model: CompactModel, facts: ModelFacts) -> Problem | None:
    """Return what is wrong with the referenced Secret, if the source names one."""
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
