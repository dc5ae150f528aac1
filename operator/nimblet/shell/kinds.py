# SPDX-License-Identifier: Apache-2.0
"""Our kinds, as the one loop sees them: a resource as read, turned into something that can be planned.

A kind differs from another in how it is parsed, what is gathered for it and which pure plan is asked, and in
nothing else; what a plan says is applied, deleted and told by reconcile.py for all alike.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

from nimblet import labels
from nimblet.api.assistant import Assistant
from nimblet.api.common import StatusModel
from nimblet.api.compactmodel import CompactModel
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.cluster.assistantfacts import gather_assistant_facts
from nimblet.cluster.child import Owner
from nimblet.cluster.client import Json
from nimblet.cluster.facts import Gatherer, gather_model_facts
from nimblet.cluster.indexfacts import gather_index_facts
from nimblet.cluster.key import Key
from nimblet.cluster.named import gather_trust
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.parse import (
    Invalid,
    parse_assistant,
    parse_compactmodel,
    parse_retrievalindex,
)
from nimblet.cluster.podsecurity import pod_security
from nimblet.cluster.resources import ASSISTANT, COMPACT_MODEL, RETRIEVAL_INDEX, Resource
from nimblet.cluster.serve import ServeOrder, give
from nimblet.plan.assistant import plan_assistant, plan_invalid_assistant
from nimblet.plan.compactmodel import plan_compactmodel, plan_invalid
from nimblet.plan.facts import WriteFailure
from nimblet.plan.integrity import known_trust
from nimblet.plan.result import Plan
from nimblet.plan.retrievalindex import plan_invalid_index, plan_retrievalindex
from nimblet.plan.source import source_hash
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan, and the seconds after which its facts are old without any event telling; None: events suffice."""

    plan: Plan[StatusModel]
    look_again: float | None = None
    act: Callable[[], Awaitable[None]] | None = None
    """What is done once children are applied, beyond writing to the API server: an order to a pod of ours."""


@dataclass(frozen=True, kw_only=True)
class Later:
    """Nothing is decided yet: a server is being asked for the first time. Its answer wakes the resource."""

    seconds: float


