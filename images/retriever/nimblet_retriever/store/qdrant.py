# SPDX-License-Identifier: Apache-2.0
"""What the store on a server and its overlay share of the client: points, rankings, filters, and its errors."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from nimblet_retriever.store.chunk import (
    Chunk,
    GenerationUnknown,
    Mode,
    Search,
    Selection,
    StoreFull,
    StoreUnavailable,
)
from nimblet_retriever.store.lexical import document_vector, query_vector
from nimblet_retriever.store.payload import DENSE, LEXICAL, excluded, json_of, payload_of, required

PAGE: Final = 1000
NOT_FOUND: Final = 404
REFUSED: Final = frozenset({401, 403})
NO_SPACE: Final = "No space left"
"""How the server says in its answer that its disk is full, in the words of the system's own error."""

T = TypeVar("T")


async def answered(request: Awaitable[T]) -> T:
    """Await a request and put its errors in our words; GenerationUnknown for a collection that is not there."""
    try:
        return await request
    except UnexpectedResponse as error:
        if error.status_code == NOT_FOUND:
            raise GenerationUnknown("the collection is gone") from error
        if NO_SPACE.encode() in error.content:
            raise StoreFull("the Qdrant server's disk is full; enlarge it or drop old generations") from error
        if error.status_code in REFUSED:
            refused = f"the Qdrant server refused the key (HTTP {error.status_code})"
            raise StoreUnavailable(f"{refused}; put the server's key into its Secret") from error
        raise StoreUnavailable(f"the Qdrant server answered HTTP {error.status_code}; see its log") from error
    except (ApiException, QdrantException, OSError) as error:
        raise StoreUnavailable(
            f"the Qdrant server did not answer ({type(error).__name__}); check its address"
        ) from error
    except ValueError as error:
        if "not found" in str(error):  # the client's local mode has no error of its own for it
            raise GenerationUnknown("the collection is gone") from error
        raise


def point_of(chunk: Chunk, *, language: str) -> models.PointStruct:
    """Return a chunk as a point."""
    words = document_vector(chunk.text, language=language)
    vector: dict[str, models.Vector] = {
        DENSE: list(chunk.vector),
        LEXICAL: models.SparseVector(indices=words.indices, values=words.values),
    }
    return models.PointStruct(id=chunk.id, vector=vector, payload=json_of(payload_of(chunk)))


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The parts of a query request that its mode decides."""

    query: models.Query | list[float] | models.SparseVector
    using: str | None = None
    prefetch: list[models.Prefetch] | None = None
    params: models.SearchParams | None = None


def ranking(asked: Search, *, language: str, params: models.SearchParams | None = None) -> Ranking | None:
    """Return how the engine ranks, None when there is nothing to rank by.

    The filter stands in each half's own request too, so that none sees more.
    """
    halves: list[tuple[list[float] | models.SparseVector, str]] = []
    if asked.mode is not Mode.LEXICAL:
        halves.append((list(asked.vector), DENSE))
    words = query_vector(asked.text, language=language) if asked.mode is not Mode.DENSE else None
    if words is not None and words.indices:
        halves.append((models.SparseVector(indices=words.indices, values=words.values), LEXICAL))
    if not halves:
        return None
    if len(halves) == 1:
        return Ranking(query=halves[0][0], using=halves[0][1], params=_params_of(halves[0][1], params))
    flt = filter_of(asked.selection)
    prefetch = [
        models.Prefetch(
            query=vector, using=using, filter=flt, limit=asked.candidates, params=_params_of(using, params)
        )
        for vector, using in halves
    ]
    return Ranking(query=models.FusionQuery(fusion=models.Fusion.RRF), prefetch=prefetch)


def _params_of(using: str, params: models.SearchParams | None) -> models.SearchParams | None:
    """Only the dense vectors have a compressed copy."""
    return params if using == DENSE else None


def filter_of(selection: Selection) -> models.Filter:
    """Return the selection in the client's terms; no access label at all matches nothing."""
    return models.Filter(
        must=[any_of(field, values) for field, values in required(selection)],
        must_not=[any_of(field, values) for field, values in excluded(selection)],
    )


def any_of(field: str, values: Sequence[str]) -> models.FieldCondition:
    """Return the condition that a field has one of these values."""
    return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))


async def scroll(
    client: AsyncQdrantClient,
    collection: str,
    *,
    fields: list[str] | bool,
    vectors: bool,
    flt: models.Filter | None = None,
) -> AsyncIterator[models.Record]:
    """Yield all points that a filter lets through."""
    offset = None
    while True:
        records, offset = await answered(
            client.scroll(
                collection,
                scroll_filter=flt,
                limit=PAGE,
                offset=offset,
                with_payload=fields,
                with_vectors=[DENSE] if vectors else False,
            )
        )
        for record in records:
            yield record
        if offset is None:
            return
