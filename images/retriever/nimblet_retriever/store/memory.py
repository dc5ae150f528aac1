# SPDX-License-Identifier: Apache-2.0
"""Pushed passages of one space in memory, searched exactly. Knows no files and no versions.

The engine's shard is not used for them: a full disk ends it by SIGBUS, and with it the retriever that answers
queries; the client's local mode needs 0.1 s for 1,000 passages. Ranking is the engine's own: cosine, and BM25
with the term weights of lexical.py.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from nimblet_retriever.store.chunk import Chunk, Hit, Mode, Search, Selection
from nimblet_retriever.store.lexical import Words, query_vector
from nimblet_retriever.store.payload import Payload, chunk_of, hit_from, payload_of, sees
from nimblet_retriever.store.pushed import Space, ranked

DEAD: Final = -1
FIRST_ROWS: Final = 64

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _Row:
    id: str
    payload: Payload


class MemoryIndex:
    """Passages whose vectors compare. Rows of removed documents stay dead until half of all are."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._rows: list[_Row | None] = []
        self._live = 0
        self._documents: dict[str, tuple[int, ...]] = {}
        self._terms, self._owners, self._weights = array("I"), array("I"), array("f")
        """Every word of every row: term, row and weight; looked through as a whole, which numpy does fast."""
        self._known_groups: dict[tuple[object, ...], int] = {}
        self._samples: list[Payload] = []
        """One payload of each group: passages that every selection treats alike but for the document."""
        self._vectors: Floats = np.zeros((FIRST_ROWS, self.space.dimension), dtype=np.float32)
        self._all_groups: npt.NDArray[np.int32] = np.full(FIRST_ROWS, DEAD, dtype=np.int32)

    def __len__(self) -> int:
        """Count the live passages."""
        return self._live

    def add(self, document: str, chunks: Sequence[Chunk], words: Sequence[Words]) -> None:
        """Put a document in, or in the place of what it was; `words` of each chunk, which take their time."""
        self.remove(document)
        paired = zip(chunks, words, strict=True)
        self._documents[document] = tuple(self._append(chunk, weighted) for chunk, weighted in paired)

    def remove(self, document: str) -> None:
        """Take a document out if it is in."""
        for row in self._documents.pop(document, ()):
            self._groups[row] = DEAD
            self._rows[row] = None
            self._live -= 1
        if self._count > FIRST_ROWS and self._live < self._count // 2:
            self._rebuild()

    def chunks(self, document: str) -> tuple[Chunk, ...]:
        """Return a document's passages with their vectors."""
        rows = [(number, self._rows[number]) for number in self._documents.get(document, ())]
        held = [(row.payload, self._vectors[number]) for number, row in rows if row is not None]
        return tuple(chunk_of(payload, vector.tolist()) for payload, vector in held)

    def dense(self, search: Search) -> tuple[Hit, ...]:
        """Return the passages nearest to the question's vector, with their cosines."""
        if search.mode is Mode.LEXICAL or len(search.vector) != self.space.dimension:
            return ()
        rows = np.flatnonzero(self._visible(search.selection))
        scores = self._vectors[rows] @ _normalised(search.vector)
        return self._best(rows, scores, search)

    def lexical(self, search: Search) -> tuple[Hit, ...]:
        """Return the passages with the question's words, by BM25."""
        if search.mode is Mode.DENSE:
            return ()
        words = query_vector(search.text, language=self.space.language)
        scores = np.zeros(self._count, dtype=np.float32)
        terms = np.frombuffer(self._terms, dtype=np.uint32)
        for term, weight in zip(words.indices, words.values, strict=True):
            holders = np.flatnonzero(terms == term)
            owners = np.frombuffer(self._owners, dtype=np.uint32)[holders]
            alive = self._groups[owners] != DEAD
            owners, weights = owners[alive], np.frombuffer(self._weights, dtype=np.float32)[holders[alive]]
            scores[owners] += weight * _rarity(self._live, len(owners)) * weights
        rows = np.flatnonzero((scores > 0) & self._visible(search.selection))
        return self._best(rows, scores[rows], search)

    @property
    def _count(self) -> int:
        return len(self._rows)

    @property
    def _groups(self) -> npt.NDArray[np.int32]:
        return self._all_groups[: self._count]

    def _append(self, chunk: Chunk, words: Words) -> int:
        row, payload = self._count, payload_of(chunk)
        if row == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
            self._all_groups = np.concatenate([self._all_groups, np.full_like(self._all_groups, DEAD)])
        self._rows.append(_Row(id=chunk.id, payload=payload))
        self._vectors[row] = _normalised(chunk.vector)
        self._all_groups[row] = self._group(payload)
        self._live += 1
        terms = words.indices
        self._terms.extend(terms)
        self._owners.extend([row] * len(terms))
        self._weights.extend(words.values)
        return row

    def _group(self, payload: Payload) -> int:
        number = self._known_groups.setdefault(_facets(payload), len(self._samples))
        if number == len(self._samples):
            self._samples.append(payload)
        return number

    def _visible(self, selection: Selection) -> Mask:
        """Return which rows a selection may see: each group is looked at once, then documents by name."""
        seen = np.array([*(sees(selection, sample) for sample in self._samples), False])  # DEAD is the last
        mask: Mask = seen[self._groups]
        if selection.documents:
            named = np.zeros(self._count, dtype=np.bool_)
            for document in selection.documents:
                named[list(self._documents.get(document, ()))] = True
            mask = mask & named
        for document in selection.hidden:
            mask[list(self._documents.get(document, ()))] = False
        return mask

    def _best(self, rows: npt.NDArray[np.intp], scores: Floats, search: Search) -> tuple[Hit, ...]:
        if len(rows) > search.candidates:
            kept = np.argpartition(-scores, search.candidates)[: search.candidates]
            rows, scores = rows[kept], scores[kept]
        fits = len(search.vector) == self.space.dimension
        cosines = (
            (self._vectors[rows] @ _normalised(search.vector)).clip(-1, 1).tolist() if fits else [None] * len(rows)
        )
        found = zip((self._rows[row] for row in rows), scores.tolist(), cosines, strict=True)
        hits = [
            hit_from(row.id, score, row.payload, similarity=cosine)
            for row, score, cosine in found
            if row is not None
        ]
        return ranked(hits, search.candidates)

    def _rebuild(self) -> None:
        """Leave the dead rows behind. What is known of the others is moved: nothing is cut into words again."""
        kept = np.flatnonzero(self._groups != DEAD)
        moved = np.full(self._count, DEAD, dtype=np.int64)
        moved[kept] = np.arange(len(kept))
        owners = moved[np.frombuffer(self._owners, dtype=np.uint32)]
        held = owners != DEAD
        self._terms = array("I", np.frombuffer(self._terms, dtype=np.uint32)[held].tobytes())
        self._weights = array("f", np.frombuffer(self._weights, dtype=np.float32)[held].tobytes())
        self._owners = array("I", owners[held].astype(np.uint32).tobytes())
        used, groups = np.unique(self._groups[kept], return_inverse=True)
        self._samples = [self._samples[group] for group in used]
        self._known_groups = {_facets(sample): number for number, sample in enumerate(self._samples)}
        size = max(FIRST_ROWS, len(kept))
        vectors = np.zeros((size, self.space.dimension), dtype=np.float32)
        vectors[: len(kept)] = self._vectors[kept]
        numbers = np.full(size, DEAD, dtype=np.int32)
        numbers[: len(kept)] = groups
        self._vectors, self._all_groups = vectors, numbers
        self._rows = [self._rows[row] for row in kept]
        self._documents = {name: tuple(int(moved[row]) for row in rows) for name, rows in self._documents.items()}


def _facets(payload: Payload) -> tuple[object, ...]:
    """Return what selections look at but for the document."""
    return payload.access, payload.source, payload.labels


def _normalised(vector: Sequence[float]) -> Floats:
    made = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(made))
    return made / length if length > 0 else made


def _rarity(all_rows: int, with_term: int) -> float:
    """Inverse document frequency as Qdrant's modifier IDF has it."""
    return float(np.log((all_rows - with_term + 0.5) / (with_term + 0.5) + 1))
