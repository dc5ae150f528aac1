# SPDX-License-Identifier: Apache-2.0
"""The Qdrant servers of an index with a Dedicated store: from the spec to children, and how they stand. Pure.

There is one set of servers. What would need a second one is refused, and then nothing of theirs is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from nimblet import labels, names
from nimblet.api.indexstatus import ServersStatus
from nimblet.api.indexstore import Dedicated
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import NEXT_STEP, Reason
from nimblet.manifests.common import Manifest
from nimblet.manifests.qdrant import START_TRIES, QdrantKeys
from nimblet.manifests.retriever import SecretFile, retriever_part
from nimblet.plan.facts import Answer, Observation, PodFacts, WorkloadFacts
from nimblet.plan.index_config import StorePlan, server_store
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.qdrant import QdrantLoad, QdrantOwner, QdrantPlan, QdrantShape, SetFacts, plan_qdrant
from nimblet.plan.rollout import Expectation, judge_rollout
from nimblet.plan.stage import Problem, Progress, StageOutcome, earliest, problem
from nimblet.quantity import bytes_of, mebibytes, millicores, millicores_of
from nimblet.settings import Settings

ASSUMED_DIMENSION: Final = 1024
"""Numbers of a vector where the model does not tell: an assumption, at the large end of compact models."""
MORE_GENERATIONS: Final = 2
"""Beside those that are kept to roll back to: the serving one, and the one that is being built."""
KEY_VERSION: Final = 1
"""The servers' keys pass between retriever and servers alone; `access.keyVersion` does not change them."""
SETTLE_SECONDS: Final = 120.0
"""After this long a server that held parts of the index should be ready again."""
START_SECONDS: Final = 5.0 * START_TRIES
"""After this long a new one should be: what its startup probe allows."""
OOM_STEP: Final = "Raise resources.qdrant.memory, or set store.dedicated.memory OnDisk."


@dataclass(frozen=True, kw_only=True)
class _Servers:
    """How the pods of the set stand."""

    state: Problem | Progress | None
    lost: Problem | Progress | None
    requeue_after: float | None = None


def plan_servers(
    index: RetrievalIndex, facts: IndexFacts, settings: Settings, *, edited: bool, now: datetime
) -> StorePlan:
    """Return the servers and how the retriever asks them. `edited`: a newer image may be taken up."""
    live = facts.servers.sets[0] if facts.servers.sets else None
    image = settings.images.qdrant if live is None or edited or not live.image else live.image
    shape = _shape(index, facts, live)
    plan = plan_qdrant(
        _owner(index, facts, settings, image=image),
        shape,
        load=_load(index, facts),
        live=facts.servers.sets,
        serving=None,  # there is one set only, and it is never deleted
    )
    refused = _refusal(index, live, plan, shape)
    if refused is not None:
        return StorePlan(outcome=StageOutcome(state=refused), blocks=True)
    stand = _stand(index, facts, settings, replicas=max(shape.replicas, live.replicas if live else 0), now=now)
    complete = stand.state is None and not index.spec.suspend
    return StorePlan(
        outcome=StageOutcome(
            children=_children(facts, plan), state=stand.state, requeue_after=stand.requeue_after
        ),
        store=server_store(
            url=plan.target,
            # not the uid: a RetrievalIndex of the same name takes retained claims up again
            prefix=index.name,
            key=SecretFile(name="store", secret=names.qdrant_keys(index.name)),
            collection=plan.collection,
        ),
        blocks=True,
        lost=None if index.spec.suspend else stand.lost,
        servers=ServersStatus(count=shape.replicas, copies=shape.replication_factor) if complete else None,
        newer_image=image != settings.images.qdrant,
        note=plan.short,
    )


def _shape(index: RetrievalIndex, facts: IndexFacts, live: SetFacts | None) -> QdrantShape:
    store, wanted = index.spec.store, index.spec.store.dedicated or Dedicated()
    sizes = index.spec.resources.qdrant
    memory, cpu = (sizes.memory, sizes.cpu) if sizes is not None else (None, None)
    if live is not None and _dimension(index, facts) is None:
        # a model that went or rolls is no reason to restart servers
        memory = memory or mebibytes(bytes_of(live.memory))
        cpu = cpu or millicores(millicores_of(live.cpu))
    return QdrantShape(
        replicas=wanted.replicas,
        shards=wanted.shards,
        replication_factor=wanted.replication_factor,
        memory=wanted.memory,
        quantization=wanted.quantization,
        size=store.size,
        storage_class=store.storage_class_name,
        retained=store.retention == "Retain",
        server_memory=memory,
        server_cpu=cpu,
    )


def _dimension(index: RetrievalIndex, facts: IndexFacts) -> int | None:
    """Return the numbers of a vector; None while the named model does not tell."""
    if index.spec.embedding.model_ref is None:
        return ASSUMED_DIMENSION
    return facts.embedding.dimension or None if facts.embedding is not None else None


