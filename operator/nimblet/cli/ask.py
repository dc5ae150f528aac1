# SPDX-License-Identifier: Apache-2.0
"""Puts one question to a served model: through the API server's proxy, or to a URL that the user gives."""

import base64
import binascii
import ssl
from dataclasses import dataclass, field

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from nimblet import names
from nimblet.cli.errors import CommandError
from nimblet.cli.live import Target
from nimblet.cluster.client import Client
from nimblet.cluster.login import Login
from nimblet.cluster.resources import SECRET
from nimblet.manifests.configuration import API_KEY

OK = 200
MAX_QUOTE = 300


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and for how long an answer may take."""

    text: str
    max_tokens: int
    timeout_seconds: float


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to send it: `headers` carry the credentials of whoever is on the way."""

    base_url: str
    headers: dict[str, str] = field(repr=False)
    tls: ssl.SSLContext | None = None


class Message(BaseModel):
    content: str | None = None


class Choice(BaseModel):
    message: Message


class Completion(BaseModel):
    """The part of a chat completion that is shown."""

    choices: list[Choice] = Field(min_length=1)


async def read_api_key(client: Client, target: Target) -> str:
    """Return the endpoint's API key out of its Secret."""
    name = names.api_key(target.name)
    body = await client.get(SECRET, namespace=target.namespace, name=name)
    if body is None:
        raise CommandError(
            f"expected Secret {name} in namespace {target.namespace}, found none; "
            f"is the model there? see `nimblet status {target.name} -n {target.namespace}`"
        )
    encoded = (body.get("data") or {}).get(API_KEY, "")
    try:
        return base64.b64decode(encoded, validate=True).decode().splitlines()[0]
    except (binascii.Error, UnicodeDecodeError, IndexError) as error:
        raise CommandError(
            f"expected a key under {API_KEY!r} in Secret {name}, found none that can be read"
        ) from error


def direct_endpoint(url: str, *, api_key: str) -> Endpoint:
    """Return the endpoint at a URL such as http://127.0.0.1:8080 or …/v1."""
    base = url.rstrip("/").removesuffix("/v1")
    return Endpoint(base_url=base, headers={"Authorization": f"Bearer {api_key}"})


def proxied_endpoint(login: Login, target: Target, *, api_key: str) -> Endpoint:
    """Return the endpoint through the API server's service proxy.

    The API server uses up the Authorization header for itself, so the key goes in X-Api-Key, which llama.cpp's
    server reads too (tools/server/server-http.cpp of b11434).
    """
    service = f"http:{names.server(target.name)}:http"
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
    body = {
        "messages": [{"role": "user", "content": question.text}],
        "max_tokens": question.max_tokens,
        "stream": False,
    }
    timeout = aiohttp.ClientTimeout(total=question.timeout_seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                f"{endpoint.base_url}/v1/chat/completions",
                json=body,
                headers=endpoint.headers,
                ssl=endpoint.tls if endpoint.tls is not None else True,
                allow_redirects=False,
            ) as response,
        ):
            text = await response.text()
            status = response.status
    except TimeoutError as error:
        raise CommandError(
            f"expected an answer within {question.timeout_seconds:g} s, found none; give a longer --timeout"
        ) from error
    except aiohttp.ClientError as error:
        raise CommandError(f"expected a model at {endpoint.base_url}, found: {error}; is it Serving?") from error
    if status != OK:
        raise CommandError(f"expected HTTP 200 from the model, found {status}: {text[:MAX_QUOTE]}")
    return _answer(text)


def _answer(text: str) -> str:
    try:
        return Completion.model_validate_json(text).choices[0].message.content or ""
    except ValidationError as error:
        raise CommandError(f"expected a chat completion, found: {text[:MAX_QUOTE]}") from error
