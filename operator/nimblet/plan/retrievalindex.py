# SPDX-License-Identifier: Apache-2.0
"""The plan of a RetrievalIndex: refer, store, retrieve, build, swap, judge. Pure; operator, CLI and tests call it.

A flaw of what the retriever needs leaves the retriever as it is; a flaw of a source stops builds alone.
"""

from dataclasses import dataclass, replace
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
from nimblet.manifests.common import Manifest
from nimblet.manifests.network import HTTP_PORT
from nimblet.manifests.retriever import retriever_part
from nimblet.manifests.template import revision_of
from nimblet.merging import merge
from nimblet.plan.facts import ChildRef
from nimblet.plan.guarded import CLAIMS, QDRANT, confined, hold, judge_proof, policy_status, policy_verdicts
from nimblet.plan.index_build import BuildPlan, Stage, plan_build, wanted_build
from nimblet.plan.index_children import (
    choose_image,
    plan_retriever,
    plan_surroundings,
    wanted_replicas,
)
from nimblet.plan.index_config import StorePlan
from nimblet.plan.index_embedding import known_embeddings
from nimblet.plan.index_keys import plan_index_keys
from nimblet.plan.index_point import operating_point
from nimblet.plan.index_references import build_problem, retriever_problem
from nimblet.plan.index_servers import held_by, released
from nimblet.plan.index_snapshots import known_snapshots
from nimblet.plan.index_store import plan_store
from nimblet.plan.index_swap import plan_swap
from nimblet.plan.index_trouble import store_problem, write_trouble
from nimblet.plan.index_verdicts import IndexJudgement, index_verdicts, stale_in
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.modelfacts import not_serving
from nimblet.plan.result import Plan
from nimblet.plan.rollout import Expectation, Rollout, judge_rollout
from nimblet.plan.stage import Problem, Progress, earliest, problem
from nimblet.plan.tee import Bindable, Guard, plan_guard
from nimblet.plan.transport import Transport, plan_transport
from nimblet.plan.verdicts import was_true
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


@dataclass(frozen=True, kw_only=True)
class _Retriever:
    """What became of the retriever: its configuration and workload, where they could be rendered."""

    children: tuple[Manifest, ...] = ()
    known: tuple[EmbeddingStatus, ...] = ()
    revision: str | None = None


