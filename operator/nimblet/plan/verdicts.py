# SPDX-License-Identifier: Apache-2.0
"""Turns the stages' findings into the set of conditions. Pure; the truth table of Serving and Ready is here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from nimblet.api.common import Condition, ConditionStatus
from nimblet.conditions import ConditionType, Reason, Verdict, verdict
from nimblet.merging import find, merge
from nimblet.plan.artifact import DIGEST, Artifact
from nimblet.plan.facts import WriteFailure
from nimblet.plan.placement import REFUSALS
from nimblet.plan.resolve import TRUST_REASONS
from nimblet.plan.rollout import Rollout
from nimblet.plan.stage import Problem, Progress, problem

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_WRITE_REASONS = {
    "Conflict": Reason.CONFLICT,
    "Contested": Reason.CONTESTED,
    "ImmutableField": Reason.IMMUTABLE_FIELD,
    "Refused": Reason.APPLY_REFUSED,
}
_NOT_SEALED = {
    Reason.NOT_ENCRYPTED,
    Reason.ENCRYPTION_MANIFEST_MISMATCH,
    Reason.CIPHERTEXT_DAMAGED,
    Reason.CIPHERTEXT_TRUNCATED,
}
_DIFFERS = TRUST_REASONS | _NOT_SEALED | {Reason.DIGEST_MISMATCH, Reason.SIZE_MISMATCH, Reason.CACHE_CORRUPTED}


_UNPLACED = REFUSALS | {Reason.UNSCHEDULABLE, Reason.CLAIM_NOT_READY}
"""Reasons for which no pod has a node: whoever carries one is looked at again when a node changes."""
_PINNED = {
    "Source": "the digest its source reported at a pinned commit",
    "Resolver": "what the resolver measured: nobody else vouches for it",
}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How every stage stands. `rollout` is None only for a spec that does not parse."""

    policy: Problem | None
    """What TEEPolicies ask for and is not there: no pod is made."""
    resolution: Problem | Progress | None
    artifact: Artifact | None
    run: Problem | None
    cache: Problem | Progress | None
    shortage: str
    rollout: Rollout | None
    write_failures: tuple[WriteFailure, ...]
    newer_images: bool
    proof: str = "token"
    """What a pod gives when it answers."""
    keys: Progress | None = None
    transport: Problem | Progress | None = None
    """The server's certificate is not there yet."""
    suspended: bool = False
    method: str = ""
    """How the spec has the files verified; empty where it demands nothing, whatever an artifact says."""
    unverified_adapter: str = ""
    """An adapter or a drafting model whose files nobody vouches for in the spec; empty where there is none."""


def was_true(stored: Iterable[Condition], type_: ConditionType) -> bool:
    """Return whether the stored conditions have one True."""
    condition = find(stored, type_)
    return condition is not None and condition.status is TRUE


def served_to_others(stored: Iterable[Condition], *, deleting: bool) -> tuple[bool, str, str]:
    """Return whether who names a resource may count on it, with reason and message.

    What is being deleted still answers, but its condition is about before.
    """
    if deleting:
        return False, "Deleting", "it is being deleted."
    serving = find(stored, ConditionType.SERVING)
    return (False, "", "") if serving is None else (serving.status is TRUE, serving.reason, serving.message)


def served_at(stored: Sequence[Condition]) -> datetime | None:
    """Return when a stored condition last flipped, where Serving is True: what ran by then was looked at."""
    if not was_true(stored, ConditionType.SERVING):
        return None
    return max(item.last_transition_time for item in stored)


def ready_since(stored: Iterable[Condition], *, told: int, generation: int) -> datetime | None:
    """Return since when the stored Ready is True of this generation; `told` is the one that it was told of."""
    condition = find(stored, ConditionType.READY)
    if condition is None or condition.status is not TRUE or told != generation:
        return None
    return condition.last_transition_time


