# SPDX-License-Identifier: Apache-2.0
"""Turns what is known of an index into its conditions. Pure; the truth table of Serving and Ready is here.

Ready is about the spec: a refresh that fails leaves it True, and Indexed, GatePassed and Fresh say what is wrong.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nimblet.api.common import ConditionStatus, duration_of
from nimblet.api.indexstatus import GateStatus
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import ConditionType, Reason, Verdict, verdict
from nimblet.merging import find
from nimblet.plan.facts import WriteFailure
from nimblet.plan.index_build import BuildPlan
from nimblet.plan.index_snapshots import snapshotted
from nimblet.plan.index_trouble import answering_trouble, store_problem
from nimblet.plan.indexfacts import RetrieverFacts
from nimblet.plan.rollout import Rollout
from nimblet.plan.schedule import interval_of
from nimblet.plan.stage import Problem, Progress, earliest, problem
from nimblet.plan.verdicts import passing_verdicts, write_problem

OF_THE_STORE: Final = frozenset({Reason.DISK_PRESSURE, Reason.STORE_REFUSED, Reason.STORE_FAILING})
"""What befalls a store that answers, whatever the spec says."""
TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True, kw_only=True)
class IndexJudgement:
    """How every stage stands."""

    index: RetrievalIndex
    policy: Problem | None
    """What TEEPolicies ask for and is not there: no pod is made."""
    references: Problem | None
    """What is wrong with what the retriever needs of others."""
    sources: Problem | None
    """What is wrong with what a build needs of others."""
    model: Problem | Progress | None
    """The embedding model or reranker is there, and does not serve."""
    outage: Problem | Progress | None
    """The same of the embedding model that searches rely on now."""
    store: Problem | Progress | None
    lost: Problem | Progress | None
    """Servers of the store are away, without which searches fail."""
    note: str
    """What there is to say of a store that is in order."""
    rollout: Rollout
    retriever: RetrieverFacts | None
    build: BuildPlan
    swap: Problem | Progress | None
    """The generation that is to serve is not the one that does."""
    gate: GateStatus | None
    keys: Progress | None
    transport: Problem | Progress | None
    """The retriever's certificate is not there yet."""
    write_failures: tuple[WriteFailure, ...]
    newer_images: bool
    now: datetime


def index_verdicts(judgement: IndexJudgement) -> tuple[Verdict, ...]:
    """Return all conditions of an index."""
    state = overall(judgement)
    found = [
        _resolved(judgement),
        serving(judgement, state),
        _ready(judgement, state),
        _indexed(judgement),
        _gate_passed(judgement),
    ]
    optional = (_fresh(judgement), snapshotted(judgement.index, judgement.retriever))
    found += [item for item in optional if item is not None]
    return (*found, *passing_verdicts(state, newer_images=judgement.newer_images))


def overall(judgement: IndexJudgement) -> Problem | Progress | None:
    """Return what stands between the spec and serving it: the first stage that is not done."""
    refused = write_problem(judgement.write_failures)
    if refused is not None:
        return refused
    if judgement.index.spec.suspend:
        return None
    build = judgement.build
    stages = (
        judgement.policy,
        judgement.references,
        judgement.store,
        judgement.transport,
        judgement.rollout.state,
        _told_by_retriever(judgement),
        judgement.model,
        None if build.current else (judgement.sources or build.outcome.state),
        judgement.swap,
        judgement.keys,
    )
    return next((stage for stage in stages if stage is not None), None)


def _told_by_retriever(judgement: IndexJudgement) -> Problem | None:
    """Return what the retriever itself says is wrong."""
    told = judgement.retriever
    if told is None:
        return None
    return store_problem(told) or answering_trouble(told) or _embedding_problem(judgement, told)


def _embedding_problem(judgement: IndexJudgement, told: RetrieverFacts) -> Problem | None:
    if told.embedding.ok or judgement.index.spec.search.mode == "Lexical":
        return None
    changed = told.embedding.reason == Reason.EMBEDDING_CHANGED
    reason = Reason.EMBEDDING_CHANGED if changed else Reason.EMBEDDING_UNAVAILABLE
    return problem(reason, f"The retriever can't use the embedding model: {told.embedding.message.rstrip('.')}.")


