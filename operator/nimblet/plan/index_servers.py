# SPDX-License-Identifier: Apache-2.0
"""The Qdrant servers of an index with a Dedicated store: from the spec to children, and how they stand. Pure.

Where a spec needs another set of servers, it is made beside the one that answers; the retriever asks both until
a generation of the new set's serves, and the old set goes once no retriever asks it. What can't be made at all is
refused, and then nothing of theirs is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from nimblet import labels, names
from nimblet.api.cache import READ_WRITE_ONCE
from nimblet.api.common import duration_of
from nimblet.api.indexstatus import ServersStatus
from nimblet.api.indexstore import Dedicated
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import Reason
from nimblet.manifests.common import Manifest
from nimblet.manifests.parts import part
from nimblet.manifests.qdrant import START_TRIES, QdrantKeys, component_of, server_url, servers_url
from nimblet.manifests.retriever import SecretFile, retriever_part
from nimblet.nextstep import NEXT_STEP
from nimblet.plan.claim import Wish, claim_problem
from nimblet.plan.facts import Answer, Observation, PodFacts, WorkloadFacts
from nimblet.plan.index_config import ServerStore, SnapshotShape, StorePlan, server_store
from nimblet.plan.index_sets import authorities_file, server_transports, spec_shape
from nimblet.plan.indexfacts import BuildFacts, IndexFacts
from nimblet.plan.qdrant import QdrantLoad, QdrantOwner, QdrantPlan, QdrantSets, QdrantShape, SetFacts, plan_qdrant
from nimblet.plan.rollout import Expectation, judge_rollout
from nimblet.plan.stage import Problem, Progress, StageOutcome, earliest, problem
from nimblet.plan.transport import Transport
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
CLASS_LOOK_SECONDS: Final = 5.0
"""No watch tells of a StorageClass that is made: look by the clock."""
OOM_STEP: Final = "Raise resources.qdrant.memory, or set store.dedicated.memory OnDisk."


@dataclass(frozen=True, kw_only=True)
class _Servers:
    """How the pods of the set stand."""

    state: Problem | Progress | None
    ready: frozenset[str]
    requeue_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a pass looks at; `answering` is the only set that the retriever uses, where that is known."""

    index: RetrievalIndex
    facts: IndexFacts
    settings: Settings
    now: datetime
    answering: int | None


def plan_servers(
    index: RetrievalIndex, facts: IndexFacts, settings: Settings, *, edited: bool, now: datetime
) -> StorePlan:
    """Return the servers and how the retriever asks them. `edited`: a newer image may be taken up."""
    sets = facts.servers.sets
    answering = _answering(index, facts)
    seen = _Seen(index=index, facts=facts, settings=settings, now=now, answering=answering)
    shape = _shape(index, facts, _set_of(sets, answering), tls=settings.tls.mode != "Off")
    transports = server_transports(index, facts.servers, settings.tls, now=now)
    owner = replace(_owner(index, facts, settings), transports=transports)
    plan = _planned(owner, seen, shape, edited=edited)
    current = _set_of(sets, plan.number) if plan.number in {item.number for item in sets} else None
    refused = _refusal(index, facts, plan) if current is None else None
    if refused is not None:
        return _refused(seen, plan, refused)
    replicas = max(shape.replicas, current.replicas if current is not None else 0)
    target = _stand(seen, number=plan.number, replicas=replicas)
    # the target's first
    numbers = dict.fromkeys((plan.number, *(item.number for item in sets)))
    ways = [owner.transport(number) for number in numbers]
    complete = target.state is None and not index.spec.suspend
    image = current.image if current is not None and current.image and not edited else settings.images.qdrant
    return StorePlan(
        outcome=StageOutcome(
            children=_children(facts, plan.children),
            state=target.state if ways[0].ready else ways[0].state or target.state,
            requeue_after=earliest(target.requeue_after, *(item.requeue_after for item in ways)),
        ),
        retire=StageOutcome(children=plan.retiring, deletions=plan.deletions),
        certificates=StageOutcome(
            state=next((item.state for item in ways if item.state is not None), None),
            deletions=tuple(child for item in ways for child in item.deletions),
        ),
        store=server_store(_store(seen, plan, ways, replicas=replicas)),
        blocks=True,
        lost=_lost(seen),
        number=plan.number,
        sets=tuple(sorted({plan.number, *(item.number for item in sets)})),
        answering=answering,
        servers=ServersStatus(number=plan.number, count=shape.replicas, copies=shape.replication_factor)
        if complete
        else None,
        newer_image=image != settings.images.qdrant,
        target=plan.target,
        asked=frozenset((plan.target, *plan.former)),
        plain=any(not item.encrypted for item in ways),
        note=f"{plan.moving} {plan.short}".strip(),
    )


