# SPDX-License-Identifier: Apache-2.0
"""What the store on a server and its overlay share of the client: points, rankings, filters, and its errors."""

from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, TypeVar

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from nimblet_retriever.store.chunk import (
    Chunk,
    GenerationUnknown,
    Mode,
    Search,
    Selection,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from nimblet_retriever.store.lexical import document_vector, query_vector
from nimblet_retriever.store.payload import DENSE, LEXICAL, excluded, json_of, payload_of, required

PAGE: Final = 1000
REQUEST_BYTES: Final = 8 * 2**20
"""Of the points in one request: a server takes 32 MiB where its configuration says no other number."""
NOT_FOUND: Final = 404
REFUSALS: Final = frozenset({401, 403})
"""No key or a wrong one; a key that may not do this: a read-only one, or one for other collections."""
NO_SPACE: Final = ("No space left", "Not enough space available")
"""How the server says that its disk is full: the system's own words, and those of its optimizer."""

FULL: Final = "the Qdrant server's disk is full; enlarge it or drop old generations"

T = TypeVar("T")


async def answered(request: Awaitable[T]) -> T:
    """Await a request and put its errors in our words; GenerationUnknown for a collection that is not there."""
    try:
        return await request
    except UnexpectedResponse as error:
        raise _refusal(error) from error
    except ResponseHandlingException as error:
        if isinstance(error.source, StoreError):
            raise error.source from error
        raise _silence(error.source) from error
    except (ApiException, QdrantException, OSError) as error:
        raise _silence(error) from error
    except ValueError as error:
        if "not found" in str(error):  # the client's local mode has no error of its own for it
            raise GenerationUnknown("the collection is gone") from error
        raise


def is_full(words: str) -> bool:
    """Tell whether these words of a server's mean that its disk is full."""
    return any(told in words for told in NO_SPACE)


def _refusal(error: UnexpectedResponse) -> StoreError:
    """Return what an answer with an error means."""
    if error.status_code == NOT_FOUND:
        return GenerationUnknown("the collection is gone")
    if error.status_code in REFUSALS:
        return StoreRefused(
            f"the Qdrant server refuses the key (HTTP {error.status_code}); give one that may read and write"
        )
    # older servers say 500 and the system's words, newer ones have a status for it
    if error.status_code == HTTPStatus.INSUFFICIENT_STORAGE or is_full(error.content.decode(errors="replace")):
        return StoreFull(FULL)
    return StoreUnavailable(f"the Qdrant server answered HTTP {error.status_code}; see its log")


def _silence(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"the Qdrant server did not answer ({type(error).__name__}); check its address")


def point_of(chunk: Chunk, *, language: str) -> models.PointStruct:
    """Return a chunk as a point."""
    words = document_vector(chunk.text, language=language)
    vector: dict[str, models.Vector] = {
        DENSE: list(chunk.vector),
        LEXICAL: models.SparseVector(indices=words.indices, values=words.values),
    }
    return models.PointStruct(id=chunk.id, vector=vector, payload=json_of(payload_of(chunk)))


def requests_of(points: Sequence[models.PointStruct]) -> Iterator[list[models.PointStruct]]:
    """Yield points in their order, as many at once as one request may hold; one that is larger goes alone."""
    held: list[models.PointStruct] = []
    room = REQUEST_BYTES
    for point in points:
        size = len(point.model_dump_json().encode())
        if held and size > room:
            yield held
            held, room = [], REQUEST_BYTES
        held.append(point)
        room -= size
    if held:
        yield held


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
    vectors: bool | Literal["all"],
    flt: models.Filter | None = None,
) -> AsyncIterator[models.Record]:
    """Yield all points that a filter lets through; `vectors`: the dense ones, or those of all kinds."""
    offset = None
    while True:
        records, offset = await answered(
            client.scroll(
                collection,
                scroll_filter=flt,
                limit=PAGE,
                offset=offset,
                with_payload=fields,
                with_vectors=[DENSE] if vectors is True else vectors == "all",
            )
        )
        for record in records:
            yield record
        if offset is None:
            return