def kept_serving(
    stored: Sequence[Condition], *, ready: bool, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return Serving as it was told, of a spec that does not parse; False where no pod is ready by its probe."""
    if ready or not was_true(stored, ConditionType.SERVING):
        return tuple(item for item in stored if item.type == ConditionType.SERVING)
    silent = problem(Reason.INVALID_SPEC, "No pod is ready, and none is made of a spec that can't be read.")
    told = verdict(ConditionType.SERVING, FALSE, silent.reason, silent.message)
    return merge(stored, (told,), generation=generation, now=now)


def model_verdicts(judgement: Judgement) -> tuple[Verdict, ...]:
    """Return all conditions of a model."""
    state = _overall(judgement)
    verdicts = [_resolved(judgement), _verified(judgement), _placed(judgement)]
    if judgement.rollout is not None:
        verdicts.append(
            serving_verdict(judgement.rollout, state, proof=judgement.proof, suspended=judgement.suspended)
        )
    verdicts.append(ready_verdict(judgement.rollout, state, proof=judgement.proof, suspended=judgement.suspended))
    return (*verdicts, *passing_verdicts(state, newer_images=judgement.newer_images))


def passing_verdicts(state: Problem | Progress | None, *, newer_images: bool) -> tuple[Verdict, ...]:
    """Return the conditions that exist only while they are True."""
    verdicts = []
    if isinstance(state, Progress):
        verdicts.append(verdict(ConditionType.RECONCILING, TRUE, state.reason, state.message))
    if isinstance(state, Problem):
        verdicts.append(verdict(ConditionType.STALLED, TRUE, state.reason, state.message))
    if newer_images:
        message = "The administrator's settings name newer images than the pods run."
        verdicts.append(verdict(ConditionType.UPDATE_AVAILABLE, TRUE, Reason.NEWER_IMAGES, message))
    return tuple(verdicts)


def write_problem(failures: Sequence[WriteFailure]) -> Problem | None:
    """Return the first write that was refused; None when none was."""
    if not failures:
        return None
    first = failures[0]
    message = f"{first.kind} {first.name}: {first.message}"
    return problem(_WRITE_REASONS.get(first.category, Reason.APPLY_REFUSED), message)


def _overall(judgement: Judgement) -> Problem | Progress | None:
    """Return what stands between the spec and serving it: the first stage that is not done."""
    refused = write_problem(judgement.write_failures)
    if refused is not None:
        return refused
    if judgement.suspended:
        return None  # what else the spec lacks is told when it is resumed
    for stage in (judgement.policy, judgement.resolution, judgement.run, judgement.cache, judgement.transport):
        if stage is not None:
            return stage
    state = judgement.rollout.state if judgement.rollout is not None else None
    if isinstance(state, Problem) and state.reason is Reason.UNSCHEDULABLE and judgement.shortage:
        return Problem(reason=state.reason, message=f"{state.message} {judgement.shortage}")
    return state or judgement.keys


def _idle(*, suspended: bool) -> tuple[Reason, str]:
    if suspended:
        return Reason.SUSPENDED, "spec.suspend is true: no pod is wanted."
    return Reason.SCALED_TO_ZERO, "No replicas are wanted: nothing answers."


def serving_verdict(rollout: Rollout, state: Problem | Progress | None, *, proof: str, suspended: bool) -> Verdict:
    """Return whether something answers now, whatever spec it is of."""
    if rollout.answering:
        message = f"{rollout.answering} of {rollout.current} pods gave a {proof} when asked."
        return verdict(ConditionType.SERVING, TRUE, Reason.ANSWERING, message)
    if rollout.wanted == 0 and not isinstance(state, Problem):
        return verdict(ConditionType.SERVING, FALSE, *_idle(suspended=suspended))
    if rollout.draining:
        message = f"Pods that gave a {proof} when asked answer until they are drained."
        return verdict(ConditionType.SERVING, TRUE, Reason.ANSWERING, message)
    if state is not None:
        return verdict(ConditionType.SERVING, FALSE, state.reason, state.message)
    return verdict(ConditionType.SERVING, FALSE, Reason.STARTING, "No pod has answered yet.")


def ready_verdict(
    rollout: Rollout | None, state: Problem | Progress | None, *, proof: str, suspended: bool
) -> Verdict:
    """Return whether the current spec is what answers."""
    if isinstance(state, Problem):
        # Something older serves on while the edit is broken: said by a reason of its own.
        broken_edit = rollout is not None and rollout.answering > 0 and rollout.serving_old
        if broken_edit:
            message = f"The older spec serves on; the new one does not: {state.reason}: {state.message}"
            return verdict(ConditionType.READY, FALSE, Reason.UPDATE_FAILED, message)
        return verdict(ConditionType.READY, FALSE, state.reason, state.message)
    if isinstance(state, Progress):
        return verdict(ConditionType.READY, UNKNOWN, state.reason, state.message)
    if rollout is None or rollout.wanted == 0:
        return verdict(ConditionType.READY, FALSE, *_idle(suspended=suspended))
    message = f"All {rollout.wanted} replicas of this spec gave a {proof} when asked."
    return verdict(ConditionType.READY, TRUE, Reason.READY, message)


def _resolved(judgement: Judgement) -> Verdict:
    if judgement.artifact is not None and judgement.resolution is None:
        artifact = judgement.artifact
        message = f"{artifact.uri} is {artifact.commit}, {len(artifact.files)} file(s)."
        return verdict(ConditionType.RESOLVED, TRUE, Reason.RESOLVED, message)
    state = judgement.policy or judgement.resolution
    if isinstance(state, Problem):
        return verdict(ConditionType.RESOLVED, FALSE, state.reason, state.message)
    reason, message = (state.reason, state.message) if state else (Reason.PENDING, "Not looked at yet.")
    return verdict(ConditionType.RESOLVED, UNKNOWN, reason, message)


def _verified(judgement: Judgement) -> Verdict:
    """Verified is True only against digests or a signer of the spec, once a pod's loader has checked the bytes."""
    state = _overall(judgement)
    if isinstance(state, Problem) and state.reason in _DIFFERS:
        return verdict(ConditionType.VERIFIED, FALSE, state.reason, state.message)
    rollout, artifact = judgement.rollout, judgement.artifact
    if artifact is None or rollout is None or not rollout.loaded:
        return verdict(
            ConditionType.VERIFIED, UNKNOWN, Reason.PENDING, "No running pod of this spec has loaded it."
        )
    return _vouched(judgement, artifact)


def _vouched(judgement: Judgement, artifact: Artifact) -> Verdict:
    """Return who vouches for the files that a loader has compared, the weakest of all."""
    if judgement.unverified_adapter and judgement.method and judgement.method == artifact.method:
        message = "The loader compared every file, but the spec has no integrity for the files of "
        message += f"{judgement.unverified_adapter}; its integrity would make this True."
        return verdict(ConditionType.VERIFIED, UNKNOWN, Reason.PINNED, message)
    if judgement.method == artifact.method and artifact.signer is not None:
        message = f"The loader verified the signature by {artifact.signer.name} and compared every file with it."
        return verdict(ConditionType.VERIFIED, TRUE, Reason.SIGNATURE_MATCHES, message)
    if judgement.method == artifact.method == DIGEST:
        message = "The loader compared every file with integrity.sha256."
        return verdict(ConditionType.VERIFIED, TRUE, Reason.DIGESTS_MATCH, message)
    if artifact.digest_source in _PINNED:
        message = f"The loader compared every file with {_PINNED[artifact.digest_source]}; "
        message += "integrity.sha256 in the spec would make this True."
        return verdict(ConditionType.VERIFIED, UNKNOWN, Reason.PINNED, message)
    message = "Neither the spec nor the source gives a digest."
    return verdict(ConditionType.VERIFIED, FALSE, Reason.UNVERIFIED, message)


def _placed(judgement: Judgement) -> Verdict:
    state = _overall(judgement)
    if isinstance(state, Problem) and state.reason in _UNPLACED:
        return verdict(ConditionType.PLACED, FALSE, state.reason, state.message)
    rollout = judgement.rollout
    if rollout is not None and rollout.placed_on:
        nodes = ", ".join(rollout.placed_on[:5])
        more = len(rollout.placed_on) - 5
        tail = f" and {more} more" if more > 0 else ""
        return verdict(ConditionType.PLACED, TRUE, Reason.PLACED, f"Pods run on {nodes}{tail}.")
    return verdict(
        ConditionType.PLACED, UNKNOWN, Reason.PENDING, judgement.shortage or "No pod of this spec has a node yet."
    )