def serving(judgement: IndexJudgement, state: Problem | Progress | None) -> Verdict:
    """Return whether searches are answered now, as the retriever itself said when it was asked."""
    told, rollout = judgement.retriever, judgement.rollout
    if judgement.index.spec.suspend and not rollout.answering:
        return verdict(ConditionType.SERVING, FALSE, Reason.SUSPENDED, "spec.suspend is true: no pod is wanted.")
    if told is None or not rollout.answering:
        kept = _stood(judgement, ConditionType.SERVING, Reason.ANSWERING)
        if kept is not None and rollout.answering and _broken(judgement) is None:
            return kept
        return _silent(state, otherwise=(Reason.STARTING, "No retriever has answered yet."))
    broken = _broken(judgement)
    if broken is not None:
        return verdict(ConditionType.SERVING, FALSE, broken.reason, broken.message)
    generation = told.generation(told.serving)
    if generation is None:
        waits = judgement.build.outcome.state or state
        return _silent(waits, otherwise=(Reason.PENDING, "No generation has been built yet."))
    message = f"Generation {generation.name} answers, with {generation.chunks} passages."
    return verdict(ConditionType.SERVING, TRUE, Reason.ANSWERING, message)


def _stood(judgement: IndexJudgement, type_: ConditionType, reason: Reason) -> Verdict | None:
    """Return a condition that was True: it stands while a retriever that was seen to answer is too busy to."""
    stored = find(judgement.index.status.conditions, type_)
    if stored is None or stored.status is not TRUE:
        return None
    return verdict(type_, TRUE, reason, stored.message)


def _silent(state: Problem | Progress | None, *, otherwise: tuple[Reason, str]) -> Verdict:
    reason, message = (state.reason, state.message) if state is not None else otherwise
    return verdict(ConditionType.SERVING, FALSE, reason, message)


def _broken(judgement: IndexJudgement) -> Problem | Progress | None:
    """Return why a retriever that answers can't search."""
    if judgement.lost is not None:
        return judgement.lost
    told = judgement.retriever
    broken = (store_problem(told) or _embedding_problem(judgement, told)) if told is not None else None
    if broken is not None:
        return broken
    return judgement.outage if judgement.index.spec.search.mode != "Lexical" else None


def _ready(judgement: IndexJudgement, state: Problem | Progress | None) -> Verdict:
    now = serving(judgement, state)
    if isinstance(state, Problem):
        if now.status is TRUE and _is_edit(judgement, state):
            message = f"The older index serves on; the new spec does not: {state.reason}: {state.message}"
            return verdict(ConditionType.READY, FALSE, Reason.UPDATE_FAILED, message)
        return verdict(ConditionType.READY, FALSE, state.reason, state.message)
    if isinstance(state, Progress):
        return verdict(ConditionType.READY, UNKNOWN, state.reason, state.message)
    if now.status is not TRUE:
        return verdict(ConditionType.READY, FALSE, now.reason, now.message)
    told = judgement.retriever
    if told is None:
        kept = _stood(judgement, ConditionType.READY, Reason.READY)
        silent = verdict(ConditionType.READY, UNKNOWN, Reason.STARTING, "No retriever has answered yet.")
        return kept if kept is not None and judgement.rollout.state is None else silent
    name = told.serving
    why = (
        "is the one that spec.generation pins"
        if judgement.index.spec.generation is not None
        else "is of this spec"
    )
    message = f"Generation {name} {why}. {judgement.note}".rstrip()
    return verdict(ConditionType.READY, TRUE, Reason.READY, message)


def _is_edit(judgement: IndexJudgement, state: Problem) -> bool:
    """Tell whether what is wrong is the new spec, while an older one serves."""
    return state.reason not in OF_THE_STORE and (
        not judgement.build.current or judgement.rollout.serving_old or judgement.references is not None
    )


