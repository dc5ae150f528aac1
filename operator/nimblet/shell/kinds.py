# SPDX-License-Identifier: Apache-2.0
"""Our kinds, as the one loop sees them: a resource as read, turned into something that can be planned.

A kind differs from another in how it is parsed, what is gathered for it and which pure plan is asked, and in
nothing else; what a plan says is applied, deleted and told by reconcile.py for all alike.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, TypeVar

from nimblet import labels
from nimblet.api.assistant import Assistant
from nimblet.api.common import StatusModel
from nimblet.api.compactmodel import CompactModel
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.cluster.assistantfacts import gather_assistant_facts
from nimblet.cluster.child import Owner
from nimblet.cluster.client import Json
from nimblet.cluster.facts import (
    Gatherer,
    WantedSources,
    gather_model_facts,
    is_ready,
    of_component,
    pods_of,
)
from nimblet.cluster.indexfacts import gather_index_facts
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import Mirror
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
from nimblet.manifests import gateway, retriever
from nimblet.plan.adapters import wanted_sources
from nimblet.plan.assistant import plan_assistant, plan_invalid_assistant
from nimblet.plan.compactmodel import plan_compactmodel, plan_invalid
from nimblet.plan.facts import WriteFailure
from nimblet.plan.result import Plan
from nimblet.plan.retrievalindex import plan_invalid_index, plan_retrievalindex
from nimblet.settings import Settings

SERVERS: Final = {
    COMPACT_MODEL.kind: "model",
    RETRIEVAL_INDEX.kind: retriever.COMPONENT,
    ASSISTANT.kind: gateway.COMPONENT,
}
"""Component of the pods that answer, by kind."""


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

    def __call__(
        self, *, generation: int, status: S_contra, errors: str, ready: bool, now: datetime
    ) -> Plan[StatusModel]:
        """Return the plan."""


def _kind(
    resource: Resource,
    parse: Callable[[Json], R | Invalid[S]],
    plan: Callable[[R], Planner],
    refuse: Refuse[S],
    mirror: Mirror,
) -> Kind:
    def read(body: Json) -> Subject:
        parsed = parse(body)
        if isinstance(parsed, Invalid):
            metadata = metadata_of(body)
            key = Key(resource.kind, metadata.namespace, metadata.name)
            return Subject(
                status=parsed.status, plan=_refusing(parsed, refuse, ready=lambda: has_ready(mirror, key))
            )
        return Subject(status=parsed.status, plan=plan(parsed))

    return Kind(resource=resource, read=read)


def has_ready(mirror: Mirror, key: Key) -> bool:
    """Tell whether a pod that serves is ready by its probe: of a spec that does not parse no pod is asked."""
    return any(is_ready(pod) for pod in of_component(pods_of(mirror, key), SERVERS[key.kind]))


def _refusing(found: Invalid[S], refuse: Refuse[S], *, ready: Callable[[], bool]) -> Planner:
    async def plan(_: Sequence[WriteFailure], now: datetime) -> Planned | Later:
        told = refuse(
            generation=found.generation, status=found.status, errors=found.errors, ready=ready(), now=now
        )
        return Planned(plan=told)

    return plan


def assistant_kind(gatherer: Gatherer, settings: Settings) -> Kind:
    """Return the kind Assistant."""

    def plan(parsed: Assistant) -> Planner:
        return _assistant(parsed, gatherer, settings)

    return _kind(ASSISTANT, parse_assistant, plan, plan_invalid_assistant, gatherer.mirror)


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

    return _kind(COMPACT_MODEL, parse_compactmodel, plan, plan_invalid, gatherer.mirror)


def _model(model: CompactModel, gatherer: Gatherer, settings: Settings) -> Planner:
    async def plan(failures: Sequence[WriteFailure], now: datetime) -> Planned | Later:
        texts = await gather_trust(gatherer.client, model)
        wanted = WantedSources(hashes=wanted_sources(model, settings, texts), trust=texts)
        gathered = await gather_model_facts(gatherer, model, wanted, write_failures=failures, now=now)
        level = await pod_security(gatherer.client, model.namespace, settings)
        facts = replace(gathered.facts, pod_security=level)
        return Planned(plan=plan_compactmodel(model, facts, settings, now), look_again=gathered.look_again)

    return plan


def retrievalindex_kind(gatherer: Gatherer, settings: Settings) -> Kind:
    """Return the kind RetrievalIndex."""

    def plan(parsed: RetrievalIndex) -> Planner:
        return _index(parsed, gatherer, settings)

    return _kind(RETRIEVAL_INDEX, parse_retrievalindex, plan, plan_invalid_index, gatherer.mirror)


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