def _refused(seen: _Seen, plan: QdrantPlan, refused: Problem) -> StorePlan:
    """Return what is left where no new set can be made: those that are there stand, or end with the index."""
    sets = seen.facts.servers.sets
    return StorePlan(
        outcome=StageOutcome(
            children=_others(seen, plan) if seen.index.spec.suspend else (),
            state=refused,
            requeue_after=_look(refused),
        ),
        blocks=True,
        lost=_lost(seen),
        sets=tuple(item.number for item in sets) or (1,),
        answering=seen.answering,
        plain=any(not item.tls for item in sets),
    )


def _others(seen: _Seen, plan: QdrantPlan) -> tuple[Manifest, ...]:
    """Return the sets that are there, and not the one that is to be made."""
    made = component_of(plan.number)
    children = _children(seen.facts, plan.children)
    return tuple(item for item in children if part(part(item, "metadata"), "labels")[labels.COMPONENT] != made)


def _store(seen: _Seen, plan: QdrantPlan, ways: Sequence[Transport], *, replicas: int) -> ServerStore:
    """Return what the retriever is told of its servers; `ways`: how each set is spoken to, the target first."""
    index = seen.index
    return ServerStore(
        url=plan.target,
        # not the uid: a RetrievalIndex of the same name takes retained claims up again
        prefix=index.name,
        key=SecretFile(name="store", secret=names.qdrant_keys(index.name)),
        collection=plan.collection,
        former=plan.former,
        snapshots=_snapshots(index, plan, replicas=replicas, tls=ways[0].encrypted),
        authorities=authorities_file(ways),
    )


def _planned(owner: QdrantOwner, seen: _Seen, shape: QdrantShape, *, edited: bool) -> QdrantPlan:
    """Plan with the image that the target has; which set that is, the plan says, whatever the image."""
    servers, load = seen.facts.servers, _load(seen.index, seen.facts)
    serving = seen.answering if seen.answering is not None else (None if servers.sets else 0)
    sets = QdrantSets(live=servers.sets, serving=serving, first=servers.retained or 1, swapping=_swapping(seen))
    plan = plan_qdrant(owner, shape, load, sets)
    kept = next((item.image for item in servers.sets if item.number == plan.number), "")
    if edited or not kept:
        return plan
    return plan_qdrant(replace(owner, image=kept), shape, load, sets)


def _swapping(seen: _Seen) -> frozenset[int]:
    """Return the sets that are asked while a build runs, or ended well after the retriever was."""
    told, builds = seen.facts.retriever, seen.facts.builds
    asked_at = seen.now - timedelta(seconds=told.age) if told is not None else None
    if not any(not job.ended or (job.succeeded and _since(job, asked_at)) for job in builds):
        return frozenset()
    asked = {item.url for item in told.servers} if told is not None else None
    sets = seen.facts.servers.sets
    return frozenset(item.number for item in sets if asked is None or _url(seen.index, item) in asked)


def _since(job: BuildFacts, moment: datetime | None) -> bool:
    """Tell whether a build ended after a moment, or may have."""
    return moment is None or job.finished_at is None or job.finished_at >= moment


def _answering(index: RetrievalIndex, facts: IndexFacts) -> int | None:
    """Return the only set that the retriever uses, or did when it last told; None while that is not known."""
    sets, told, before = facts.servers.sets, facts.retriever, index.status.servers
    if told is not None and told.store.ok and told.servers:
        used = {item.url for item in told.servers if item.used}
        found = [item.number for item in sets if _url(index, item) in used]
        return found[0] if len(found) == len(used) == 1 else None
    if before is not None and before.number in {item.number for item in sets}:
        return before.number
    return None


def _url(index: RetrievalIndex, live: SetFacts) -> str:
    return servers_url(index.name, index.namespace, number=live.number, tls=live.tls)


def _set_of(sets: Sequence[SetFacts], number: int | None) -> SetFacts | None:
    """Return a set by its number, the oldest while none is named."""
    return next((item for item in sets if number in (None, item.number)), None)


def released(index: RetrievalIndex, facts: IndexFacts, store: StorePlan, *, steady: bool) -> bool:
    """Tell whether every retriever asks the target alone, so that others may go. `steady`: all are current."""
    told = facts.retriever
    if told is None or not told.store.ok or not steady or index.spec.suspend:
        return False
    return [item.url for item in told.servers] == [store.target]


def held_by(index: RetrievalIndex, facts: IndexFacts, store: StorePlan, *, built: bool) -> ServersStatus | None:
    """Return where the serving generation lies. `built`: it is the one that was built for the servers of now."""
    before = index.status.servers
    if built and store.servers is not None and store.answering in (None, store.number):
        return store.servers
    live = next((item for item in facts.servers.sets if item.number == store.answering), None)
    if live is None or before is None or before.number == live.number:
        return before
    # back on a set that was left: how many copies there are nobody remembers
    return ServersStatus(number=live.number, count=live.replicas, copies=1)