Planner = Callable[[Sequence[WriteFailure], datetime], Awaitable[Planned | Later]]
"""Gathers and plans, given what the last pass could not write. It writes nothing."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One resource of ours as read: what its status says, and how it is planned."""

    status: StatusModel
    plan: Planner


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of ours. `read` parses; a spec that does not parse gives a subject whose plan says so."""

    resource: Resource
    read: Callable[[Json], Subject]


def kinds_of(gatherer: Gatherer, settings: Settings) -> Mapping[str, Kind]:
    """Return all our kinds by name."""
    kinds = (
        assistant_kind(gatherer, settings),
        compactmodel_kind(gatherer, settings),
        retrievalindex_kind(gatherer, settings),
    )
    return {kind.resource.kind: kind for kind in kinds}


def owner_of(body: Json) -> Owner:
    """Return who owns the children of a resource of ours."""
    metadata = metadata_of(body)
    return Owner(
        api_version=labels.API_VERSION,
        kind=str(body["kind"]),
        name=metadata.name,
        uid=metadata.uid,
        namespace=metadata.namespace,
        deleting=metadata.deletion_timestamp is not None,
        known=bool(body.get("status")),
    )


class Parsed(Protocol):
    """A resource of ours whose spec parsed."""

    @property
    def status(self) -> StatusModel:
        """Return its stored status."""


R = TypeVar("R", bound=Parsed)
S = TypeVar("S", bound=StatusModel)
S_contra = TypeVar("S_contra", bound=StatusModel, contravariant=True)


class Refuse(Protocol[S_contra]):
    """Plans for a spec that does not parse: says so and touches nothing."""

    def __call__(self, *, generation: int, status: S_contra, errors: str, now: datetime) -> Plan[StatusModel]:
        """Return the plan."""


def _kind(
    resource: Resource,
    parse: Callable[[Json], R | Invalid[S]],
    plan: Callable[[R], Planner],
    refuse: Refuse[S],
) -> Kind:
    def read(body: Json) -> Subject:
        parsed = parse(body)
        if isinstance(parsed, Invalid):
            return Subject(status=parsed.status, plan=_refusing(parsed, refuse))
        return Subject(status=parsed.status, plan=plan(parsed))

    return Kind(resource=resource, read=read)


def _refusing(found: Invalid[S], refuse: Refuse[S]) -> Planner:
    async def plan(_: Sequence[WriteFailure], now: datetime) -> Planned | Later:
        return Planned(plan=refuse(generation=found.generation, status=found.status, errors=found.errors, now=now))

    return plan


def assistant_kind(gatherer: Gatherer, settings: Settings) -> Kind:
    """Return the kind Assistant."""

    def plan(parsed: Assistant) -> Planner:
        return _assistant(parsed, gatherer, settings)

    return _kind(ASSISTANT, parse_assistant, plan, plan_invalid_assistant)


def _assistant(assistant: Assistant, gatherer: Gatherer, settings: Settings) -> Planner:
    async def plan(failures: Sequence[WriteFailure], now: datetime) -> Planned | Later:
        gathered = await gather_assistant_facts(gatherer, assistant, write_failures=failures, now=now)
        if gathered.wait is not None:
            return Later(seconds=gathered.wait)
        planned = plan_assistant(assistant, gathered.facts, settings, now)
        return Planned(plan=planned, look_again=gathered.look_again)

    return plan


def compactmodel_kind(gatherer: Gatherer, settings: Settings) -> Kind:
    """Return the kind CompactModel."""

    def plan(parsed: CompactModel) -> Planner:
        return _model(parsed, gatherer, settings)

    return _kind(COMPACT_MODEL, parse_compactmodel, plan, plan_invalid)


def _model(model: CompactModel, gatherer: Gatherer, settings: Settings) -> Planner:
    async def plan(failures: Sequence[WriteFailure], now: datetime) -> Planned | Later:
        texts = await gather_trust(gatherer.client, model)
        wanted = source_hash(model.spec, settings, known_trust(model, texts))
        gathered = await gather_model_facts(
            gatherer, model, wanted_source=wanted, trust=texts, write_failures=failures, now=now
        )
        level = await pod_security(gatherer.client, model.namespace, settings)
        facts = replace(gathered.facts, pod_security=level)
        return Planned(plan=plan_compactmodel(model, facts, settings, now), look_again=gathered.look_again)

    return plan


def retrievalindex_kind(gatherer: Gatherer, settings: Settings) -> Kind:
    """Return the kind RetrievalIndex."""

    def plan(parsed: RetrievalIndex) -> Planner:
        return _index(parsed, gatherer, settings)

    return _kind(RETRIEVAL_INDEX, parse_retrievalindex, plan, plan_invalid_index)


def _index(index: RetrievalIndex, gatherer: Gatherer, settings: Settings) -> Planner:
    async def plan(failures: Sequence[WriteFailure], now: datetime) -> Planned | Later:
        gathered = await gather_index_facts(gatherer, index, write_failures=failures, now=now)
        if gathered.wait is not None:
            return Later(seconds=gathered.wait)
        planned = plan_retrievalindex(index, gathered.facts, settings, now)
        pod = gathered.answering()
        if planned.serve is None or pod is None:
            return Planned(plan=planned, look_again=gathered.look_again)
        order = ServeOrder(
            key=Key(RETRIEVAL_INDEX.kind, index.namespace, index.name),
            pod=pod,
            generation=planned.serve,
            api_key=gathered.operate_key,
        )

        async def act() -> None:
            await give(gatherer.poller, order)

        return Planned(plan=planned, look_again=gathered.look_again, act=act)

    return plan
