# SPDX-License-Identifier: Apache-2.0
"""Puts one question to a served model: through the API server's proxy, or to a URL that the user gives.

What is sent and shown depends on the task: text, a vector's size, the documents by score, the labels by score.
"""

import base64
import binascii
import math
import ssl
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from nimblet import names
from nimblet.api.compactmodel import CompactModelStatus, Task
from nimblet.cli.errors import CommandError
from nimblet.cli.live import Target
from nimblet.cluster.client import Client
from nimblet.cluster.login import Login
from nimblet.cluster.question import PATHS
from nimblet.cluster.resources import SECRET
from nimblet.manifests.configuration import API_KEY
from nimblet.plan.runtime.choice import RUNTIMES, TITLES

OK = 200
MAX_QUOTE = 300


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and for how long an answer may take."""

    text: str
    max_tokens: int
    timeout_seconds: float
    task: Task = "Chat"
    model: str = ""
    """What the request calls the model; left out when empty: a model server has only one."""
    documents: tuple[str, ...] = ()
    """Task Rerank: what is put in order."""
    labels: tuple[str, ...] = ()
    """Task Classify: the names of the scores, as the model's status tells them."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to send it: `headers` carry the credentials of whoever is on the way."""

    base_url: str
    headers: dict[str, str] = field(repr=False)
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """What its certificate must name, where that is not the address's host."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What an HTTPS server's certificate is verified by."""

    ca: Path
    """The authorities, as PEM: ca.crt of the Secret <service>-tls, say."""
    service: str
    """The Service's name, which the certificate holds: a port-forward's address is in none."""


class Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    message: Message


class Citation(BaseModel):
    """The part of an Assistant's citation that is shown."""

    number: int
    id: str
    title: str = ""
    location: str = ""
    quote: str = ""


class Completion(BaseModel):
    """The part of a chat completion that is shown; citations are an Assistant's."""

    choices: list[Choice] = Field(min_length=1)
    citations: list[Citation] = Field(default_factory=list)


class Ranked(BaseModel):
    index: Annotated[int, Field(ge=0)]
    relevance_score: float


class Ranking(BaseModel):
    """The part of a rerank answer that is shown."""

    results: list[Ranked] = Field(min_length=1)


class Embedding(BaseModel):
    embedding: Annotated[list[float], Field(min_length=1)]


class Embeddings(BaseModel):
    """The part of an embeddings answer that is shown."""

    data: list[Embedding] = Field(min_length=1)


async def read_api_key(client: Client, target: Target, *, name: str) -> str:
    """Return the endpoint's API key out of its Secret."""
    body = await client.get(SECRET, namespace=target.namespace, name=name)
    if body is None:
        raise CommandError(
            f"expected Secret {name} in namespace {target.namespace}, found none; "
            f"is {target.name} there? see `kubectl get nimblet -n {target.namespace}`"
        )
    encoded = (body.get("data") or {}).get(API_KEY, "")
    try:
        return base64.b64decode(encoded, validate=True).decode().splitlines()[0]
    except (binascii.Error, UnicodeDecodeError, IndexError) as error:
        raise CommandError(
            f"expected a key under {API_KEY!r} in Secret {name}, found none that can be read"
        ) from error


def direct_endpoint(url: str, *, api_key: str, trust: Trust | None = None) -> Endpoint:
    """Return the endpoint at a URL such as http://127.0.0.1:8080 or …/v1.

    Without `trust` an HTTPS server is verified by the system's authorities, or those of SSL_CERT_FILE.
    """
    try:
        told = urlsplit(url)
        usable = told.scheme in ("http", "https") and bool(told.hostname) and told.port != 0
    except ValueError:  # a port that is none
        usable = False
    if not usable:
        raise CommandError(f"expected a URL such as http://127.0.0.1:8080, found {url}; correct it")
    endpoint = Endpoint(
        base_url=url.rstrip("/").removesuffix("/v1"), headers={"Authorization": f"Bearer {api_key}"}
    )
    if trust is None:
        return endpoint
    if told.scheme != "https":
        raise CommandError(f"expected --url with https for --ca, found {url}; correct it, or leave --ca out")
    try:
        tls = ssl.create_default_context(cafile=trust.ca)
    except (OSError, ValueError) as error:  # ssl's own errors are of the former kind
        raise CommandError(
            f"expected certificates as PEM in {trust.ca}, found none that can be read ({type(error).__name__})"
        ) from error
    return replace(endpoint, tls=tls, server_name=trust.service if _is_local(told.hostname or "") else None)


