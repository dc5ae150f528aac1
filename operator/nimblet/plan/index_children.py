# SPDX-License-Identifier: Apache-2.0
"""Children of an index beside store, keys and builds: the retriever, its identity and its network. Pure."""

from collections.abc import Sequence
from typing import Final

from nimblet import labels, names
from nimblet.api.indexstatus import EmbeddingStatus
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.manifests.common import Manifest
from nimblet.manifests.configuration import service_account_manifest
from nimblet.manifests.indexer import COMPONENT as INDEXER
from nimblet.manifests.network import (
    HTTP_PORT,
    PROGRESS_PORT,
    Callers,
    caller_peers,
    dns_rule,
    fetch_egress,
    ingress_rule,
    namespace_peer,
    namespaces_rule,
    policy_manifest,
    service_manifest,
)
from nimblet.manifests.qdrant import REST_PORT, component_of
from nimblet.manifests.retriever import Retriever, config_manifest, retriever_part, workload_manifest
from nimblet.plan.index_config import StoreConfig, fetches, retriever_config, retriever_secrets
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.ownserver import choose_image
from nimblet.plan.transport import Transport
from nimblet.plan.workload import restart_of
from nimblet.settings import Settings

DEFAULT_CPU: Final = "250m"
DEFAULT_MEMORY: Final = "1Gi"


def wanted_replicas(index: RetrievalIndex) -> int:
    """Return the retriever pods that should be."""
    return 0 if index.spec.suspend else 1


def workload_kind(index: RetrievalIndex) -> str:
    """Return the kind of the retriever's workload: only one pod at a time may have an Embedded store."""
    return "StatefulSet" if index.spec.store.type == "Embedded" else "Deployment"


def plan_surroundings(
    index: RetrievalIndex,
    settings: Settings,
    *,
    transport: Transport,
    sets: Sequence[int] = (1,),
    outside: bool = False,
) -> tuple[Manifest, ...]:
    """Return identity and network of the pods: what no reference decides. `sets`: of a store's own servers.

    `outside`: the retriever still asks a model there that the spec no longer names.
    """
    retriever = retriever_part(index.name, index.namespace)
    indexer = retriever_part(index.name, index.namespace, INDEXER)
    return (
        service_account_manifest(retriever, name=names.retriever(index.name)),
        service_account_manifest(indexer, name=names.indexer(index.name)),
        policy_manifest(
            retriever,
            name=names.retriever(index.name),
            ingress=[ingress_rule(caller_peers(_callers(index, settings)), HTTP_PORT)],
            egress=_retriever_egress(index, settings, sets, outside=outside),
        ),
        policy_manifest(
            indexer,
            name=names.indexer(index.name),
            ingress=[ingress_rule([namespace_peer(settings.access.operator_namespace)], PROGRESS_PORT)],
            egress=_indexer_egress(index, settings),
        ),
        transport.service(service_manifest(retriever, name=names.retriever(index.name), port=HTTP_PORT)),
        *transport.children,
    )


def plan_retriever(
    index: RetrievalIndex,
    facts: IndexFacts,
    settings: Settings,
    *,
    store: StoreConfig,
    known: tuple[EmbeddingStatus, ...],
) -> tuple[Manifest, Manifest]:
    """Return the retriever's configuration and its workload."""
    part = retriever_part(index.name, index.namespace)
    text = retriever_config(index, facts, store, known, traces=settings.tracing.endpoint)
    sizes, restart = index.spec.resources.retriever, restart_of(index.restarted_at, facts)
    workload = Retriever(
        part=part,
        image=choose_image(index, facts, wanted=settings.images.retriever).name,
        pull_policy=settings.images.pull_policy,
        config_hash=names.content_hash(text),
        memory=sizes.memory or DEFAULT_MEMORY,
        cpu=sizes.cpu or DEFAULT_CPU,
        replicas=wanted_replicas(index),
        claim=store.claim,
        secrets=(*store.secrets, *retriever_secrets(index, facts, known)),
        # the only pod over a claim ends at once: its successor waits for it
        drain_seconds=settings.timing.drain_seconds if store.claim is None else 0,
        scheduling=index.spec.scheduling,
        annotations={labels.RESTARTED_AT: restart} if restart else {},
    )
    return (config_manifest(part, name=names.retriever(index.name), text=text), workload_manifest(workload))


def _callers(index: RetrievalIndex, settings: Settings) -> Callers:
    access = index.spec.access
    selector = access.namespace_selector
    return Callers(
        operator_namespace=settings.access.operator_namespace,
        namespaces=(*settings.access.metrics_namespaces, *access.namespaces),
        namespace_labels=selector.match_labels if selector is not None else {},
    )


def _retriever_egress(
    index: RetrievalIndex, settings: Settings, sets: Sequence[int], *, outside: bool
) -> list[Manifest]:
    """Return what the retriever may reach: models of the namespace, and the network where an address is named."""
    outside = outside or index.spec.embedding.url is not None or index.spec.store.url is not None
    rules = [*(_fetching(settings) if outside else [dns_rule()]), _models_rule()]
    traces = settings.tracing
    if traces.endpoint and traces.namespaces:
        rules.append(namespaces_rule(traces.namespaces, traces.port))
    return [*rules, _servers_rule(index, sets)] if index.spec.store.type == "Dedicated" else rules


def _indexer_egress(index: RetrievalIndex, settings: Settings) -> list[Manifest]:
    """Return what a build may reach: the retriever, and the network where a source is there."""
    part = retriever_part(index.name, index.namespace)
    to_retriever: Manifest = {
        "to": [{"podSelector": {"matchLabels": part.selector}}],
        "ports": [{"protocol": "TCP", "port": HTTP_PORT}],
    }
    remote = any(fetches(source) for source in index.spec.sources)
    return [*(_fetching(settings) if remote else [dns_rule()]), to_retriever]


def _servers_rule(index: RetrievalIndex, sets: Sequence[int]) -> Manifest:
    parts = [retriever_part(index.name, index.namespace, component_of(number)) for number in sets]
    return {
        "to": [{"podSelector": {"matchLabels": part.selector}} for part in parts],
        "ports": [{"protocol": "TCP", "port": REST_PORT}],
    }


def _models_rule() -> Manifest:
    return {
        "to": [{"podSelector": {"matchLabels": {labels.COMPONENT: "model"}}}],
        "ports": [{"protocol": "TCP", "port": HTTP_PORT}],
    }


def _fetching(settings: Settings) -> list[Manifest]:
    allow = settings.fetch.allow
    blocks = sorted({entry.cidr for entry in allow if entry.cidr is not None})
    any_private = any(entry.allow_private and entry.cidr is None for entry in allow)
    return fetch_egress(private_blocks=blocks, any_private=any_private)
