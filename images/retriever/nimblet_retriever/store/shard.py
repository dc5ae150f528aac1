# SPDX-License-Identifier: Apache-2.0
"""A shard of Qdrant's embedded engine: how one is made, filled, searched. Knows no generations and no files.

A shard has no write-ahead log: it is durable after each flush, and once closed any number of processes may open
it. optimize() holds the interpreter's lock for seconds, so that it is called in builder.py's process only.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    Fusion,
    MatchAny,
    Modifier,
    PayloadSchemaType,
    Point,
    Prefetch,
    Query,
    QueryRequest,
    ScrollRequest,
    UpdateOperation,
)

from nimblet_retriever.store import frames
from nimblet_retriever.store.chunk import Hit, Mode, Search, Selection
from nimblet_retriever.store.generation import Counts, Manifest
from nimblet_retriever.store.lexical import document_vector, query_vector
from nimblet_retriever.store.payload import (
    DENSE,
    INDEXED,
    LEXICAL,
    RRF_K,
    excluded,
    hit_of,
    json_of,
    required,
    similarity_of,
)

PAGE: Final = 1000
"""Points a scroll reads at once: bounds memory while documents are counted."""


def create(path: str, manifest: Manifest) -> EdgeShard:
    """Make an empty shard in a folder, with an index on every field that filters name."""
    shard = EdgeShard.create(
        path,
        EdgeConfig(
            vectors={DENSE: EdgeVectorParams(size=manifest.dimension, distance=Distance.Cosine)},
            sparse_vectors={LEXICAL: EdgeSparseVectorParams(modifier=Modifier.Idf)},
            wal_enabled=False,
        ),
    )
    for name in INDEXED:
        shard.update(UpdateOperation.create_field_index(name, PayloadSchemaType.Keyword))
    shard.flush()
    return shard


def warm(shard: EdgeShard, folder: Path, manifest: Manifest) -> None:
    """Have the kernel read a shard's files ahead, and the engine answer once, before a question waits for it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
    shard.query(QueryRequest(limit=1, query=Query.Nearest([1.0] * manifest.dimension, using=DENSE)))


def add(shard: EdgeShard, points: Sequence[frames.Point], *, language: str) -> None:
    """Write points and flush: durable when this returns."""
    made = [
        Point(
            point.id,
            {
                DENSE: list(frames.unpack_vector(point.vector)),
                LEXICAL: document_vector(point.payload.text, language=language),
            },
            json_of(point.payload),
        )
        for point in points
    ]
    shard.update(UpdateOperation.upsert_points(made))
    shard.flush()


def counts(shard: EdgeShard) -> Counts:
    """Count documents and chunks by reading every point's document."""
    documents: set[str] = set()
    chunks = 0
    for payload, _ in _scroll(shard, fields=["document"], flt=None, vectors=False):
        documents.add(str(payload["document"]))
        chunks += 1
    return Counts(documents=len(documents), chunks=chunks)


def vectors(shard: EdgeShard, reuse_keys: Sequence[str]) -> dict[str, Sequence[float]]:
    """Return the dense vectors of these keys, as the engine keeps them: normalised."""
    if not reuse_keys:
        return {}
    wanted = Filter(must=[_any_of("reuseKey", reuse_keys)])
    found = _scroll(shard, fields=["reuseKey"], flt=wanted, vectors=True)
    return {str(payload["reuseKey"]): vector for payload, vector in found}


def access_of(shard: EdgeShard, document: str) -> frozenset[str]:
    """Return the access labels of a document's chunks."""
    wanted = Filter(must=[_any_of("document", [document])])
    found = _scroll(shard, fields=["access"], flt=wanted, vectors=False)
    return frozenset(label for payload, _ in found for label in cast("Sequence[str]", payload.get("access", ())))


def search(shard: EdgeShard, asked: Search, *, language: str) -> tuple[Hit, ...]:
    """Return the best chunks. The filter stands in each ranking's own request too, so that none sees more."""
    flt = filter_of(asked.selection)
    rankings = _rankings(asked, language=language)
    if not rankings:
        return ()
    if len(rankings) == 1:
        request = QueryRequest(
            limit=asked.limit, query=rankings[0], filter=flt, with_payload=True, with_vector=[DENSE]
        )
    else:
        prefetches = [Prefetch(limit=asked.candidates, query=ranking, filter=flt) for ranking in rankings]
        # the stubs know the variants of Fusion as classes beside it
        fusion = cast("Fusion", Fusion.Rrf(k=RRF_K))
        request = QueryRequest(
            limit=asked.limit,
            prefetches=prefetches,
            query=fusion,
            filter=flt,
            with_payload=True,
            with_vector=[DENSE],
        )
    return tuple(
        hit_of(
            str(point.id),
            point.score,
            point.payload or {},
            similarity=similarity_of(asked.vector, point.vector),
        )
        for point in shard.query(request)
    )


def _rankings(asked: Search, *, language: str) -> list[Query]:
    found = []
    if asked.mode is not Mode.LEXICAL:
        found.append(Query.Nearest(list(asked.vector), using=DENSE))
    words = query_vector(asked.text, language=language) if asked.mode is not Mode.DENSE else None
    if words is not None and words.indices:
        found.append(Query.Nearest(words, using=LEXICAL))
    return found


def filter_of(selection: Selection) -> Filter:
    """Return the selection in the engine's terms; no access label at all matches nothing."""
    return Filter(
        must=[_any_of(field, values) for field, values in required(selection)],
        must_not=[_any_of(field, values) for field, values in excluded(selection)],
    )


def _any_of(field: str, values: Sequence[str]) -> FieldCondition:
    return FieldCondition(key=field, match=MatchAny(any=list(values)))


def _scroll(
    shard: EdgeShard, *, fields: list[str], flt: Filter | None, vectors: bool
) -> Iterator[tuple[Mapping[str, object], Sequence[float]]]:
    offset = None
    while True:
        request = ScrollRequest(
            offset=offset,
            limit=PAGE,
            filter=flt,
            with_payload=fields,
            with_vector=[DENSE] if vectors else False,
        )
        records, offset = shard.scroll(request)
        for record in records:
            held = record.vector
            dense = held[DENSE] if isinstance(held, dict) else ()
            yield record.payload or {}, cast("Sequence[float]", dense)
        if offset is None:
            return
