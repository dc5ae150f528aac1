# SPDX-License-Identifier: Apache-2.0
"""The configuration files of retriever and indexer, as these programs read them. Pure; texts out.

A contract test reads what is rendered here with the programs' own models.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet import names
from nimblet.api.indexsource import Source
from nimblet.api.indexstatus import EmbeddingStatus, ServersStatus
from nimblet.api.indexstore import Embedded
from nimblet.api.retrievalindex import RetrievalIndex, Search
from nimblet.manifests.common import Manifest
from nimblet.manifests.indexer import (
    CREDENTIALS_DIR,
    GOLDEN_DIR,
    GOLDEN_FILE,
    KEY_DIR,
    SCRATCH_DIR,
    SOURCES_DIR,
    Volume,
)
from nimblet.manifests.network import HTTP_PORT
from nimblet.manifests.qdrant import SNAPSHOTS_DIR
from nimblet.manifests.retriever import API_KEY, INDEX_DIR, KEYS_DIR, KEYS_FILE, SecretFile
from nimblet.plan.index_embedding import secret_of
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.modelfacts import ModelReference
from nimblet.plan.qdrant import CollectionShape
from nimblet.plan.source import LOGIN_KEYS, S3_KEYS, SESSION_KEY
from nimblet.plan.stage import Problem, Progress, StageOutcome
from nimblet.quantity import bytes_of
from nimblet.settings import Fetch, Settings

VERSION: Final = 1
TRACES_PATH: Final = "/v1/traces"
EGRESS_FIELDS: Final = frozenset(
    {"allow", "proxy", "ca_bundle", "stall_timeout_seconds", "connect_timeout_seconds", "max_redirects"}
)
"""What of the administrator's fetch settings concerns every program that fetches."""


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """The store as the retriever opens it."""

    config: Mapping[str, object]
    claim: str | None = None
    secrets: tuple[SecretFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SnapshotShape:
    """Snapshots of every server, by its own address."""

    servers: tuple[str, ...]
    retain: int
    every_seconds: int


@dataclass(frozen=True, kw_only=True)
class StorePlan:
    """Children of the store, how it stands, and how the retriever opens it; None where it can't be opened."""

    outcome: StageOutcome = field(default_factory=StageOutcome)
    store: StoreConfig | None = None
    blocks: bool = False
    """No build begins while `outcome.state` is set."""
    lost: Problem | Progress | None = None
    """Why searches fail or lack part of the index, whatever the retriever says."""
    retire: StageOutcome = field(default_factory=StageOutcome)
    """Applied and deleted once every retriever asks the servers of `store` alone."""
    certificates: StageOutcome = field(default_factory=StageOutcome)
    """What keeps the servers' certificates from being there, and which of ours are asked for no more."""
    number: int = 1
    """The set of servers that builds go to."""
    sets: tuple[int, ...] = (1,)
    """All sets of servers that the retriever may ask."""
    answering: int | None = None
    """The set where the serving generation lies, as far as is known."""
    servers: ServersStatus | None = None
    """Where a generation lies that was built by now; None while servers are missing."""
    newer_image: bool = False
    target: str = ""
    """Address of the set that builds go to."""
    asked: frozenset[str] = frozenset()
    """Addresses of all servers of ours that the retriever is to ask; empty where there are none."""
    plain: bool = False
    """Some of our own servers speak plain HTTP."""
    note: str = ""
    """What there is to say of a store that is in order."""


def embedded_store(claim: str, bounds: Embedded | None) -> StoreConfig:
    """Return the engine in the retriever, on a claim; what is not bounded is as the retriever does by itself."""
    config: dict[str, object] = {"type": "Embedded", "folder": INDEX_DIR}
    if bounds is not None and bounds.reserve is not None:
        config["reserveBytes"] = bytes_of(bounds.reserve)
    if bounds is not None and bounds.push_passages is not None:
        config["pushPassages"] = bounds.push_passages
    return StoreConfig(config=config, claim=claim)


@dataclass(frozen=True, kw_only=True)
class ServerStore:
    """A Qdrant server, ours or the user's."""

    url: str
    prefix: str
    """What the names of the index's collections begin with."""
    key: SecretFile | None
    collection: CollectionShape | None = None
    former: Sequence[str] = ()
    """Servers that answer until a generation of the new ones' serves."""
    snapshots: SnapshotShape | None = None
    """Those to take."""
    authorities: SecretFile | None = None
    """What the servers' certificates are verified by; the usual ones without."""


def server_store(store: ServerStore) -> StoreConfig:
    """Return the store that a server keeps."""
    config: dict[str, object] = {"type": "Server", "url": store.url.rstrip("/"), "prefix": store.prefix}
    if store.former:
        config["former"] = list(store.former)
    if store.key is not None:
        config["keyFile"] = store.key.path
    if store.collection is not None:
        config["collection"] = {
            "shards": store.collection.shards,
            "replicationFactor": store.collection.replication_factor,
            "writeConsistencyFactor": store.collection.write_consistency_factor,
            "memory": store.collection.memory,
            "quantization": store.collection.quantization,
        }
    if store.snapshots is not None:
        config["snapshots"] = {
            "servers": list(store.snapshots.servers),
            "retain": store.snapshots.retain,
            "everySeconds": store.snapshots.every_seconds,
            "folder": SNAPSHOTS_DIR,
        }
    if store.authorities is not None:
        config["tlsFolder"] = store.authorities.folder
    mounted = tuple(item for item in (store.key, store.authorities) if item is not None)
    return StoreConfig(config=config, secrets=mounted)


def retriever_secrets(
    index: RetrievalIndex, facts: IndexFacts, known: Sequence[EmbeddingStatus]
) -> tuple[SecretFile, ...]:
    """Return the keys that the retriever asks models with."""
    found = (secret_of(item, place=place) for place, item in enumerate(known))
    keys = [item for item in found if item is not None]
    reranker = facts.reranker
    if index.spec.search.reranker_ref is not None and reranker is not None and reranker.key_secret:
        keys.append(SecretFile(name="reranker", secret=reranker.key_secret))
    return tuple(keys)


def retriever_config(
    index: RetrievalIndex,
    facts: IndexFacts,
    store: StoreConfig,
    known: Sequence[EmbeddingStatus],
    *,
    traces: str | None,
) -> str:
    """Return the retriever's file; `traces` is where they go, with /v1/traces."""
    search = index.spec.search
    document: dict[str, object] = {
        "version": VERSION,
        "index": index.name,
        "store": dict(store.config),
        "embedding": _embedding(known[0], place=0),
        "search": {"mode": search.mode, "topK": search.top_k, "language": search.language},
        "keysFile": f"{KEYS_DIR}/{KEYS_FILE}",
    }
    if len(known) > 1:
        document["formerEmbeddings"] = [_embedding(item, place=place) for place, item in enumerate(known) if place]
    reranker = facts.reranker
    if search.reranker_ref is not None and reranker is not None:
        document["reranker"] = _reranker(search, reranker)
    if traces is not None:
        document["tracing"] = {"endpoint": traces.removesuffix(TRACES_PATH)}  # the retriever adds it
    return _text(document)


def _reranker(search: Search, reranker: ModelReference) -> dict[str, object]:
    document: dict[str, object] = {"url": reranker.url, "model": reranker.served_name}
    if reranker.key_secret:
        document["keyFile"] = SecretFile(name="reranker", secret="").path
    if search.rerank_candidates is not None:
        document["candidates"] = search.rerank_candidates
    if search.rerank_timeout_seconds is not None:
        document["timeoutSeconds"] = search.rerank_timeout_seconds
    return document


def _embedding(embedding: EmbeddingStatus, *, place: int) -> dict[str, object]:
    secret = secret_of(embedding, place=place)
    document: dict[str, object] = {
        "url": embedding.url.rstrip("/"),
        "model": embedding.model,
        "fingerprint": embedding.fingerprint,
        "queryPrefix": embedding.query_prefix,
        "documentPrefix": embedding.document_prefix,
        "tokenizer": embedding.tokenizer,
    }
    if secret is not None:
        document["keyFile"] = secret.path
    return document


@dataclass(frozen=True, kw_only=True)
class Build:
    """What differs between the builds of one index."""

    generation: str
    serve: bool


def indexer_config(
    index: RetrievalIndex, facts: IndexFacts, settings: Settings, *, terms: Mapping[str, object], token: str
) -> str:
    """Return the indexer's file of one build."""
    scheme = "http" if settings.tls.mode == "Off" else "https"
    before = {item.name: item.documents for item in index.status.sources}
    told = {
        "token": token,
        "retriever": {
            "url": f"{scheme}://{names.service_host(names.retriever(index.name), index.namespace)}:{HTTP_PORT}",
            "keyFile": f"{KEY_DIR}/{API_KEY}",
        },
        "sources": [_source(source, facts, previous=before.get(source.name)) for source in index.spec.sources],
    }
    return _text({**terms, **told})


def build_terms(index: RetrievalIndex, facts: IndexFacts, settings: Settings, build: Build) -> dict[str, object]:
    """Return what a build is told, but for its token, where its retriever is, and what the one before found."""
    spec = index.spec
    document: dict[str, object] = {
        "version": VERSION,
        "generation": build.generation,
        "sources": [_source(source, facts, previous=None) for source in spec.sources],
        "scratch": SCRATCH_DIR,
        "chunking": {"tokens": spec.chunking.tokens, "overlap": spec.chunking.overlap},
        "maxShrink": spec.max_shrink_percent,
        "serve": build.serve,
        "retain": spec.retain_generations,
    }
    if any(fetches(source) for source in spec.sources):
        document["egress"] = _egress(settings.fetch)
    if spec.quality_gate is not None:
        bounds = spec.quality_gate.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude={"golden_ref"}
        )
        document["gate"] = {"file": f"{GOLDEN_DIR}/{GOLDEN_FILE}", **bounds}
    return document