def _is_local(host: str) -> bool:
    """Tell an address of this machine, as a port-forward has it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_proxied(target: Target, status: CompactModelStatus) -> None:
    """CommandError where the model's server can't be given its key through the API server's proxy."""
    chosen = RUNTIMES.get(status.resolved.runtime) if status.resolved is not None else None
    if chosen is None or chosen.reads_x_api_key:
        return
    scheme = "https" if status.endpoint.startswith("https:") else "http"  # the port is called like the scheme
    service = names.server(target.name)
    raise CommandError(
        f"expected --url for a model on {TITLES[chosen.name]}, which reads no key that the API server's proxy "
        f"lets pass, found none; run `kubectl port-forward -n {target.namespace} service/{service} 8080:{scheme}` "
        f"and give --url {scheme}://127.0.0.1:8080" + (" and --ca" if scheme == "https" else "")
    )


def proxied_endpoint(login: Login, target: Target, *, api_key: str, https: bool = False) -> Endpoint:
    """Return the endpoint through the API server's service proxy. `https`: the server's pods speak TLS.

    The API server uses up the Authorization header for itself, so the key goes in X-Api-Key, which llama.cpp's
    server reads too (tools/server/server-http.cpp of b11434).
    """
    scheme = "https" if https else "http"  # the port is called like the scheme
    service = f"{scheme}:{names.server(target.name)}:{scheme}"
    base = f"{login.server.rstrip('/')}/api/v1/namespaces/{target.namespace}/services/{service}/proxy"
    headers = {"X-Api-Key": api_key}
    if login.token:
        headers["Authorization"] = f"Bearer {login.token}"
    tls = None
    if login.server.startswith("https"):
        tls = ssl.create_default_context(cafile=login.authority)
        if login.insecure:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if login.certificate is not None:
            tls.load_cert_chain(login.certificate, login.private_key)
    return Endpoint(base_url=base, headers=headers, tls=tls)


async def ask(endpoint: Endpoint, question: Question) -> str:
    """Return the model's answer; CommandError tells what came instead."""
    body = _body(question)
    timeout = aiohttp.ClientTimeout(total=question.timeout_seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                f"{endpoint.base_url}{PATHS[question.task]}",
                json=body,
                headers=endpoint.headers,
                ssl=endpoint.tls if endpoint.tls is not None else True,
                server_hostname=endpoint.server_name,
                allow_redirects=False,
            ) as response,
        ):
            text = await response.text()
            status = response.status
    except TimeoutError as error:
        raise CommandError(
            f"expected an answer within {question.timeout_seconds:g} s, found none; give a longer --timeout"
        ) from error
    except aiohttp.ClientSSLError as error:
        raise CommandError(
            f"expected a certificate that can be verified at {endpoint.base_url}, found: {error}; give the "
            "authority by --ca FILE: ca.crt of the Secret <service>-tls, where the operator makes the certificates"
        ) from error
    except aiohttp.ClientError as error:
        raise CommandError(f"expected a model at {endpoint.base_url}, found: {error}; is it Serving?") from error
    if status != OK:
        raise CommandError(f"expected HTTP 200 from the model, found {status}: {text[:MAX_QUOTE]}")
    return _answer(text, question)


def _body(question: Question) -> dict[str, object]:
    if question.task == "Chat":
        messages = [{"role": "user", "content": question.text}]
        named = {"model": question.model} if question.model else {}
        return {**named, "messages": messages, "max_tokens": question.max_tokens, "stream": False}
    if question.task == "Rerank":
        if not question.documents:
            raise CommandError("expected documents to put in order, found none; give --document once for each")
        return {"query": question.text, "documents": list(question.documents)}
    return {"input": question.text}


def _answer(text: str, question: Question) -> str:
    task = question.task
    try:
        if task == "Chat":
            return _cited(Completion.model_validate_json(text))
        if task == "Rerank":
            ranking = Ranking.model_validate_json(text).results
            named = [(item.relevance_score, _document(item.index, question.documents)) for item in ranking]
            return "\n".join(f"{score:.4f}  {document}" for score, document in sorted(named, reverse=True))
        vector = Embeddings.model_validate_json(text).data[0].embedding
    except ValidationError as error:
        expected = "a chat completion" if task == "Chat" else f"an answer of task {task}"
        raise CommandError(f"expected {expected}, found: {text[:MAX_QUOTE]}") from error
    if task == "Classify":
        names_ = question.labels if len(question.labels) == len(vector) else tuple(map(str, range(len(vector))))
        ordered = sorted(zip(vector, names_, strict=True), reverse=True)
        return "\n".join(f"{score:.4f}  {label}" for score, label in ordered)
    first = ", ".join(f"{number:.4f}" for number in vector[:3])
    return f"{len(vector)} numbers of length {math.hypot(*vector):.4f}: {first}, …"


def _cited(completion: Completion) -> str:
    """Return the text, and below it each citation with what it quotes."""
    message = completion.choices[0].message
    lines = [message.content or message.refusal or ""]
    for item in completion.citations:
        place = ", ".join(part for part in (item.title, item.location) if part)
        lines.append(f"[{item.number}] {item.id}{f' ({place})' if place else ''}: {item.quote}")
    return "\n".join(lines)


def _document(index: int, documents: tuple[str, ...]) -> str:
    return documents[index] if index < len(documents) else str(index)
