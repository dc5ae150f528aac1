# SPDX-License-Identifier: Apache-2.0
"""Asks the embedding model for vectors and token counts. Knows no store; keeps and logs no text."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Final

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from nimblet_retriever.bulk import Bulk
from nimblet_retriever.config import EmbeddingConfig
from nimblet_retriever.errors import EmbeddingRefused, EmbeddingUnavailable

TOKENIZE_AT_ONCE: Final = 256
"""Texts in one request for token counts."""
SEPARATOR: Final = -1
"""No token has this number."""
BYTES_PER_TOKEN: Final = 2
"""Of an estimate: real tokenizers need fewer tokens for any script, so that what is counted fits."""
SERVER_ERRORS: Final = frozenset({408, 429, 500, 502, 503, 504})
TOO_LONG: Final = (b"too large to process", b"exceed_context_size_error", b"context_length_exceeded")
"""How llama.cpp (the first with HTTP 500) and OpenAI-like servers tell that a text does not fit the context."""
HALVINGS: Final = 6
"""Of a question that does not fit: the longest one ends at 125 characters, which fit every model."""


class Kind(Enum):
    """What is embedded: models may want other words before each."""

    QUESTION = auto()
    PASSAGE = auto()


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True)
    index: int
    embedding: tuple[float, ...]


class _Embeddings(BaseModel):
    data: tuple[_Item, ...]


class _Tokens(BaseModel):
    tokens: tuple[int, ...]


class Embedder:
    """One embedding model. Every vector it returns is finite, normalised, and as long as all others."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        config: EmbeddingConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._config = config
        self._bulk = Bulk(self._some_passages, most=config.batch, clock=clock)
        self._dimension: int | None = None

    @property
    def fingerprint(self) -> str:
        """The configuration's fingerprint."""
        return self._config.fingerprint

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[Sequence[float]]:
        """Return a vector for each text. EmbeddingUnavailable, EmbeddingRefused."""
        prefix = self._config.query_prefix if kind is Kind.QUESTION else self._config.document_prefix
        vectors: list[Sequence[float]] = []
        for start in range(0, len(texts), self._config.batch):
            batch = [prefix + text for text in texts[start : start + self._config.batch]]
            vectors += await self._batch(batch)
        return vectors

    async def embed_passages(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """Return a vector for each passage, and let questions pass meanwhile. As for embed."""
        return await self._bulk.embed(texts)

    async def _some_passages(self, texts: Sequence[str]) -> list[Sequence[float]]:
        return await self.embed(texts, Kind.PASSAGE)

    async def embed_question(self, text: str) -> Sequence[float]:
        """Return a question's vector; where it does not fit the context, that of as much of its end as does.

        A pasted text with a question below it is what gets so long. EmbeddingUnavailable, EmbeddingRefused.
        """
        for _ in range(HALVINGS):
            try:
                (vector,) = await self.embed([text], Kind.QUESTION)
            except EmbeddingRefused as error:
                if not error.is_too_long:
                    raise
                text = text[len(text) // 2 :]
            else:
                return vector
        (vector,) = await self.embed([text], Kind.QUESTION)
        return vector

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text by the model's own tokenizer, or an estimate that is never too low."""
        if self._config.tokenizer == "Estimate":
            return [-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts]
        counts: list[int] = []
        for start in range(0, len(texts), TOKENIZE_AT_ONCE):
            counts += await self._count(texts[start : start + TOKENIZE_AT_ONCE])
        return counts

    async def _count(self, texts: Sequence[str]) -> list[int]:
        """Ask for many texts in one request: a list, in which a token that no vocabulary has ends each text.

        llama.cpp tokenizes each text of such a list by itself and hands on the numbers between them as they are.
        """
        content = [part for text in texts for part in (text, SEPARATOR)]
        base = self._config.url.removesuffix("/v1")
        body = await self._post(f"{base}/tokenize", {"content": content, "add_special": False})
        try:
            tokens = _Tokens.model_validate_json(body).tokens
        except ValidationError as error:
            raise _no_tokens() from error
        ends = [place for place, token in enumerate(tokens) if token == SEPARATOR]
        if len(ends) != len(texts):
            raise _no_tokens()
        return [end - begin - 1 for begin, end in zip((-1, *ends), ends, strict=False)]

    async def _batch(self, texts: Sequence[str]) -> list[Sequence[float]]:
        request = {"model": self._config.model, "input": list(texts), "encoding_format": "float"}
        body = await self._post(f"{self._config.url}/embeddings", request)
        try:
            data = sorted(_Embeddings.model_validate_json(body).data, key=lambda item: item.index)
        except ValidationError as error:
            raise EmbeddingRefused(
                "the embedding server's answer holds no embeddings; check its address"
            ) from error
        if [item.index for item in data] != list(range(len(texts))):
            raise EmbeddingRefused(f"expected {len(texts)} embeddings, found {len(data)}; check the server")
        return [self._checked(item.embedding) for item in data]

    def _checked(self, vector: Sequence[float]) -> Sequence[float]:
        length = math.sqrt(sum(number * number for number in vector))
        if not vector or not math.isfinite(length) or length == 0.0:
            raise EmbeddingRefused("the embedding server gave a vector without a direction; check its pooling")
        if self._dimension not in (None, len(vector)):
            raise EmbeddingRefused(
                f"expected vectors of {self._dimension} numbers as before, found {len(vector)}; is it one model?"
            )
        self._dimension = len(vector)
        return [number / length for number in vector]

    async def _post(self, url: str, body: Mapping[str, object]) -> bytes:
        try:
            answer = await self._client.post(
                url,
                json=body,
                headers=self._headers(),
                timeout=self._config.timeout_seconds,
                follow_redirects=False,
            )
        except httpx.HTTPError as error:
            raise EmbeddingUnavailable(f"the embedding server did not answer ({type(error).__name__})") from error
        if answer.status_code != httpx.codes.OK and any(words in answer.content for words in TOO_LONG):
            raise EmbeddingRefused(
                "a text is longer than the embedding model takes; cut passages shorter, or give it more context",
                is_too_long=True,
            )
        if answer.status_code in SERVER_ERRORS:
            raise EmbeddingUnavailable(f"the embedding server answered HTTP {answer.status_code}")
        if answer.status_code != httpx.codes.OK:
            raise EmbeddingRefused(f"the embedding server answered HTTP {answer.status_code}; check key and sizes")
        return answer.content

    def _headers(self) -> dict[str, str]:
        """Return the headers with the key, whose file is read each time: a rotated one counts at once."""
        if self._config.key_file is None:
            return {}
        try:
            key = self._config.key_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:  # a former model's Secret may be gone
            kind = type(error).__name__
            raise EmbeddingUnavailable(
                f"the embedding server's key can't be read ({kind}); see its Secret"
            ) from error
        return {"Authorization": f"Bearer {key}"}


def _no_tokens() -> EmbeddingRefused:
    return EmbeddingRefused("the embedding server's /tokenize gave no tokens; set embedding.tokenizer to Estimate")


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two normalised vectors; 0 where their lengths differ."""
    return sum(a * b for a, b in zip(one, other, strict=True)) if len(one) == len(other) else 0.0
