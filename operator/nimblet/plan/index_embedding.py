# SPDX-License-Identifier: Apache-2.0
"""Which embedding models the retriever must know: the spec's, and those of generations that are kept. Pure."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from nimblet import names
from nimblet.api.indexstatus import MAX_EMBEDDINGS, EmbeddingStatus
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.manifests.retriever import API_KEY, SecretFile
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.modelfacts import ModelReference

FINGERPRINT_DIGITS: Final = 32


def wanted_embedding(index: RetrievalIndex, facts: IndexFacts) -> EmbeddingStatus | None:
    """Return the spec's embedding model; None while the named one is not Ready.

    While it rolls, older pods answer too, and nobody could tell whose vectors they are.
    """
    spec, model = index.spec.embedding, facts.embedding
    if spec.url is not None:
        identity: tuple[object, ...] = (spec.url, spec.model, spec.revision)
        where = (spec.url, spec.model or "", spec.key_secret_ref.name if spec.key_secret_ref is not None else "")
    elif model is not None and model.ready and model.digest and model.url:
        identity = (model.digest,)
        where = (model.url, model.served_name, model.key_secret)
    else:
        return None
    url, served, secret = where
    vectors = [*identity, spec.query_prefix, spec.document_prefix]
    return EmbeddingStatus(
        fingerprint=names.content_hash(vectors, length=FINGERPRINT_DIGITS),
        url=url,
        model=served,
        key_secret=secret,
        key_entry=API_KEY if secret else "",
        tokenizer=_tokenizer(model) if spec.url is None else "Estimate",
        query_prefix=spec.query_prefix,
        document_prefix=spec.document_prefix,
    )


def _tokenizer(model: ModelReference | None) -> str:
    """Return who counts tokens: llama.cpp by an address of its own; others count by another protocol."""
    return "LlamaCpp" if model is None or model.runtime in ("", "LlamaCpp") else "Estimate"


def known_embeddings(index: RetrievalIndex, facts: IndexFacts) -> tuple[EmbeddingStatus, ...]:
    """Return the spec's embedding model and those before it, as long as a generation of theirs is kept.

    What is no longer needed goes with the next change of the spec, not before: each change restarts the retriever.
    """
    before = tuple(index.status.embeddings)
    wanted = wanted_embedding(index, facts)
    if wanted is None:
        return before
    if before and before[0].fingerprint == wanted.fingerprint:
        return (wanted, *before[1:])
    others = [item for item in before if item.fingerprint != wanted.fingerprint]
    told, most = facts.retriever, MAX_EMBEDDINGS - 1
    if told is None or not told.store.ok:  # which are kept nobody knows: the oldest had time to be built
        return (wanted, *others[-most:])
    kept, serving = {item.embedding for item in told.generations}, told.generation(told.serving)
    older = [item for item in others if item.fingerprint in kept]
    older.sort(key=lambda item: serving is None or item.fingerprint != serving.embedding)
    return (wanted, *older[:most])


def asks_outside(index: RetrievalIndex, facts: IndexFacts, known: Sequence[EmbeddingStatus]) -> bool:
    """Tell whether a model that is no CompactModel is asked still: a generation of its is kept.

    It may be the only one that is known: the CompactModel that the spec names now has to be Ready first.
    """
    told, own = facts.retriever, names.service_host(names.server(""), index.namespace)
    kept = {item.embedding for item in told.generations} if told is not None and told.store.ok else None
    asked = (item for item in known if kept is None or item.fingerprint in kept)
    return any(not (urlsplit(item.url).hostname or "").endswith(own) for item in asked)


def secret_of(embedding: EmbeddingStatus, *, place: int) -> SecretFile | None:
    """Return the key that an embedding model wants; that of a former model may be gone."""
    if not embedding.key_secret:
        return None
    name = "embedding" if place == 0 else f"embedding-{place}"
    return SecretFile(
        name=name, secret=embedding.key_secret, entry=embedding.key_entry or API_KEY, optional=place > 0
    )
