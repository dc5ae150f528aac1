# SPDX-License-Identifier: Apache-2.0
"""BM25 as sparse vectors, by Qdrant's own tokenizer, so that every store ranks words alike. Pure.

Documents carry term frequencies; the inverse document frequency is the engine's (modifier IDF), over the whole
generation.
"""

from functools import cache

from qdrant_edge import Bm25, Bm25Config, SparseVector

Words = SparseVector
"""The words of a passage with their weights."""


@cache
def _model(language: str) -> Bm25:
    return Bm25(Bm25Config(language=language))


def check_language(language: str) -> None:
    """Raise ValueError, with the engine's words, for a language it has no stemmer for."""
    _model(language)


def document_vector(text: str, *, language: str) -> SparseVector:
    """Return the term frequencies of a passage; a text without a word gives an empty vector."""
    return _model(language).embed_document(text)


def query_vector(text: str, *, language: str) -> SparseVector:
    """Return one for each word of a question; a text without a word gives an empty vector."""
    return _model(language).embed_query(text)
