# SPDX-License-Identifier: Apache-2.0
"""The part of a RetrievalIndex's plan that stands before anything is built: store, keys, retriever. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime

from nimblet import names
from nimblet.api.indexstatus import EmbeddingStatus
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import Reason
from nimblet.manifests.common import Manifest
from nimblet.manifests.retriever import retriever_part
from nimblet.manifests.template import revision_of
from nimblet.plan.attest import Proof
from nimblet.plan.guarded import confined, judge_proof
from nimblet.plan.index_build import Stage, wanted_build
from nimblet.plan.index_children import plan_retriever, wanted_replicas, workload_kind
from nimblet.plan.index_config import StorePlan
from nimblet.plan.index_embedding import known_embeddings
from nimblet.plan.index_keys import IndexKeys, plan_index_keys
from nimblet.plan.index_references import build_problem, retriever_problem
from nimblet.plan.index_store import plan_store
from nimblet.plan.index_trouble import store_problem, write_trouble
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.modelfacts import not_serving
from nimblet.plan.ownserver import OwnImage, bindable_of, choose_image
from nimblet.plan.rollout import Expectation, Rollout, judge_rollout
from nimblet.plan.stage import Problem, Progress, problem
from nimblet.plan.tee import Guard, plan_guard
from nimblet.plan.transport import Transport, Wanted, plan_transport
from nimblet.plan.verdicts import ready_since, served_at
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Retriever:
    """What became of the retriever: its configuration and workload, where they could be rendered."""

    children: tuple[Manifest, ...] = ()
    known: tuple[EmbeddingStatus, ...] = ()
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class IndexBasis:
    """What stands before anything is built: places, keys, the store, and the retriever in front of it."""

    index: RetrievalIndex
    facts: IndexFacts
    settings: Settings
    now: datetime
    references: Problem | None
    sources: Problem | None
    model: Problem | Progress | None
    keys: IndexKeys
    image: OwnImage
    guard: Guard
    proof: Proof
    store: StorePlan
    transport: Transport
    retriever: Retriever
    rollout: Rollout


def index_basis(index: RetrievalIndex, facts: IndexFacts, settings: Settings, now: datetime) -> IndexBasis:
    """Return what stands before anything is built."""
    references = retriever_problem(index, facts, settings)
    image = choose_image(index, facts, wanted=settings.images.retriever)
    edited = image.spec_hash != index.status.spec_hash
    guard = plan_guard(bindable_of(index, settings), facts.tee, facts.nodes)
    store = plan_store(index, facts, settings, edited=edited, now=now)
    transport = plan_transport(
        retriever_part(index.name, index.namespace, "tls"),
        Wanted(service=names.retriever(index.name), namespace=index.namespace),
        facts.transport,
        settings.tls,
        now,
    )
    retriever = _plan_retriever(index, facts, settings, store=store, flawed=references is not None)
    retriever = _guarded(guard, retriever, transport)
    return IndexBasis(
        index=index,
        facts=facts,
        settings=settings,
        now=now,
        references=references,
        sources=build_problem(index, facts, settings),
        model=_model_state(index, facts),
        keys=plan_index_keys(index, facts, now),
        image=image,
        guard=guard,
        proof=judge_proof(guard, facts.tee, now),
        store=store,
        transport=transport,
        retriever=retriever,
        rollout=judge_rollout(facts, _expectation(index, retriever), settings.timing, now=now),
    )


def build_stage(basis: IndexBasis) -> Stage:
    """Return what a build rests on."""
    store, known = basis.store, basis.retriever.known
    flaws = (basis.guard.blocked, basis.references, basis.sources, basis.model)
    return Stage(
        index=basis.index,
        facts=basis.facts,
        settings=basis.settings,
        wanted=wanted_build(
            basis.index, basis.facts, fingerprint=known[0].fingerprint if known else "", servers=store.number
        ),
        now=basis.now,
        blocked=_blocked(
            basis.facts,
            flaws=(*flaws, store.outcome.state if store.blocks else None),
            rollout=basis.rollout,
        ),
    )


def _model_state(index: RetrievalIndex, facts: IndexFacts) -> Problem | Progress | None:
    """Return that a model which is there does not serve."""
    found = None
    if index.spec.embedding.model_ref is not None and facts.embedding is not None and facts.embedding.found:
        found = not_serving(facts.embedding, field="embedding.modelRef")
    if found is None and index.spec.search.reranker_ref is not None and facts.reranker is not None:
        found = not_serving(facts.reranker, field="search.rerankerRef") if facts.reranker.found else None
    return found


def _plan_retriever(
    index: RetrievalIndex, facts: IndexFacts, settings: Settings, *, store: StorePlan, flawed: bool
) -> Retriever:
    known = known_embeddings(index, facts)
    if flawed or store.store is None or not known or _has_no_address(index, facts):
        return Retriever(known=tuple(index.status.embeddings) if flawed else known)
    config, workload = plan_retriever(index, facts, settings, store=store.store, known=known)
    return Retriever(children=(config, workload), known=known, revision=revision_of(workload))


def _has_no_address(index: RetrievalIndex, facts: IndexFacts) -> bool:
    """Tell whether the reranker was made a moment ago: its status does not tell yet where it answers."""
    return index.spec.search.reranker_ref is not None and facts.reranker is not None and not facts.reranker.url


def _guarded(guard: Guard, retriever: Retriever, transport: Transport) -> Retriever:
    """Return what will be applied: with its certificate, in the place that policies ask for."""
    if not retriever.children:
        return retriever
    config, workload = retriever.children
    placed = confined(guard, transport.pods(workload))
    return replace(retriever, children=(config, placed), revision=revision_of(placed))


def _expectation(index: RetrievalIndex, retriever: Retriever) -> Expectation:
    conditions = index.status.conditions
    return Expectation(
        revision=retriever.revision,
        replicas=wanted_replicas(index),
        served_at=served_at(conditions),
        ready_since=ready_since(conditions, told=index.status.observed_generation, generation=index.generation),
        proof="status",
        polled=True,
        workload=workload_kind(index),
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