def plan_retrievalindex(index: RetrievalIndex, facts: IndexFacts, settings: Settings, now: datetime) -> IndexPlan:
    """Return the children, deletions and status of one index. Same arguments, same plan."""
    references = retriever_problem(index, facts, settings)
    sources = build_problem(index, facts, settings)
    model = _model_state(index, facts)
    keys = plan_index_keys(index, facts, now)
    image = choose_image(index, facts, settings)
    edited = image.spec_hash != index.status.spec_hash
    guard = plan_guard(_bindable(index, settings), facts.tee, facts.nodes)
    proof = judge_proof(guard, facts.tee, now)
    store = plan_store(index, facts, settings, edited=edited, now=now)
    flawed = references is not None
    transport = plan_transport(
        retriever_part(index.name, index.namespace, "tls"),
        names.retriever(index.name),
        facts.transport,
        settings.tls,
        now,
    )
    retriever = _plan_retriever(index, facts, settings, store=store, flawed=flawed)
    retriever = _guarded(guard, retriever, transport)
    known = retriever.known
    rollout = judge_rollout(facts, _expectation(index, retriever), settings.timing, now=now)
    stage = Stage(
        index=index,
        facts=facts,
        settings=settings,
        wanted=wanted_build(index, facts, fingerprint=known[0].fingerprint if known else "", servers=store.number),
        now=now,
        blocked=_blocked(
            facts,
            flaws=(guard.blocked, references, sources, model, store.outcome.state if store.blocks else None),
            rollout=rollout,
        ),
    )
    build = plan_build(stage)
    retires = released(index, facts, store, steady=rollout.state is None)
    swap = plan_swap(index, facts, build)
    status = _status(index, facts, build=build, retriever=retriever, rollout=rollout).model_copy(
        update={
            "image": image.image,
            "spec_hash": image.spec_hash,
            "servers": held_by(index, facts, store, built=_serves_built(facts, build)),
            "endpoint": transport.url(names.retriever(index.name), index.namespace, port=HTTP_PORT),
            "snapshots": known_snapshots(index, facts.retriever),
            "policy": policy_status(
                guard, proof, encrypted=transport.encrypted, uncovered=_uncovered(index, transport)
            ),
        }
    )
    judgement = IndexJudgement(
        index=index,
        policy=guard.blocked or proof.flaw,
        references=references,
        sources=sources,
        model=model,
        outage=_outage(facts, model, known=known),
        store=store.outcome.state,
        lost=store.lost,
        note=f"{store.note} {facts.retriever.note if facts.retriever is not None else ''}".strip(),
        rollout=rollout,
        retriever=facts.retriever,
        build=build,
        swap=swap.state,
        gate=status.gate,
        keys=keys.state or proof.pending,
        write_failures=facts.write_failures,
        newer_images=image.newer or store.newer_image,
        now=now,
    )
    verdicts = (
        *index_verdicts(judgement),
        *policy_verdicts(guard, facts.tee, proof, encrypted=transport.encrypted),
    )
    conditions = merge(index.status.conditions, verdicts, generation=index.generation, now=now)
    allowed = hold(
        guard,
        facts.tee,
        children=(
            *keys.children,
            *plan_surroundings(index, settings, transport=transport, sets=store.sets),
            *store.outcome.children,
            *(store.retire.children if retires else ()),
            *(retriever.children if transport.ready or index.spec.suspend else ()),
            *(transport.pods(item) if item["kind"] == "Job" else item for item in build.outcome.children),
        ),
        deletions=(
            *(store.retire.deletions if retires else ()),
            *build.outcome.deletions,
            *_stopped(index, facts),
        ),
    )
    return IndexPlan(
        children=allowed.children,
        deletions=allowed.deletions,
        status=status.model_copy(update={"conditions": list(conditions)}),
        requeue_after=earliest(
            *(part.requeue_after for part in (store.outcome, build.outcome, rollout, keys, transport)),
            stale_in(index, build, now),
            proof.requeue_after,
            POLL_SECONDS if any(flaw is not None for flaw in (guard.blocked, references, sources)) else None,
            SWAP_SECONDS if swap.serve is not None else None,
        ),
        serve=swap.serve,
    )


def plan_invalid_index(
    *, generation: int, status: RetrievalIndexStatus, errors: str, now: datetime
) -> Plan[RetrievalIndexStatus]:
    """Return the plan for a spec that does not parse: say so and touch nothing."""
    state = problem(Reason.INVALID_SPEC, errors)
    told = (
        verdict(ConditionType.READY, ConditionStatus.FALSE, state.reason, state.message),
        verdict(ConditionType.STALLED, ConditionStatus.TRUE, state.reason, state.message),
    )
    kept = [item for item in status.conditions if item.type not in (ConditionType.READY, *ABNORMAL_TRUE)]
    merged = [*merge(status.conditions, told, generation=generation, now=now), *kept]
    update = {"conditions": sorted(merged, key=lambda item: item.type), "observed_generation": generation}
    return Plan(children=(), deletions=(), status=status.model_copy(update=update))


def _model_state(index: RetrievalIndex, facts: IndexFacts) -> Problem | Progress | None:
    """Return that a model which is there does not serve."""
    found = None
    if index.spec.embedding.model_ref is not None and facts.embedding is not None and facts.embedding.found:
        found = not_serving(facts.embedding, field="embedding.modelRef")
    if found is None and index.spec.search.reranker_ref is not None and facts.reranker is not None:
        found = not_serving(facts.reranker, field="search.rerankerRef") if facts.reranker.found else None
    return found