def _load(index: RetrievalIndex, facts: IndexFacts) -> QdrantLoad:
    told = facts.retriever.generations if facts.retriever is not None else ()
    known = [*(item.chunks for item in told), *(item.chunks for item in index.status.generations)]
    wanted = index.spec.store.dedicated or Dedicated()
    return QdrantLoad(
        chunks=max(wanted.passages, *known) if known else wanted.passages,
        dimension=_dimension(index, facts) or ASSUMED_DIMENSION,
        generations=index.spec.retain_generations + MORE_GENERATIONS,
    )


def _owner(index: RetrievalIndex, facts: IndexFacts, settings: Settings, *, image: str) -> QdrantOwner:
    caller: Manifest = {"podSelector": {"matchLabels": retriever_part(index.name, index.namespace).selector}}
    return QdrantOwner(
        name=index.name,
        namespace=index.namespace,
        kind_label=labels.INDEX,
        kind="RetrievalIndex",
        image=image,
        pull_policy=settings.images.pull_policy,
        keys=QdrantKeys(api_key=facts.servers.key, read_only=facts.servers.reader, versions=(KEY_VERSION,)),
        callers=(caller,),
        metrics_namespaces=settings.access.metrics_namespaces,
        scheduling=index.spec.scheduling,
        movable=False,
        suspended=index.spec.suspend,
    )


def _children(facts: IndexFacts, plan: QdrantPlan) -> tuple[Manifest, ...]:
    """Return the children; without the Secret where no key is known, as when planning offline."""
    return tuple(item for item in plan.children if facts.servers.key or item["kind"] != "Secret")


def _refusal(index: RetrievalIndex, live: SetFacts | None, plan: QdrantPlan, shape: QdrantShape) -> Problem | None:
    """Return why the spec's servers can't be made; those that are there are left as they are."""
    if live is None:
        return problem(Reason.STORE_TOO_SMALL, plan.short) if plan.short else None
    if not plan.refused:
        return None
    found = (
        f"StatefulSet {names.qdrant(index.name, number=live.number)} has {_words(live.replicas, live)}; "
        f"the spec asks for {_words(shape.replicas, shape)}."
    )
    return Problem(reason=Reason.IMMUTABLE_FIELD, message=f"{found} {plan.refused}")


def _words(replicas: int, has: SetFacts | QdrantShape) -> str:
    named = f" of StorageClass {has.storage_class}" if has.storage_class is not None else ""
    return f"{replicas} server(s) with claims of {has.size}{named}"


def _stand(
    index: RetrievalIndex, facts: IndexFacts, settings: Settings, *, replicas: int, now: datetime
) -> _Servers:
    """Return what is wrong with the servers, and whether so many are away that a part has no copy left."""
    pods = [_judged(pod) for pod in facts.servers.pods]
    wanted = 0 if index.spec.suspend else replicas
    rollout = judge_rollout(
        WorkloadFacts(deployment=facts.servers.workload, pods=tuple(pods), nodes=facts.nodes),
        Expectation(revision="", replicas=wanted, served_before=True, ready_before=True, workload="StatefulSet"),
        settings.timing,
        now=now,
    )
    ready = {pod.name for pod in pods if pod.ready and not pod.ended}
    held = index.status.servers or ServersStatus()
    name = names.qdrant(index.name, number=1)
    holding = [f"{name}-{at}" for at in range(held.count)]
    late, wait = _late(pods, holding=holding, now=now)
    state = rollout.state
    if isinstance(state, Problem):
        state = _told(state)
    elif state is not None and facts.servers.workload is not None:
        words = f"{len(ready)} of {wanted} Qdrant servers are ready."
        state = late or Progress(reason=Reason.STARTING, message=words)
    away = [item for item in holding if item not in ready]
    lost = state if not ready or len(away) >= held.copies else None
    return _Servers(state=state, lost=lost, requeue_after=earliest(rollout.requeue_after, wait))


def _judged(pod: PodFacts) -> PodFacts:
    """Return a server as a rollout counts it: by its own readiness, which knows of shards and consensus."""
    seen = Observation(answer=Answer.ANSWERED) if pod.ready else None
    return replace(pod, revision="", observation=seen)


def _told(state: Problem) -> Problem:
    """Return a pod's problem with the step that helps a Qdrant server."""
    if state.reason is not Reason.OOM_KILLED:
        return state
    found = state.message.removesuffix(NEXT_STEP[Reason.OOM_KILLED]).rstrip()
    return Problem(reason=state.reason, message=f"{found} {OOM_STEP}")


def _late(
    pods: Sequence[PodFacts], *, holding: Sequence[str], now: datetime
) -> tuple[Problem | None, float | None]:
    """Return a server that should be ready by now, or the seconds until the first one should be."""
    waits = []
    for pod in pods:
        if pod.ready or pod.terminating or pod.created_at is None:
            continue
        limit = SETTLE_SECONDS if pod.name in holding else START_SECONDS
        left = limit - (now - pod.created_at).total_seconds()
        if left <= 0:
            found = f"Qdrant server {pod.name} is not ready by its own probe; see its log."
            return problem(Reason.STORE_UNAVAILABLE, found), None
        waits.append(left)
    return None, min(waits, default=None)
