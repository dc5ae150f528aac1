# SPDX-License-Identifier: Apache-2.0
"""Asking an Assistant and its indexes, and pushing to them; what came: text, citations. It judges nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from openai.types.chat import ChatCompletion
from pydantic import Field

from e2e.support.asking import TIMEOUT_SECONDS, Endpoint, await_route, service_url
from e2e.support.kube import Kube
from e2e.support.objects import Parsed
from e2e.support.secure import secure_of
from nimblet import names

ASSISTANT, INDEX = "assistant", "retrievalindex"
API_KEY = "api-key"


class Citation(Parsed):
    """A source of a sentence; the quote is said to stand in the chunk from `quote_start` to `quote_end`."""

    number: int
    id: str
    index: str
    document: str
    source: str
    title: str = ""
    quote: str
    quote_start: int
    quote_end: int


class Passage(Parsed):
    """What a retriever found."""

    id: str
    document: str
    text: str
    source: str = ""
    title: str = ""
    location: str = ""


class Found(Parsed):
    """A retriever's answer: all of one generation."""

    generation: str
    push: int = 0
    reranked: bool | None = None
    passages: list[Passage] = Field(default_factory=list)

    @property
    def documents(self) -> list[str]:
        """The documents found, the best first."""
        return list(dict.fromkeys(item.document for item in self.passages))


class Told(Parsed):
    """What the gateway tells beside OpenAI's fields."""

    refusal: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An Assistant's answer."""

    text: str
    citations: tuple[Citation, ...]
    refusal: str | None
    annotations: int
    """How many of OpenAI's own annotations came with it."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """An Assistant's endpoint."""

    endpoint: Endpoint

    def ask(self, question: str, *, max_tokens: int = 60) -> Answer:
        """Return the answer to one question; openai's errors where there is none."""
        with self.endpoint.client() as client:
            completion = client.chat.completions.create(
                model=self.endpoint.model,
                messages=[{"role": "user", "content": question}],
                max_tokens=max_tokens,
                temperature=0,
            )
        return answer_of(completion)

    def models(self) -> list[str]:
        """Return the names at /v1/models."""
        with self.endpoint.client() as client:
            return [model.id for model in client.models.list()]


def answer_of(completion: ChatCompletion) -> Answer:
    """Return a completion's answer with what OpenAI's types don't have."""
    message, extra = completion.choices[0].message, completion.model_extra or {}
    return Answer(
        text=message.content or "",
        citations=tuple(Citation.model_validate(item) for item in extra.get("citations") or ()),
        refusal=Told.model_validate(extra.get("nimblet") or {}).refusal,
        annotations=len(message.annotations or ()),
    )


@contextmanager
def answers_of(kube: Kube, name: str, namespace: str) -> Iterator[Answers]:
    """Give an Assistant, with the key from the Secret that its status names."""
    status, service = kube.resource(ASSISTANT, name, namespace).status, names.gateway(name)
    key = _key(kube, status.key_secret, namespace)
    secure = secure_of(kube, service, namespace, endpoint=status.endpoint)
    with service_url(kube, service, namespace, secure=secure) as url:
        await_route(url)
        yield Answers(endpoint=Endpoint(url=url, api_key=key, model=name, secure=secure))


@dataclass(frozen=True, kw_only=True)
class Searching:
    """A retriever's endpoint."""

    url: str
    key: str

    def find(self, query: str, *, top_k: int = 5, access: Sequence[str] | None = None) -> Found:
        """Return what a search finds; httpx's errors where it fails."""
        narrowed = {} if access is None else {"access": list(access)}
        answer = httpx.post(
            f"{self.url}/v1/retrieve",
            json={"query": query, "topK": top_k, **narrowed},
            headers=bearer(self.key),
            timeout=TIMEOUT_SECONDS,
        )
        return Found.model_validate(answer.raise_for_status().json())


@dataclass(frozen=True, kw_only=True)
class Pushing:
    """A retriever's endpoint, and a key that may push."""

    url: str
    key: str

    def push(self, name: str, text: str, *, access: Sequence[str]) -> httpx.Response:
        """Push a document."""
        body = {"id": name, "text": text, "access": list(access)}
        return httpx.post(f"{self.url}/v1/documents", json=body, headers=bearer(self.key), timeout=TIMEOUT_SECONDS)

    def delete(self, name: str) -> httpx.Response:
        """Delete one of its documents, or hide a source's."""
        url = f"{self.url}/v1/documents/{name}"
        return httpx.delete(url, headers=bearer(self.key), timeout=TIMEOUT_SECONDS)

    def restore(self, name: str) -> httpx.Response:
        """Show a source's document again."""
        url = f"{self.url}/v1/documents/{name}/restore"
        return httpx.post(url, headers=bearer(self.key), timeout=TIMEOUT_SECONDS)


def bearer(key: str) -> dict[str, str]:
    """Return the header that a key goes in."""
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def searching(kube: Kube, index: str, namespace: str) -> Iterator[Searching]:
    """Give an index, with the key from the Secret that its status names."""
    key = _key(kube, kube.resource(INDEX, index, namespace).status.key_secret, namespace)
    with service_url(kube, f"{index}-retriever", namespace) as url:
        await_route(url)
        yield Searching(url=url, key=key)


@contextmanager
def pushing(kube: Kube, index: str, namespace: str) -> Iterator[Pushing]:
    """Give an index to push to, with the key of its Secret."""
    key = _key(kube, names.purpose_key(index, purpose="push"), namespace)
    with service_url(kube, f"{index}-retriever", namespace) as url:
        await_route(url)
        yield Pushing(url=url, key=key)


def _key(kube: Kube, secret: str, namespace: str) -> str:
    return kube.secret_value(secret, API_KEY, namespace).splitlines()[0]
