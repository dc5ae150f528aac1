# SPDX-License-Identifier: Apache-2.0
"""Gathers what the plan of a RetrievalIndex may look at: retriever, builds, claim, and what the spec names.

It decides nothing. What the spec names is read anew in each pass, each object by its name. A pass comes when one
of these changed (referents.py), or when the retriever tells something new (poll.py); none comes only to look.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from nimblet import labels, names
from nimblet.api.common import ModelRef, SecretRef
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.cluster.claimfacts import owned_claim, storage_classes, with_progress, working_pods
from nimblet.cluster.facts import (
    Gatherer,
    children,
    deployment_facts,
    jobs_of,
    of_component,
    pods_of,
    told_by_events,
)
from nimblet.cluster.key import Key
from nimblet.cluster.keyfacts import key_facts, key_versions, time_of
from nimblet.cluster.masterkey import purpose_key
from nimblet.cluster.modelref import gather_model_reference
from nimblet.cluster.named import named_secret
from nimblet.cluster.observed import ConfigMap, Job, metadata_of
from nimblet.cluster.podfailure import INDEXER
from nimblet.cluster.referents import Reader
from nimblet.cluster.resources import CLAIM, CONFIG_MAP, JOB, RETRIEVAL_INDEX, SECRET
from nimblet.cluster.retrieverstatus import RetrieverInquiry, retriever_facts
from nimblet.cluster.serverfacts import gather_servers
from nimblet.cluster.stuck import next_setup_look
from nimblet.manifests.retriever import COMPONENT
from nimblet.plan.facts import FIRST_KEY, JobFacts, KeyFacts, PodFacts, SecretFacts, WriteFailure
from nimblet.plan.index_children import workload_kind
from nimblet.plan.index_config import credentials_of
from nimblet.plan.indexfacts import (
    AcceptedKeys,
    BuildFacts,
    IndexFacts,
    KeySet,
    NamedFacts,
    RetrieverFacts,
    ServersFacts,
)
from nimblet.plan.modelfacts import ModelReference

PURPOSES: Final = ("search", "build", "push", "operate")


@dataclass(frozen=True, kw_only=True)
class GatheredIndex:
    """Facts, and the seconds after which they are old without any event telling; None: events suffice.

    `wait`: seconds for which a first answer is worth waiting for before anything is decided.
    """

    facts: IndexFacts
    look_again: float | None
    wait: float | None
    operate_key: str = field(repr=False)
    """The operator's own key that the retriever knows by now."""

    def answering(self) -> PodFacts | None:
        """Return the pod that an order is given to: the newest that answers."""
        return next((pod for pod in _newest_first(self.facts.pods) if retriever_facts(pod.observation)), None)


@dataclass(frozen=True, kw_only=True)
class IndexNamed:
    """What the spec names of others."""

    embedding: ModelReference | None
    reranker: ModelReference | None
    secrets: dict[str, SecretFacts]
    config_maps: dict[str, NamedFacts]
    claims: dict[str, NamedFacts]


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """Our own key Secrets, and the keys of every version that counts."""

    stored: KeyFacts | None
    accepted: AcceptedKeys | None
    known: dict[int, KeySet]

    def operate(self, wanted: int) -> str:
        """Return the operator's own key that the retriever knows by now."""
        return self.known[self.stored.version if self.stored is not None else wanted].operate