def _outage(
    facts: IndexFacts, model: Problem | Progress | None, *, known: tuple[EmbeddingStatus, ...]
) -> Problem | Progress | None:
    """Return that the model which searches rely on does not serve: a newly named one is none yet."""
    embedding = facts.embedding
    if embedding is None or not embedding.found or embedding.serving or not known:
        return None
    return model if embedding.url == known[0].url else None


def _plan_retriever(
    index: RetrievalIndex, facts: IndexFacts, settings: Settings, *, store: StorePlan, flawed: bool
) -> _Retriever:
    known = known_embeddings(index, facts)
    if flawed or store.store is None or not known:
        return _Retriever(known=tuple(index.status.embeddings) if flawed else known)
    config, workload = plan_retriever(index, facts, settings, store=store.store, known=known)
    return _Retriever(children=(config, workload), known=known, revision=revision_of(workload))


def _guarded(guard: Guard, retriever: _Retriever, transport: Transport) -> _Retriever:
    """Return what will be applied: with its certificate, in the place that policies ask for."""
    if not retriever.children:
        return retriever
    config, workload = retriever.children
    placed = confined(guard, transport.pods(workload))
    return replace(retriever, children=(config, placed), revision=revision_of(placed))


def _bindable(index: RetrievalIndex, settings: Settings) -> Bindable:
    before = index.status.policy
    return Bindable(
        ref=index.spec.tee_policy_ref,
        before=before.technology if before is not None else "",
        gate_image=settings.images.loader,
        pull_policy=settings.images.pull_policy,
    )


def _uncovered(index: RetrievalIndex, transport: Transport) -> list[str]:
    """Return what of an index no policy protects."""
    found = [CLAIMS] if index.spec.store.type != "External" else [EXTERNAL_STORE]
    if transport.encrypted and index.spec.store.type == "Dedicated":
        found.append(QDRANT)
    return [*found, EXTERNAL_MODEL] if index.spec.embedding.url is not None else found


def _expectation(index: RetrievalIndex, retriever: _Retriever) -> Expectation:
    conditions = index.status.conditions
    return Expectation(
        revision=retriever.revision,
        replicas=wanted_replicas(index),
        served_before=was_true(conditions, ConditionType.SERVING),
        ready_before=was_true(conditions, ConditionType.READY)
        and index.status.observed_generation == index.generation,
        proof="status",
        polled=True,
        workload="StatefulSet" if index.spec.store.type == "Embedded" else "Deployment",
    )


def _blocked(
    facts: IndexFacts,
    *,
    flaws: tuple[Problem | Progress | None, ...],
    rollout: Rollout,
) -> Problem | Progress | None:
    """Return why no build can begin: a flaw, or a retriever that is not there, not of this spec, or full."""
    found = next((flaw for flaw in flaws if flaw is not None), None)
    if found is not None:
        return found
    told = facts.retriever
    if told is None or rollout.state is not None:
        return rollout.state or Progress(reason=Reason.STARTING, message="The retriever has not answered yet.")
    stopping = store_problem(told) or write_trouble(told)
    if stopping is not None:
        return stopping
    if not told.embedding.ok and told.embedding.reason != Reason.EMBEDDING_CHANGED:
        found_words = told.embedding.message.rstrip(".")
        return problem(
            Reason.EMBEDDING_UNAVAILABLE, f"The retriever can't use the embedding model: {found_words}."
        )
    return None


def _stopped(index: RetrievalIndex, facts: IndexFacts) -> tuple[ChildRef, ...]:
    """Return the builds of a suspended index: they run no more."""
    if not index.spec.suspend:
        return ()
    return tuple(ChildRef(kind="Job", name=job.name, uid=job.uid) for job in facts.builds if not job.ended)


def _status(
    index: RetrievalIndex, facts: IndexFacts, *, build: BuildPlan, retriever: _Retriever, rollout: Rollout
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
