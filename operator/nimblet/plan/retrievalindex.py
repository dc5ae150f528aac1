# SPDX-License-Identifier: Apache-2.0
"""The plan of a RetrievalIndex: refer, store, retrieve, build, swap, judge. Pure; operator, CLI and tests call it.

A flaw of what the retriever needs leaves the retriever as it is; a flaw of a source stops builds alone.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nimblet import names
from nimblet.api.common import ConditionStatus
from nimblet.api.indexstatus import (
    MAX_COLLECTIONS,
    MAX_GENERATIONS,
    MAX_SERVERS,
    MAX_UNEMBEDDED,
    EmbeddingStatus,
    GateStatus,
    GenerationStatus,
    RetrievalIndexStatus,
    StoreServerStatus,
)
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import ABNORMAL_TRUE, ConditionType, Reason, verdict
from nimblet.manifests.configuration import with_pull_secrets
from nimblet.manifests.network import HTTP_PORT
from nimblet.merging import merge
from nimblet.plan.facts import ChildRef
from nimblet.plan.guarded import CLAIMS, QDRANT, Held, hold, policy_status, policy_verdicts
from nimblet.plan.index_basis import IndexBasis, Retriever, build_stage, index_basis
from nimblet.plan.index_build import BuildPlan, plan_build
from nimblet.plan.index_children import plan_surroundings, workload_kind
from nimblet.plan.index_config import StorePlan
from nimblet.plan.index_embedding import asks_outside
from nimblet.plan.index_point import operating_point
from nimblet.plan.index_servers import held_by, released
from nimblet.plan.index_snapshots import known_snapshots
from nimblet.plan.index_swap import SwapPlan, plan_swap
from nimblet.plan.index_verdicts import IndexJudgement, index_verdicts, stale_in
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.result import Plan
from nimblet.plan.rollout import Rollout
from nimblet.plan.stage import Problem, Progress, earliest, problem
from nimblet.plan.transport import Transport
from nimblet.plan.verdicts import kept_serving
from nimblet.plan.workload import unstoppable
from nimblet.settings import Settings

SWAP_SECONDS: Final = 1.0
"""Until the retriever is asked whether it serves what it was told to."""
EXTERNAL_STORE: Final = "The store at store.url."
EXTERNAL_MODEL: Final = "The embedding model at embedding.url."
POLL_SECONDS: Final = 10.0
"""Between two looks at what users put right outside of the spec, and nothing tells us of."""


@dataclass(frozen=True, kw_only=True)
class IndexPlan(Plan[RetrievalIndexStatus]):
    """A plan, and the generation that the retriever is to be told to serve."""

    serve: str | None = None


def plan_retrievalindex(index: RetrievalIndex, facts: IndexFacts, settings: Settings, now: datetime) -> IndexPlan:
    """Return the children, deletions and status of one index. Same arguments, same plan."""
    basis = index_basis(index, facts, settings, now)
    build = plan_build(build_stage(basis))
    swap = plan_swap(index, facts, build, asked=basis.store.asked)
    held = _held_plan(basis, build)
    flaws = (basis.guard.blocked, basis.references, basis.sources)
    outcomes = (basis.store.outcome, build.outcome, basis.rollout, basis.keys, basis.transport, basis.proof)
    return IndexPlan(
        children=with_pull_secrets(held.children, settings.images.pull_secrets),
        deletions=held.deletions,
        status=_judged(basis, build, swap),
        requeue_after=earliest(
            *(part.requeue_after for part in outcomes),
            stale_in(index, build, now),
            POLL_SECONDS if any(flaw is not None for flaw in flaws) else None,
            SWAP_SECONDS if swap.serve is not None else None,
        ),
        serve=swap.serve,
    )


def _held_plan(basis: IndexBasis, build: BuildPlan) -> Held:
    """Return children and deletions, as far as the policies allow them."""
    index, facts, store, transport = basis.index, basis.facts, basis.store, basis.transport
    suspended = index.spec.suspend
    retires = released(index, facts, store, steady=basis.rollout.state is None)
    return hold(
        basis.guard,
        facts.tee,
        children=(
            *basis.keys.children,
            *plan_surroundings(
                index,
                basis.settings,
                transport=transport,
                sets=store.sets,
                outside=asks_outside(index, facts, basis.retriever.known),
            ),
            *store.outcome.children,
            *(store.retire.children if retires else ()),
            *(basis.retriever.children if transport.ready or suspended else ()),
            *(transport.pods(item) if item["kind"] == "Job" else item for item in build.outcome.children),
        ),
        deletions=(
            *(store.retire.deletions if retires else ()),
            *build.outcome.deletions,
            *transport.deletions,
            *store.certificates.deletions,
            *_stopped(index, facts),
            *(
                ()
                if basis.retriever.children
                else unstoppable(facts, suspended=suspended, kind=workload_kind(index))
            ),
        ),
    )


def _judged(basis: IndexBasis, build: BuildPlan, swap: SwapPlan) -> RetrievalIndexStatus:
    """Return the status with its conditions."""
    index, facts, store, guard, proof = basis.index, basis.facts, basis.store, basis.guard, basis.proof
    transport, image, known = basis.transport, basis.image, basis.retriever.known
    encrypted, uncovered = transport.encrypted, _uncovered(index, transport, store)
    status = _status(index, facts, build=build, retriever=basis.retriever, rollout=basis.rollout)
    judgement = IndexJudgement(
        index=index,
        policy=guard.blocked or proof.flaw,
        references=basis.references,
        sources=basis.sources,
        model=basis.model,
        outage=_outage(facts, basis.model, known=known),
        store=store.outcome.state,
        lost=store.lost,
        note=f"{store.note} {facts.retriever.note if facts.retriever is not None else ''}".strip(),
        rollout=basis.rollout,
        retriever=facts.retriever,
        build=build,
        swap=swap.state,
        gate=status.gate,
        keys=basis.keys.state or proof.pending,
        transport=transport.state or store.certificates.state,
        write_failures=facts.write_failures,
        newer_images=image.newer or store.newer_image,
        now=basis.now,
    )
    verdicts = (*index_verdicts(judgement), *policy_verdicts(guard, facts.tee, proof, encrypted=encrypted))
    conditions = merge(index.status.conditions, verdicts, generation=index.generation, now=basis.now)
    return status.model_copy(
        update={
            "conditions": list(conditions),
            "image": image.name,
            "spec_hash": image.spec_hash,
            "servers": held_by(index, facts, store, built=_serves_built(facts, build)),
            "endpoint": transport.url(names.retriever(index.name), index.namespace, port=HTTP_PORT),
            "snapshots": known_snapshots(index, facts.retriever),
            "policy": policy_status(guard, proof, encrypted=encrypted, uncovered=uncovered),
        }
    )


def plan_invalid_index(
    *, generation: int, status: RetrievalIndexStatus, errors: str, ready: bool, now: datetime
) -> Plan[RetrievalIndexStatus]:
    """Return the plan for a spec that does not parse: touch nothing. `ready`: a pod is, by its probe."""
    state = problem(Reason.INVALID_SPEC, errors)
    told = (
        verdict(ConditionType.READY, ConditionStatus.FALSE, state.reason, state.message),
        verdict(ConditionType.STALLED, ConditionStatus.TRUE, state.reason, state.message),
    )
    anew = (ConditionType.READY, ConditionType.SERVING, *ABNORMAL_TRUE)
    kept = [item for item in status.conditions if item.type not in anew]
    serving = kept_serving(status.conditions, ready=ready, generation=generation, now=now)
    merged = [*merge(status.conditions, told, generation=generation, now=now), *serving, *kept]
    update = {"conditions": sorted(merged, key=lambda item: item.type), "observed_generation": generation}
    return Plan(children=(), deletions=(), status=status.model_copy(update=update))


def _outage(
    facts: IndexFacts, model: Problem | Progress | None, *, known: tuple[EmbeddingStatus, ...]
) -> Problem | Progress | None:
    """Return that the model which searches rely on does not serve: a newly named one is none yet."""
    embedding = facts.embedding
    if embedding is None or not embedding.found or embedding.serving or not known:
        return None
    return model if embedding.url == known[0].url else None


def _uncovered(index: RetrievalIndex, transport: Transport, store: StorePlan) -> list[str]:
    """Return what of an index no policy protects."""
    found = [CLAIMS] if index.spec.store.type != "External" else [EXTERNAL_STORE]
    if transport.encrypted and store.plain:
        found.append(QDRANT)
    return [*found, EXTERNAL_MODEL] if index.spec.embedding.url is not None else found


def _stopped(index: RetrievalIndex, facts: IndexFacts) -> tuple[ChildRef, ...]:
    """Return the builds of a suspended index: they run no more."""
    if not index.spec.suspend:
        return ()
    return tuple(ChildRef(kind="Job", name=job.name, uid=job.uid) for job in facts.builds if not job.ended)


def _status(
    index: RetrievalIndex, facts: IndexFacts, *, build: BuildPlan, retriever: Retriever, rollout: Rollout
) -> RetrievalIndexStatus:
    """Return the status without conditions; what a silent retriever can't tell stays as it was."""
    before, told, report = index.status, facts.retriever, build.report
    serving = told.generation(told.serving) if told is not None else None
    update: dict[str, object] = {
        "observed_generation": index.generation,
        "key_secret": names.purpose_key(index.name, purpose="search"),
        "building_generation": build.running.generation if build.running is not None else "",
        "build_percent": _percent(build),
        "build": build.done,
        "last_indexed_time": build.done.started_at if build.done is not None else before.last_indexed_time,
        "embeddings": list(retriever.known),
        "gate": _gate(index, facts, build),
        "replicas": rollout.current,
        "ready_replicas": rollout.answering,
    }
    if told is not None and told.store.ok:
        update["store_servers"] = [
            StoreServerStatus(
                url=item.url, version=item.version, collections=list(item.collections[:MAX_COLLECTIONS])
            )
            for item in told.servers[:MAX_SERVERS]
        ]
        sealed = [item for item in told.generations if item.sealed][-MAX_GENERATIONS:]
        update["serving_generation"] = told.serving or ""
        update["unembedded_pushes"] = min(told.unembedded, MAX_UNEMBEDDED)
        update["generations"] = [
            GenerationStatus(name=item.name, documents=item.documents, chunks=item.chunks, bytes=item.bytes)
            for item in sorted(sealed, key=lambda item: item.name)
        ]
        update["documents"] = serving.documents if serving is not None else 0
        update["chunks"] = serving.chunks if serving is not None else 0
        update["bytes"] = serving.bytes if serving is not None else 0
        update["operating_point"] = operating_point(serving) if serving is not None else None
    if report is not None:
        update["sources"] = report.source_statuses
        update["refused"] = report.refused
        update["errors"] = report.file_errors
    return before.model_copy(update=update)


def _serves_built(facts: IndexFacts, build: BuildPlan) -> bool:
    """Tell whether the serving generation is the one that was built for the current spec."""
    done, told = build.done, facts.retriever
    return build.current and done is not None and told is not None and told.serving == done.generation


def _percent(build: BuildPlan) -> int | None:
    running = build.running
    return running.percent // 10 * 10 if running is not None and running.percent is not None else None


def _gate(index: RetrievalIndex, facts: IndexFacts, build: BuildPlan) -> GateStatus | None:
    """Return what the golden questions last gave: of the latest build, where it came that far."""
    if index.spec.quality_gate is None:
        return None
    for report in (build.failed, build.report):
        if report is not None and report.gate_status is not None:
            return report.gate_status
    done, told = build.done, facts.retriever
    known = told.generation(done.generation) if told is not None and done is not None else None
    if known is None or known.gate is None:
        return index.status.gate
    gate = known.gate
    return GateStatus(
        generation=known.name,
        passed=gate.passed,
        asked=gate.asked,
        recall=gate.recall,
        mrr=gate.mrr,
        ndcg=gate.ndcg,
        failed=list(gate.failed),
    )