async def gather_index_facts(
    gatherer: Gatherer, index: RetrievalIndex, *, write_failures: Sequence[WriteFailure], now: datetime
) -> GatheredIndex:
    """Return the facts about a RetrievalIndex."""
    key, mirror = Key(RETRIEVAL_INDEX.kind, index.namespace, index.name), gatherer.mirror
    transport = await gatherer.certificate(key, names.retriever(index.name), uid=index.uid, now=now)
    owned = pods_of(mirror, key)
    retrievers = of_component(owned, COMPONENT)
    pods = [await told_by_events(gatherer, pod, now=now) for pod in retrievers]
    keys = await _keys(gatherer, index)
    reader = gatherer.referents.reader(gatherer.client, key)
    named = await gather_index_named(reader, index, master_key=gatherer.master_key)
    operate = keys.operate(index.spec.access.key_version)
    servers = await gather_servers(gatherer, index, key, pods=owned, now=now)
    await read_hidden_builds(gatherer, index, key)
    jobs, look_again = await jobs_of(gatherer, key, uid=index.uid, pods=owned, now=now)
    inquiry = RetrieverInquiry(epoch=_epoch(named, servers.facts, jobs))
    polled = gatherer.poller.look(key, pods, key_of=lambda _: operate, inquiry=inquiry)
    builders = working_pods(of_component(owned, INDEXER), INDEXER)
    working = await gatherer.observer.observe(key, builders, key_of=lambda _: operate)
    embedded, claimed = index.spec.store.type == "Embedded", index.spec.store.type != "External"
    facts = IndexFacts(
        children=children(mirror, key, uid=index.uid),
        deployment=deployment_facts(mirror, key, uid=index.uid, kind=workload_kind(index)),
        pods=polled.pods,
        tee=await gatherer.tee(key, index.spec.tee_policy_ref),
        nodes=gatherer.nodes.of(mirror),  # after `tee`, which may read some anew
        transport=transport,
        write_failures=tuple(write_failures),
        key=keys.stored,
        accepted=keys.accepted,
        keys=keys.known,
        builds=_builds(jobs, working=working),
        claim=owned_claim(mirror, key, uid=index.uid, name=names.index_claim(index.name)) if embedded else None,
        storage_classes=await storage_classes(gatherer.client) if claimed else None,
        retriever=_told(polled.pods),
        embedding=named.embedding,
        reranker=named.reranker,
        secrets=named.secrets,
        config_maps=named.config_maps,
        claims=named.claims,
        servers=servers.facts,
    )
    waits = (
        look_again,
        gatherer.observer.next_look(working),
        next_setup_look(retrievers, now=now),
        servers.look_again,
    )
    return GatheredIndex(
        facts=facts,
        look_again=min((wait for wait in waits if wait is not None), default=None),
        wait=polled.wait,
        operate_key=operate,
    )


async def read_hidden_builds(gatherer: Gatherer, index: RetrievalIndex, key: Key) -> None:
    """Read the Jobs anew where the mirror lacks that of the build which the status tells of.

    A list from a lagging API server may hide it, and another build would take its place.
    """
    building, mirror = index.status.building_generation, gatherer.mirror
    if not building:
        return
    if building in {metadata_of(body).labels.get(labels.BUILD_GENERATION) for body in mirror.owned(key, JOB.kind)}:
        return
    selector = labels.selector_string({labels.INDEX: index.name})
    async for body in gatherer.client.list(JOB, namespace=index.namespace, label_selector=selector):
        mirror.put(JOB.kind, body)


def _told(pods: Sequence[PodFacts]) -> RetrieverFacts | None:
    """Return what the newest retriever that answers told: two of them only run while one replaces the other."""
    found = (retriever_facts(pod.observation) for pod in _newest_first(pods))
    return next((facts for facts in found if facts is not None), None)


def _newest_first(pods: Sequence[PodFacts]) -> list[PodFacts]:
    ready = [pod for pod in pods if pod.ready and not pod.terminating]
    return sorted(ready, key=_age, reverse=True)


def _age(pod: PodFacts) -> float:
    return pod.created_at.timestamp() if pod.created_at is not None else 0.0


def _epoch(named: IndexNamed, servers: ServersFacts, jobs: Sequence[tuple[Job, JobFacts]]) -> str:
    """Return how models, servers and builds stand: when that changes, the retriever is asked at once."""
    models = [(item.serving, item.reason) for item in (named.embedding, named.reranker) if item is not None]
    there = [any(pod.ready for pod in servers.pods.get(item.number, ())) for item in servers.sets]
    return names.content_hash([*models, *there, *sorted(facts.name for _, facts in jobs if facts.succeeded)])


def _builds(jobs: Sequence[tuple[Job, JobFacts]], *, working: Sequence[PodFacts]) -> tuple[BuildFacts, ...]:
    told = with_progress([facts for _, facts in jobs], working)
    return tuple(build_facts(job, facts) for (job, _), facts in zip(jobs, told, strict=True))


def build_facts(job: Job, facts: JobFacts) -> BuildFacts:
    """Return what is known of a build Job."""
    meta = job.metadata
    return BuildFacts(
        name=facts.name,
        uid=facts.uid,
        generation=meta.labels.get(labels.BUILD_GENERATION, ""),
        inputs=meta.labels.get(labels.BUILD_INPUTS, ""),
        request=meta.annotations.get(labels.BUILD_REQUESTED_AT, ""),
        attempt=facts.attempt,
        swaps=meta.annotations.get(labels.BUILD_SWAPS) != "false",
        credentials_hash=facts.credentials_hash,
        created_at=facts.created_at,
        succeeded=facts.succeeded,
        failed=facts.failed,
        finished_at=facts.finished_at,
        exit_code=facts.exit_code,
        result=facts.result,
        failure=facts.failure,
        message=facts.message,
        percent=facts.download_percent,
    )


