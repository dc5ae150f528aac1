# SPDX-License-Identifier: Apache-2.0
"""What an index names of others: models, Secrets, ConfigMaps, claims, addresses; looked at first. Pure."""

from collections.abc import Iterator

from nimblet.api.indexsource import Source
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import Reason
from nimblet.manifests.retriever import API_KEY
from nimblet.plan.hosts import address_problem, credential_problem
from nimblet.plan.indexfacts import IndexFacts, NamedFacts
from nimblet.plan.modelfacts import ModelReference, reference_flaw
from nimblet.plan.source import LOGIN_KEYS, S3_KEYS
from nimblet.plan.stage import Problem, problem
from nimblet.settings import Settings


def retriever_problem(index: RetrievalIndex, facts: IndexFacts, settings: Settings) -> Problem | None:
    """Return what keeps the retriever from being made as the spec says."""
    return next(_retriever_problems(index, facts, settings), None)


def build_problem(index: RetrievalIndex, facts: IndexFacts, settings: Settings) -> Problem | None:
    """Return what keeps a build from reading what the spec names."""
    found = (flaw for source in index.spec.sources for flaw in _source_problems(source, index, facts, settings))
    first = next(found, None)
    gate = index.spec.quality_gate
    if first is not None or gate is None:
        return first
    name, key = gate.golden_ref.name, gate.golden_ref.key
    known = facts.config_maps.get(name)
    flaw = _config_map_problem(name, known, index.namespace)
    if flaw is None and known is not None and key not in known.keys:
        return problem(Reason.CONFIG_MAP_MISSING, f"ConfigMap {name} has no key `{key}`.")
    return flaw


def _retriever_problems(index: RetrievalIndex, facts: IndexFacts, settings: Settings) -> Iterator[Problem]:
    spec, namespace = index.spec, index.namespace
    if spec.embedding.model_ref is not None:
        known = facts.embedding or ModelReference(name=spec.embedding.model_ref.name, found=False)
        flaw = reference_flaw(known, field="embedding.modelRef", tasks=("Embedding",), namespace=namespace)
        if flaw is not None:
            yield flaw
    if spec.search.reranker_ref is not None:
        known = facts.reranker or ModelReference(name=spec.search.reranker_ref.name, found=False)
        flaw = reference_flaw(known, field="search.rerankerRef", tasks=("Rerank",), namespace=namespace)
        if flaw is not None:
            yield flaw
    for field, url, ref in (
        ("embedding.url", spec.embedding.url, spec.embedding.key_secret_ref),
        ("store.url", spec.store.url, spec.store.key_secret_ref),
    ):
        if url is None:
            continue
        if (flaw := address_problem(url, settings.fetch, field=field)) is not None:
            yield flaw
        if ref is not None:
            secret = facts.secrets.get(ref.name)
            flaw = credential_problem(ref.name, secret, namespace=namespace, required=(API_KEY,), url=url)
            if flaw is not None:
                yield flaw


def _source_problems(
    source: Source, index: RetrievalIndex, facts: IndexFacts, settings: Settings
) -> Iterator[Problem]:
    namespace, place = index.namespace, f"sources[{source.name}]"
    if source.config_map is not None:
        name = source.config_map.name
        flaw = _config_map_problem(name, facts.config_maps.get(name), namespace)
        if flaw is not None:
            yield flaw
    if source.pvc is not None:
        flaw = _claim_problem(source.pvc.claim_name, facts.claims.get(source.pvc.claim_name), namespace)
        if flaw is not None:
            yield flaw
    for field, url in _addresses(source):
        if (flaw := address_problem(url, settings.fetch, field=f"{place}.{field}")) is not None:
            yield flaw
    for name, required, url in _credentials(source):
        flaw = credential_problem(name, facts.secrets.get(name), namespace=namespace, required=required, url=url)
        if flaw is not None:
            yield flaw


def _addresses(source: Source) -> Iterator[tuple[str, str]]:
    if source.git is not None:
        yield "git.url", source.git.url
    if source.web is not None and source.web.sitemap is not None:
        yield "web.sitemap", source.web.sitemap
    if source.web is not None:
        for url in source.web.urls or ():
            yield "web.urls", url


def _credentials(source: Source) -> Iterator[tuple[str, tuple[str, ...], str]]:
    if source.git is not None and source.git.credentials_secret_ref is not None:
        yield source.git.credentials_secret_ref.name, LOGIN_KEYS, source.git.url
    if source.s3 is not None and source.s3.credentials_secret_ref is not None:
        yield source.s3.credentials_secret_ref.name, S3_KEYS, ""


def _config_map_problem(name: str, found: NamedFacts | None, namespace: str) -> Problem | None:
    if found is None:
        return problem(Reason.CONFIG_MAP_MISSING, f"ConfigMap {name} is not in namespace {namespace}.")
    if not found.usable:
        return problem(Reason.CONFIG_MAP_NOT_USABLE, f"ConfigMap {name} is not labelled for use by Nimblet.")
    return None


def _claim_problem(name: str, found: NamedFacts | None, namespace: str) -> Problem | None:
    if found is None:
        return problem(Reason.CLAIM_NOT_READY, f"PersistentVolumeClaim {name} is not in namespace {namespace}.")
    if not found.usable:
        return problem(
            Reason.CLAIM_NOT_USABLE, f"PersistentVolumeClaim {name} is not labelled for use by Nimblet."
        )
    return None