def fetches(source: Source) -> bool:
    """Tell whether a source is read over the network."""
    return source.config_map is None and source.pvc is None


def _egress(fetch: Fetch) -> dict[str, object]:
    limits: dict[str, object] = fetch.model_dump(
        mode="json", by_alias=True, exclude_none=True, include=set(EGRESS_FIELDS)
    )
    s3 = fetch.s3.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"audience"})
    return {**limits, "s3": s3}


def _source(source: Source, facts: IndexFacts, *, previous: int | None) -> dict[str, object]:
    document: dict[str, object] = {
        "name": source.name,
        "include": list(source.include),
        "exclude": list(source.exclude),
        "labels": dict(source.labels),
        "access": list(source.access),
        **_place(source),
    }
    if previous is not None:
        document["previousDocuments"] = previous
    secret = credentials_of(source)
    if secret is not None:
        known = facts.secrets.get(secret)
        hosts = list(known.hosts) if known is not None else []
        document["credentials"] = {"folder": f"{CREDENTIALS_DIR}/{source.name}", "hosts": hosts}
    return document


def _place(source: Source) -> dict[str, object]:
    """Return where a source is, in the indexer's words."""
    folder = f"{SOURCES_DIR}/{source.name}"
    if source.git is not None:
        found: dict[str, object] = {"type": "Git", "url": source.git.url}
        optional = {"revision": source.git.revision, "path": source.git.path}
        return {**found, **{key: value for key, value in optional.items() if value is not None}}
    if source.s3 is not None:
        bucket, _, prefix = source.s3.uri.removeprefix("s3://").partition("/")
        return {"type": "S3", "bucket": bucket, "prefix": prefix}
    if source.web is not None:
        pages = {"sitemap": source.web.sitemap} if source.web.sitemap is not None else {"urls": source.web.urls}
        return {"type": "Web", "maxPages": source.web.max_pages, **pages}
    path = source.pvc.path if source.pvc is not None else None
    return {"type": "Folder", "folder": f"{folder}/{path}" if path is not None else folder}