async def _keys(gatherer: Gatherer, index: RetrievalIndex) -> _Keys:
    """Return the keys; our Secrets are not read where they were never rotated: the first version, never edited."""
    wanted, master = index.spec.access.key_version, gatherer.master_key
    stored, accepted = None, None
    if wanted != FIRST_KEY[0] or index.generation > 1:
        client, namespace = gatherer.client, index.namespace
        search = names.purpose_key(index.name, purpose="search")
        body = await client.get(SECRET, namespace=namespace, name=search)
        stored = key_facts(body, uid=index.uid) if body is not None else None
        body = await client.get(SECRET, namespace=namespace, name=names.retriever_keys(index.name))
        accepted = accepted_keys(body, uid=index.uid) if body is not None else None
    versions = {wanted, *(accepted.versions if accepted is not None else ())}
    if stored is not None:
        versions.add(stored.version)
    known = {
        version: KeySet(
            **{
                purpose: purpose_key(master, uid=index.uid, purpose=purpose, version=version)
                for purpose in PURPOSES
            }
        )
        for version in versions
    }
    return _Keys(stored=stored, accepted=accepted, known=known)


def accepted_keys(body: dict[str, object], *, uid: str) -> AcceptedKeys | None:
    """Return what the retriever's key Secret says of itself, where it is this index's."""
    metadata = metadata_of(body)
    owner = metadata.controller()
    if owner is None or owner.uid != uid:
        return None
    since = time_of(metadata.annotations.get(labels.KEY_PUBLISHED_AT))
    return AcceptedKeys(versions=key_versions(metadata.annotations), since=since)


async def gather_index_named(client: Reader, index: RetrievalIndex, *, master_key: bytes) -> IndexNamed:
    """Return what the spec names: models, Secrets, ConfigMaps, claims."""
    namespace, spec = index.namespace, index.spec
    secrets = [credentials_of(source) for source in spec.sources]
    secrets += [ref.name for ref in (spec.embedding.key_secret_ref, spec.store.key_secret_ref) if ref is not None]
    mapped = [source.config_map.name for source in spec.sources if source.config_map is not None]
    if spec.quality_gate is not None:
        mapped.append(spec.quality_gate.golden_ref.name)
    claimed = [source.pvc.claim_name for source in spec.sources if source.pvc is not None]
    embedding, reranker = await asyncio.gather(
        *(_model(client, namespace, ref) for ref in (spec.embedding.model_ref, spec.search.reranker_ref))
    )
    return IndexNamed(
        embedding=embedding,
        reranker=reranker,
        secrets=await _secrets(client, namespace, (name for name in secrets if name is not None), master_key),
        config_maps={
            name: it for name in sorted(set(mapped)) if (it := await _config_map(client, namespace, name))
        },
        claims={name: it for name in sorted(set(claimed)) if (it := await _claim(client, namespace, name))},
    )


async def _model(client: Reader, namespace: str, ref: ModelRef | None) -> ModelReference | None:
    return await gather_model_reference(client, namespace=namespace, name=ref.name) if ref is not None else None


async def _secrets(
    client: Reader, namespace: str, wanted: Iterable[str], master_key: bytes
) -> dict[str, SecretFacts]:
    found = {}
    for name in sorted(set(wanted)):
        facts = await named_secret(client, namespace, SecretRef(name=name), master_key)
        if facts is not None:
            found[name] = facts
    return found


async def _config_map(client: Reader, namespace: str, name: str) -> NamedFacts | None:
    body = await client.get(CONFIG_MAP, namespace=namespace, name=name)
    return config_map_facts(body) if body is not None else None


def config_map_facts(body: dict[str, object]) -> NamedFacts:
    """Return what a plan may know of a ConfigMap: its keys, and a hash of all that it holds."""
    config = ConfigMap.model_validate(body)
    return NamedFacts(
        name=config.metadata.name,
        usable=config.metadata.labels.get(labels.USE) == "true",
        keys=tuple(sorted({*config.data, *config.binary_data})),
        content_hash=names.content_hash([config.data, config.binary_data]),
    )


async def _claim(client: Reader, namespace: str, name: str) -> NamedFacts | None:
    body = await client.get(CLAIM, namespace=namespace, name=name)
    return claim_facts(body) if body is not None else None


def claim_facts(body: dict[str, object]) -> NamedFacts:
    """Return what a plan may know of a user's claim."""
    metadata = metadata_of(body)
    return NamedFacts(name=metadata.name, usable=metadata.labels.get(labels.USE) == "true")