def _shape(index: RetrievalIndex, facts: IndexFacts, live: SetFacts | None, *, tls: bool) -> QdrantShape:
    sizes = index.spec.resources.qdrant
    memory, cpu = (sizes.memory, sizes.cpu) if sizes is not None else (None, None)
    if live is not None and _dimension(index, facts) is None:
        # a model that went or rolls is no reason to restart servers
        memory = memory or mebibytes(bytes_of(live.memory))
        cpu = cpu or millicores(millicores_of(live.cpu))
    return replace(spec_shape(index, tls=tls), server_memory=memory, server_cpu=cpu)


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


def _owner(index: RetrievalIndex, facts: IndexFacts, settings: Settings) -> QdrantOwner:
    caller: Manifest = {"podSelector": {"matchLabels": retriever_part(index.name, index.namespace).selector}}
    return QdrantOwner(
        name=index.name,
        namespace=index.namespace,
        kind_label=labels.INDEX,
        kind="RetrievalIndex",
        image=settings.images.qdrant,
        pull_policy=settings.images.pull_policy,
        keys=QdrantKeys(api_key=facts.servers.key, read_only=facts.servers.reader, versions=(KEY_VERSION,)),
        callers=(caller,),
        metrics_namespaces=settings.access.metrics_namespaces,
        scheduling=index.spec.scheduling,
        suspended=index.spec.suspend,
    )


def _children(facts: IndexFacts, children: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """Return the children; without the Secret where no key is known, as when planning offline."""
    return tuple(item for item in children if facts.servers.key or item["kind"] != "Secret")


def _snapshots(index: RetrievalIndex, plan: QdrantPlan, *, replicas: int, tls: bool) -> SnapshotShape | None:
    """Return the snapshots to take; none while an index moves to other servers."""
    wanted = index.spec.store.dedicated.snapshots if index.spec.store.dedicated is not None else None
    if wanted is None or plan.former:
        return None
    name, namespace, number = index.name, index.namespace, plan.number
    addresses = (server_url(name, namespace, number=number, at=at, tls=tls) for at in range(replicas))
    every = int(duration_of(wanted.every).total_seconds())
    return SnapshotShape(servers=tuple(addresses), retain=wanted.retain, every_seconds=every)


def _refusal(index: RetrievalIndex, facts: IndexFacts, plan: QdrantPlan) -> Problem | None:
    """Return why a new set can't be made; those that are there are left as they are."""
    spec = index.spec.store
    wish = Wish(
        access_mode=READ_WRITE_ONCE, storage_class_name=spec.storage_class_name, size=spec.size, place="store"
    )
    blocked = claim_problem(wish, None, facts.storage_classes)
    if blocked is not None:
        return blocked
    return problem(Reason.STORE_TOO_SMALL, plan.short) if plan.short else None


def _look(refused: Problem) -> float | None:
    """Return when to look again: no watch tells of a StorageClass that is made."""
    return CLASS_LOOK_SECONDS if refused.reason is Reason.STORAGE_CLASS_MISSING else None


def _stand(seen: _Seen, *, number: int, replicas: int) -> _Servers:
    """Return what is wrong with the servers of a set."""
    index, facts, now = seen.index, seen.facts, seen.now
    pods = [_judged(pod) for pod in facts.servers.pods.get(number, ())]
    workload = facts.servers.workloads.get(number)
    wanted = 0 if index.spec.suspend else replicas
    rollout = judge_rollout(
        WorkloadFacts(deployment=workload, pods=tuple(pods), nodes=facts.nodes),
        Expectation(revision="", replicas=wanted, served_at=None, ready_since=None, workload="StatefulSet"),
        seen.settings.timing,
        now=now,
    )
    ready = frozenset(pod.name for pod in pods if pod.ready and not pod.ended)
    late, wait = _late(pods, holding=_holding(index, number), now=now)
    state = rollout.state
    if isinstance(state, Problem):
        state = _told(state)
    elif state is not None and workload is not None:
        words = f"{len(ready)} of {wanted} Qdrant servers are ready."
        state = late or Progress(reason=Reason.STARTING, message=words)
    return _Servers(state=state, ready=ready, requeue_after=earliest(rollout.requeue_after, wait))


def _lost(seen: _Seen) -> Problem | Progress | None:
    """Return why so many servers of the answering set are away that a part of the index has no copy left."""
    index = seen.index
    live = _set_of(seen.facts.servers.sets, seen.answering)
    if index.spec.suspend:
        return None
    number, replicas = (live.number, live.replicas) if live is not None else (1, 1)
    stand = _stand(seen, number=number, replicas=replicas)
    held = index.status.servers or ServersStatus()
    away = [name for name in _holding(index, number) if name not in stand.ready]
    return stand.state if not stand.ready or len(away) >= held.copies else None


def _holding(index: RetrievalIndex, number: int) -> list[str]:
    """Return the servers of a set that the serving generation lies on."""
    held = index.status.servers or ServersStatus()
    count = held.count if held.number == number else 0
    return [f"{names.qdrant(index.name, number=number)}-{at}" for at in range(count)]


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