def credentials_of(source: Source) -> str | None:
    """Return the Secret of a source."""
    reference = source.git.credentials_secret_ref if source.git is not None else None
    if source.s3 is not None:
        reference = source.s3.credentials_secret_ref
    return reference.name if reference is not None else None


def build_volumes(index: RetrievalIndex) -> tuple[Volume, ...]:
    """Return what a build mounts of the user's: sources, credentials and the golden questions."""
    volumes: list[Volume] = []
    for source in index.spec.sources:
        path = f"{SOURCES_DIR}/{source.name}"
        if source.config_map is not None:
            volumes.append(
                Volume(
                    name=f"source-{source.name}", source={"configMap": {"name": source.config_map.name}}, path=path
                )
            )
        if source.pvc is not None:
            claim = {"claimName": source.pvc.claim_name, "readOnly": True}
            volumes.append(
                Volume(name=f"source-{source.name}", source={"persistentVolumeClaim": claim}, path=path)
            )
        secret = credentials_of(source)
        if secret is not None:
            volumes.append(_credentials(source, secret))
    gate = index.spec.quality_gate
    if gate is not None:
        items = [{"key": gate.golden_ref.key, "path": GOLDEN_FILE}]
        golden: Manifest = {"configMap": {"name": gate.golden_ref.name, "items": items}}
        volumes.append(Volume(name="golden", source=golden, path=GOLDEN_DIR))
    return tuple(volumes)


def _credentials(source: Source, secret: str) -> Volume:
    """Return the volume of a source's Secret: the entries that its protocol has, and no other."""
    required, optional = (S3_KEYS, (SESSION_KEY,)) if source.s3 is not None else (LOGIN_KEYS, ())
    sources: list[Manifest] = [{"secret": {"name": secret, "items": _items(required)}}]
    if optional:
        sources.append({"secret": {"name": secret, "items": _items(optional), "optional": True}})
    projected: Manifest = {"defaultMode": 0o440, "sources": sources}
    return Volume(
        name=f"credentials-{source.name}",
        source={"projected": projected},
        path=f"{CREDENTIALS_DIR}/{source.name}",
    )


def _items(keys: Sequence[str]) -> list[dict[str, str]]:
    return [{"key": key, "path": key} for key in keys]


def _text(document: Mapping[str, object]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
