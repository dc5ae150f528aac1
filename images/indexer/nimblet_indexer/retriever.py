# SPDX-License-Identifier: Apache-2.0
"""Speaks to the retriever: builds and token counts. Waits for one that is away; tells no text in errors."""

import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from nimblet_indexer.config import RetrieverTarget

log = logging.getLogger(__name__)
RETRIED: Final = frozenset({429, 502, 503, 504})
WAIT_SECONDS: Final = 5.0
TEXTS_AT_ONCE: Final = 500


class Answer(BaseModel):
    """Base: what the retriever answers; keys that a newer one adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Begun(Answer):
    """A build that was begun or resumed."""

    name: str
    dimension: int
    embedding: str


class Added(Answer):
    """What became of a batch."""

    embedded: int
    reused: int


class Gated(Answer):
    """What the golden questions gave."""

    passed: bool
    asked: int = 0
    recall: float = 0.0
    mrr: float = 0.0
    ndcg: float = 0.0
    failed: tuple[str, ...] = ()


class Generation(Answer):
    """A generation in the store."""

    name: str
    sealed: bool


class Generations(Answer):
    """All of them, and the one that serves."""

    serving: str | None = None
    generations: tuple[Generation, ...] = ()


class _Counts(Answer):
    counts: tuple[int, ...]


class _Told(Answer):
    reason: str = ""
    message: str = ""


class RetrieverError(Exception):
    """The retriever refused, or was away for too long. `reason` is its own word, or Unavailable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Call:
    """A request; an empty body is none."""

    method: str
    path: str
    body: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time as the client sees it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


A = TypeVar("A", bound=Answer)


class RetrieverClient:
    """One build's conversation. A context manager; may be used by several threads."""

    def __init__(
        self,
        target: RetrieverTarget,
        *,
        clock: Clock | None = None,
        transport: httpx.BaseTransport | None = None,
        tls: ssl.SSLContext | bool = True,
    ) -> None:
        self._target = target
        self._clock = clock or Clock()
        self._client = httpx.Client(
            base_url=target.url, timeout=target.timeout_seconds, transport=transport, verify=tls
        )

    def __enter__(self) -> Self:
        """Connect when first asked."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._client.close()

    def begin(self, name: str, token: str) -> Begun:
        """Begin or resume a build."""
        return self._ask(_Call("POST", "/v1/builds", {"name": name, "token": token}), Begun)

    def add(self, build: Begun, token: str, passages: Sequence[Mapping[str, object]]) -> Added:
        """Hand passages over: durable when this returns. The same ones again do no harm."""
        path = f"/v1/builds/{build.name}/{token}/passages"
        return self._ask(_Call("POST", path, {"passages": list(passages)}), Added)

    def seal(self, build: Begun, token: str) -> None:
        """Complete the build."""
        self._ask(_Call("POST", f"/v1/builds/{build.name}/{token}/seal", {}), Answer)

    def gate(self, name: str, request: Mapping[str, object]) -> Gated:
        """Ask a sealed generation the golden questions."""
        return self._ask(_Call("POST", f"/v1/generations/{name}/gate", request), Gated)

    def serve(self, name: str) -> None:
        """Swap to a sealed generation."""
        self._ask(_Call("PUT", "/v1/serving", {"generation": name}), Answer)

    def generations(self) -> Generations:
        """List the generations."""
        return self._ask(_Call("GET", "/v1/generations", {}), Generations)

    def drop(self, name: str) -> None:
        """Remove a generation."""
        self._ask(_Call("DELETE", f"/v1/generations/{name}", {}), Answer)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text by the embedding model's tokenizer."""
        counts: list[int] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            batch = list(texts[start : start + TEXTS_AT_ONCE])
            counts += self._ask(_Call("POST", "/v1/tokens", {"texts": batch}), _Counts).counts
        return counts

    def _ask(self, call: _Call, model: type[A]) -> A:
        until = self._clock.now() + self._target.patience_seconds
        while True:
            try:
                key = self._target.key_file.read_text(encoding="ascii").strip()
                headers = {"Authorization": f"Bearer {key}"}
                answer = self._client.request(call.method, call.path, json=call.body or None, headers=headers)
            except httpx.HTTPError as error:
                told = _Told(
                    reason="Unavailable", message=f"the retriever did not answer ({type(error).__name__})"
                )
                wait = WAIT_SECONDS
            else:
                if answer.is_success:
                    return _parsed(answer.content or b"{}", model)
                told = _told(answer)
                if answer.status_code not in RETRIED:
                    raise RetrieverError(told.reason, told.message)
                wait = _wait_of(answer)
            if self._clock.now() + wait > until:
                raise RetrieverError(told.reason, told.message)
            log.warning("%s: %s; asked again in %.0f s", told.reason, told.message, wait)
            self._clock.sleep(wait)


def _parsed(body: bytes, model: type[A]) -> A:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RetrieverError("UnexpectedAnswer", "the retriever's answer is none of this version's") from error


def _told(answer: httpx.Response) -> _Told:
    try:
        return _Told.model_validate_json(answer.content)
    except ValidationError:
        reason = "Unavailable" if answer.status_code in RETRIED else "UnexpectedAnswer"
        return _Told(reason=reason, message=f"the retriever answered HTTP {answer.status_code}")


def _wait_of(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isdecimal() else WAIT_SECONDS
