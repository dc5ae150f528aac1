# SPDX-License-Identifier: Apache-2.0
"""Plans what files hold, models first, so that each resource sees what the file itself tells of those it names.

The plans are the operator's own functions; where facts come from is the caller's: a facts file, or a cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeVar

from nimblet.api.assistant import Assistant
from nimblet.api.common import ModelRef, StatusModel
from nimblet.api.compactmodel import CompactModel
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.cli.bundle import Bundle, Own, Place
from nimblet.cluster.indexref import reference_of
from nimblet.cluster.modelref import model_reference
from nimblet.cluster.resources import ASSISTANT, COMPACT_MODEL, RETRIEVAL_INDEX
from nimblet.plan.assistant import plan_assistant
from nimblet.plan.assistantfacts import AssistantFacts, IndexReference
from nimblet.plan.compactmodel import plan_compactmodel
from nimblet.plan.facts import ModelFacts
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.modelfacts import ModelReference
from nimblet.plan.result import Plan
from nimblet.plan.retrievalindex import plan_retrievalindex
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known from the files by the time that a resource is planned."""

    bundle: Bundle
    models: dict[Place, ModelReference] = field(default_factory=dict)
    indexes: dict[Place, IndexReference] = field(default_factory=dict)


T = TypeVar("T")


def within(found: Mapping[Place, T], namespace: str) -> dict[str, T]:
    """Return by name what lies in a namespace: references never leave it."""
    return {name: item for (place, name), item in found.items() if place == namespace}


def model_in(known: Known, namespace: str, ref: ModelRef | None) -> ModelReference | None:
    """Return a model of the files that a spec names, one that is not found, or None where it names none."""
    if ref is None:
        return None
    return known.models.get((namespace, ref.name), ModelReference(name=ref.name, found=False))


class Source(Protocol):
    """Where facts come from that the files do not hold, and what the cluster has of each resource already."""

    async def model(self, model: CompactModel) -> tuple[CompactModel, ModelFacts]:
        """Return the facts about a model."""

    async def index(self, index: RetrievalIndex, known: Known) -> tuple[RetrievalIndex, IndexFacts]:
        """Return the facts about an index."""

    async def assistant(self, assistant: Assistant, known: Known) -> tuple[Assistant, AssistantFacts]:
        """Return the facts about an Assistant."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One resource and its plan."""

    kind: str
    namespace: str
    name: str
    plan: Plan[StatusModel]


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What all resources are planned under. `serving`: what is named counts as answering."""

    settings: Settings
    now: datetime
    serving: bool = False


async def plan_bundle(bundle: Bundle, source: Source, under: Circumstances) -> tuple[Planned, ...]:
    """Return the plans of all resources, in their order."""
    known, planned = Known(bundle=bundle), []
    settings, now = under.settings, under.now
    for named in bundle.models:
        model, facts = await source.model(named)
        plan = plan_compactmodel(model, facts, settings, now)
        planned.append(_planned(COMPACT_MODEL.kind, model, plan))
        seen = model_reference(model.model_copy(update={"status": plan.status}))
        known.models[model.namespace, model.name] = seen
    for wanted in bundle.indexes:
        index, about = await source.index(wanted, known)
        if under.serving:
            embedding, reranker = serving_model(about.embedding), serving_model(about.reranker)
            about = replace(about, embedding=embedding, reranker=reranker)
        made = plan_retrievalindex(index, about, settings, now)
        planned.append(_planned(RETRIEVAL_INDEX.kind, index, made))
        known.indexes[index.namespace, index.name] = reference_of(index.name, made.status)
    for asked in bundle.assistants:
        assistant, around = await source.assistant(asked, known)
        if under.serving:
            around = serving_all(around)
        answer = plan_assistant(assistant, around, settings, now)
        planned.append(_planned(ASSISTANT.kind, assistant, answer))
    return tuple(planned)


def _planned(kind: str, resource: Own, plan: Plan[StatusModel]) -> Planned:
    return Planned(kind=kind, namespace=resource.namespace, name=resource.name, plan=plan)


def serving_model(model: ModelReference | None) -> ModelReference | None:
    """Return a model as it is seen once it answers by its spec; one that is not there stays so."""
    if model is None or not model.found:
        return model
    return replace(model, serving=True, ready=True, reason="", message="")


def serving_all(facts: AssistantFacts) -> AssistantFacts:
    """Return the facts in which all that an Assistant names answers, each index with a passage at least."""
    indexes = [
        replace(item, serving=True, reason="", message="", chunks=max(item.chunks, 1)) if item.found else item
        for item in facts.indexes
    ]
    return replace(
        facts,
        model=serving_model(facts.model),
        fallback=serving_model(facts.fallback),
        guard=serving_model(facts.guard),
        indexes=tuple(indexes),
    )
