# SPDX-License-Identifier: Apache-2.0
"""The Qdrant servers of an index as facts: their StatefulSets, their pods, their keys. Reads only.

Their claims are made by the StatefulSet controller and not mirrored: a claim that is not bound shows in the words
of the pod that waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from nimblet import labels, names
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.cluster.child import is_ours
from nimblet.cluster.client import Client
from nimblet.cluster.facts import (
    Gatherer,
    children,
    of_component,
    pod_facts,
    pods_of,
    told_by_events,
    workload_facts,
)
from nimblet.cluster.key import Key
from nimblet.cluster.masterkey import purpose_key
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.observed import Container, Pod, StatefulSet, metadata_of
from nimblet.cluster.resources import CLAIM, RETRIEVAL_INDEX, STATEFUL_SET
from nimblet.cluster.stuck import NEXT_LOOK_SECONDS, blocked_set, next_setup_look
from nimblet.cluster.trim import Object
from nimblet.manifests.qdrant import COMPONENT, component_of, number_of
from nimblet.manifests.transport import TLS
from nimblet.plan.facts import ChildRef, DeploymentFacts, PodFacts
from nimblet.plan.index_servers import KEY_VERSION
from nimblet.plan.index_sets import certified
from nimblet.plan.indexfacts import ServersFacts
from nimblet.plan.qdrant import SetFacts

WRITES: Final = "qdrant"
READS: Final = "qdrant-read"
"""Purposes of the servers' two keys."""


@dataclass(frozen=True, kw_only=True)
class GatheredServers:
    """Facts, and the seconds after which they are old without any event telling; None: events suffice."""

    facts: ServersFacts = field(default_factory=ServersFacts)
    look_again: float | None = None


async def gather_servers(
    gatherer: Gatherer, index: RetrievalIndex, key: Key, *, pods: Sequence[Pod], now: datetime
) -> GatheredServers:
    """Return the servers of a Dedicated store; of another store there are none."""
    if index.spec.store.type != "Dedicated":
        return GatheredServers()
    mirror, master = gatherer.mirror, gatherer.master_key
    owned = children(mirror, key, uid=index.uid)
    bodies = _bodies(mirror, key, uid=index.uid)
    crews = [await _crew(gatherer, body, pods=pods, owned=owned, now=now) for body in bodies]
    found = await _servers(gatherer.client, index, crews)
    return GatheredServers(
        facts=replace(
            found,
            transports={
                number: await gatherer.certificate(
                    key, names.qdrant(index.name, number=number), uid=index.uid, now=now, peers=True
                )
                for number in certified(index, found.sets, retained=found.retained)
            },
            key=purpose_key(master, uid=index.uid, purpose=WRITES, version=KEY_VERSION),
            reader=purpose_key(master, uid=index.uid, purpose=READS, version=KEY_VERSION),
        ),
        look_again=min((crew.look_again for crew in crews if crew.look_again is not None), default=None),
    )


async def servers_as_read(client: Client, mirror: Mirror, index: RetrievalIndex, key: Key) -> ServersFacts:
    """Return the servers as their objects alone tell of them: no event, no certificate and no key is looked at."""
    if index.spec.store.type != "Dedicated":
        return ServersFacts()
    owned, pods = children(mirror, key, uid=index.uid), pods_of(mirror, key)
    crews = []
    for body in _bodies(mirror, key, uid=index.uid):
        facts = set_facts(StatefulSet.model_validate(body), owned)
        mine = tuple(pod_facts(pod) for pod in of_component(pods, component_of(facts.number)))
        crews.append(_Crew(facts=facts, workload=workload_facts(body), pods=mine))
    return await _servers(client, index, crews)


def _bodies(mirror: Mirror, key: Key, *, uid: str) -> list[Object]:
    """Return the StatefulSets of servers: an Embedded store's is the retriever itself."""
    return [
        body
        for body in mirror.owned(key, STATEFUL_SET.kind)
        if is_ours(body, kind=key.kind, name=key.name, uid=uid) and number_of(_component(body)) is not None
    ]


async def _servers(client: Client, index: RetrievalIndex, crews: Sequence["_Crew"]) -> ServersFacts:
    return ServersFacts(
        sets=tuple(sorted((crew.facts for crew in crews), key=lambda item: item.number)),
        workloads={crew.facts.number: crew.workload for crew in crews},
        pods={crew.facts.number: crew.pods for crew in crews},
        retained=await _retained(client, index) if not crews else None,
    )


async def _retained(client: Client, index: RetrievalIndex) -> int | None:
    """Return the oldest set whose claims an index of this name left behind; they have their set's labels."""
    mark = labels.retained_for(RETRIEVAL_INDEX.kind, index.name)
    numbers = []
    async for body in client.list(CLAIM, namespace=index.namespace, label_selector=f"{labels.INDEX}={index.name}"):
        number = number_of(_component(body))
        if number is not None and metadata_of(body).annotations.get(labels.RETAINED_FOR) == mark:
            numbers.append(number)
    return min(numbers, default=None)


@dataclass(frozen=True, kw_only=True)
class _Crew:
    """One set with its pods."""

    facts: SetFacts
    workload: DeploymentFacts
    pods: tuple[PodFacts, ...]
    look_again: float | None = None


def _component(body: Object) -> str:
    return metadata_of(body).labels.get(labels.COMPONENT, "")


async def _crew(
    gatherer: Gatherer, body: Object, *, pods: Sequence[Pod], owned: Sequence[ChildRef], now: datetime
) -> _Crew:
    live = StatefulSet.model_validate(body)
    facts = set_facts(live, owned)
    mine = of_component(pods, component_of(facts.number))
    missing = len(mine) < live.spec.replicas
    refused = await blocked_set(gatherer.client, live.metadata, missing=missing, now=now)
    waits = (next_setup_look(mine, now=now), NEXT_LOOK_SECONDS if missing else None)
    return _Crew(
        facts=facts,
        workload=replace(workload_facts(body), refused=refused),
        pods=tuple([await told_by_events(gatherer, pod, now=now) for pod in mine]),
        look_again=min((wait for wait in waits if wait is not None), default=None),
    )


def set_facts(live: StatefulSet, owned: Sequence[ChildRef]) -> SetFacts:
    """Return what a StatefulSet says of its servers; how many stands there also while it is scaled to none."""
    container = live.spec.template.spec.containers[0] if live.spec.template.spec.containers else Container()
    claim = live.spec.volume_claim_templates[0].spec if live.spec.volume_claim_templates else None
    head = live.spec.template.metadata
    told = live.metadata.annotations.get(labels.SERVERS, "")
    component = live.metadata.labels.get(labels.COMPONENT, COMPONENT)
    return SetFacts(
        number=number_of(component) or 1,
        replicas=int(told) if told.isdecimal() else live.spec.replicas,
        memory=container.resources.requests.memory,
        cpu=container.resources.requests.cpu,
        size=(claim.resources.requests.storage or "0") if claim is not None else "0",
        storage_class=claim.storage_class_name if claim is not None else None,
        retained=live.spec.persistent_volume_claim_retention_policy.when_deleted == "Retain",
        image=container.image,
        mode=live.metadata.annotations.get(labels.STORE_MEMORY, ""),
        tls=head.labels.get(labels.TRANSPORT) == TLS,
        certificate=head.annotations.get(labels.CERTIFICATE, ""),
        children=tuple(ref for ref in owned if ref.labels.get(labels.COMPONENT) == component),
    )