def _resolved(judgement: IndexJudgement) -> Verdict:
    flaw = judgement.references or judgement.sources
    if flaw is not None:
        return verdict(ConditionType.RESOLVED, FALSE, flaw.reason, flaw.message)
    count = len(judgement.index.spec.sources)
    message = f"What the embedding, the store and {count} source(s) name is there and may be used."
    return verdict(ConditionType.RESOLVED, TRUE, Reason.RESOLVED, message)


def _indexed(judgement: IndexJudgement) -> Verdict:
    build = judgement.build
    state = build.outcome.state
    if isinstance(state, Problem):
        return verdict(ConditionType.INDEXED, FALSE, state.reason, state.message)
    if isinstance(state, Progress):
        return verdict(ConditionType.INDEXED, UNKNOWN, state.reason, state.message)
    if build.done is None:
        return verdict(ConditionType.INDEXED, UNKNOWN, Reason.PENDING, "No build has ended yet.")
    report = build.report
    counted = f" of {report.documents} documents, {report.passages} passages" if report is not None else ""
    left = (
        f"; {report.refused} file(s) were left out, see status.errors"
        if report is not None and report.refused
        else ""
    )
    message = f"Generation {build.done.generation}{counted} was built{left}."
    return verdict(ConditionType.INDEXED, TRUE, Reason.INDEXED, message)


def _gate_passed(judgement: IndexJudgement) -> Verdict:
    if judgement.index.spec.quality_gate is None:
        message = "spec.qualityGate is not set: no golden question was asked."
        return verdict(ConditionType.GATE_PASSED, UNKNOWN, Reason.NO_GATE, message)
    gate = judgement.gate
    if gate is None:
        message = "The golden questions have not been asked yet."
        return verdict(ConditionType.GATE_PASSED, UNKNOWN, Reason.PENDING, message)
    figures = f"recall {gate.recall:.3f}, MRR {gate.mrr:.3f}, nDCG {gate.ndcg:.3f} of {gate.asked} questions"
    if gate.passed:
        message = f"Generation {gate.generation}: {figures}."
        return verdict(ConditionType.GATE_PASSED, TRUE, Reason.GATE_PASSED, message)
    fell = f"; these fell: {', '.join(gate.failed)}" if gate.failed else ""
    told = problem(Reason.GATE_FAILED, f"Generation {gate.generation} does not serve: {figures}{fell}.")
    return verdict(ConditionType.GATE_PASSED, FALSE, told.reason, told.message)


def _fresh(judgement: IndexJudgement) -> Verdict | None:
    spec, done = judgement.index.spec, judgement.build.done
    if spec.freshness is None or spec.schedule is None:
        return None
    allowed = duration_of(spec.freshness.max_lag)
    interval = interval_of(spec.schedule, judgement.now)
    took = (
        done.finished_at - done.started_at if done is not None and done.finished_at and done.started_at else None
    )
    needed = interval + took if took is not None else interval
    if allowed < needed:
        minutes = int(needed.total_seconds() // 60) + 1
        found = (
            f"maxLag {spec.freshness.max_lag} is less than the schedule's interval and a build: {minutes} minutes."
        )
        told = problem(Reason.LAG_UNREACHABLE, found)
        return verdict(ConditionType.FRESH, FALSE, told.reason, told.message)
    if done is None or done.started_at is None:
        return verdict(ConditionType.FRESH, UNKNOWN, Reason.PENDING, "Nothing has been indexed yet.")
    since = f"{done.started_at:%Y-%m-%dT%H:%M:%SZ}"
    if judgement.now - done.started_at > allowed:
        told = problem(Reason.STALE, f"The last good build began at {since}, before {spec.freshness.max_lag} ago.")
        return verdict(ConditionType.FRESH, FALSE, told.reason, told.message)
    return verdict(ConditionType.FRESH, TRUE, Reason.FRESH, f"The last good build began at {since}.")


def stale_in(index: RetrievalIndex, build: BuildPlan, now: datetime) -> float | None:
    """Return the seconds until the index is too old; no event tells that."""
    spec, done = index.spec, build.done
    if spec.freshness is None or done is None or done.started_at is None:
        return None
    left = (done.started_at + duration_of(spec.freshness.max_lag) - now).total_seconds()
    return earliest(left + 1.0) if left >= 0 else None
