# SPDX-License-Identifier: Apache-2.0
"""Asks a chat model, always as a stream: whoever stops reading ends the model's work too. Logs no text."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from nimblet_gateway.config import ModelConfig
from nimblet_gateway.web import CONNECT_SECONDS, Asking, Client, Failed, Stream, bearer, merged, status_failure

MAX_LINE_BYTES: Final = 4 * 2**20
MAX_ERROR_BYTES: Final = 64 * 2**10
TOO_LONG: Final = ("exceed_context_size_error", "context_length_exceeded")
"""How llama.cpp and OpenAI-like servers name a prompt that does not fit."""
PROBE_SECONDS: Final = 3.0
REQUEST_REFUSED: Final = "RequestRefused"
"""HTTP 400: of the request, not of the model's state."""
REQUEST_FAILED: Final = "RequestFailed"
"""HTTP 500 with an error as the server itself tells it. llama.cpp answers so too where its chat template refuses a
conversation: whether the model is ill, nobody knows until it is asked something else."""
HEADERS: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Usage(_Loose):
    """Tokens of an answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Delta(_Loose):
    """What a chunk adds."""

    content: str | None = None
    tool_calls: tuple[dict[str, JsonValue], ...] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """A thought, as llama.cpp tells it apart, and as vLLM does."""

    @property
    def is_thought(self) -> bool:
        """Whether it is told apart from the answer."""
        return bool(self.reasoning_content or self.reasoning)

    @property
    def has_token(self) -> bool:
        """Whether the model made something for it."""
        return bool(self.content or self.tool_calls or self.is_thought)


class Choice(_Loose):
    """One of the answers that grow."""

    index: int = 0
    delta: Delta = Delta()
    finish_reason: str | None = None
    logprobs: JsonValue = None


class _ErrorBody(_Loose):
    type: str | None = None
    code: str | int | None = None
    message: str = ""


class Chunk(_Loose):
    """An event of the stream."""

    choices: tuple[Choice, ...] = ()
    usage: Usage | None = None
    error: _ErrorBody | str | None = None


class _Error(_Loose):
    error: _ErrorBody | str


class _Tokens(_Loose):
    tokens: tuple[int, ...]


class _Prompt(_Loose):
    prompt: str


class _Meta(_Loose):
    n_params: int | None = None


class _Listed(_Loose):
    meta: _Meta | None = None


class _Models(_Loose):
    data: tuple[_Listed, ...] = ()


class PromptTooLong(Exception):  # noqa: N818 - what happened
    """The model says that the prompt does not fit its context."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One chat model."""

    client: Client
    config: ModelConfig
    seconds: float
    """How long nothing may come."""

    @property
    def who(self) -> str:
        """Its name in messages."""
        return f"the model {self.config.name}"

    @asynccontextmanager
    async def chat(
        self,
        messages: Sequence[Mapping[str, JsonValue]],
        parameters: Mapping[str, JsonValue],
        trace: Mapping[str, str],
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Ask; yield the chunks of the answer. Failed, PromptTooLong before the first and in between."""
        body = {
            **parameters,
            "model": self.config.name,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.config.request,
        }
        headers = merged(bearer(self.config.key_file, who=self.who), trace, HEADERS)
        content = json.dumps(body, ensure_ascii=False).encode()
        url = f"{self.config.url}/chat/completions"
        asking = Asking(url=url, who=self.who, headers=headers, seconds=self.seconds, body=content)
        async with self.client.stream(asking) as answer:
            if answer.status != HTTPStatus.OK:
                raise await self._refusal(answer)
            async with aclosing(self._chunks(answer)) as chunks:
                yield chunks

    async def count(self, messages: Sequence[Mapping[str, JsonValue]]) -> int | None:
        """Return the exact tokens of a prompt by the model's own template and tokenizer; None where it has none.

        The two addresses are llama.cpp's, beside /v1.
        """
        try:
            template = await self._post("/apply-template", {"messages": [dict(message) for message in messages]})
            if template is None:
                return None
            prompt = _Prompt.model_validate_json(template).prompt
            tokens = await self._post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})
            return len(_Tokens.model_validate_json(tokens).tokens) if tokens is not None else None
        except ValidationError:
            return None

    async def _post(self, path: str, body: Mapping[str, JsonValue]) -> bytes | None:
        asking = Asking(
            url=self.config.url.removesuffix("/v1") + path,
            who=self.who,
            headers=merged(bearer(self.config.key_file, who=self.who), HEADERS),
            seconds=CONNECT_SECONDS,
            body=json.dumps(body).encode(),
        )
        try:
            answer = await self.client.fetch(asking)
        except Failed:
            return None  # an estimate does instead, and the model itself has the last word
        return answer.content if answer.ok else None

    async def _refusal(self, answer: Stream) -> Exception:
        body = await answer.most(MAX_ERROR_BYTES)
        try:
            error = _Error.model_validate_json(body).error
        except ValidationError:
            return status_failure(answer.status, who=self.who)
        if _is_too_long(error):
            return PromptTooLong()
        if answer.status == HTTPStatus.BAD_REQUEST:
            # what the server says of it may quote the prompt: its kind alone is told
            kind = error.type if isinstance(error, _ErrorBody) and error.type is not None else "an error"
            return Failed(REQUEST_REFUSED, f"{self.who} refused the request with HTTP 400 ({kind[:100]})", False)
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return Failed(REQUEST_FAILED, f"{self.who} failed at the request with HTTP 500", True)
        return status_failure(answer.status, who=self.who)

    async def _chunks(self, answer: Stream) -> AsyncGenerator[Chunk, None]:
        ended = False
        async for line in _lines(answer):
            name, _, value = line.partition(b":")
            if name == b"error":
                raise Failed("Unavailable", f"{self.who} broke off with an error", True)
            if name != b"data":
                continue
            data = value.strip()
            if data == b"[DONE]":
                await answer.rest()
                return
            try:
                chunk = Chunk.model_validate_json(data)
            except ValidationError as error:
                message = f"{self.who} sent what is not a chunk of an answer; check its address"
                raise Failed("NotUnderstood", message, False) from error
            if chunk.error is not None:
                if _is_too_long(chunk.error):
                    raise PromptTooLong
                raise Failed("Unavailable", f"{self.who} broke off with an error", True)
            ended = ended or any(choice.finish_reason is not None for choice in chunk.choices)
            yield chunk
        if not ended:
            raise Failed("BrokenOff", f"{self.who} broke off before its answer was complete", True)


async def probe(client: Client, url: str, key_file: Path | None, *, who: str) -> int | None:
    """Ask a model's server for its list of models, its cheapest question. Failed says why it can't be used.

    Return the model's number of weights where the server tells it, as llama.cpp does.
    """
    asking = Asking(url=f"{url}/models", who=who, headers=bearer(key_file, who=who), seconds=PROBE_SECONDS)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            answer = await client.fetch(asking)
    except TimeoutError as error:
        raise Failed("TimedOut", f"{who} did not answer within {PROBE_SECONDS:g} s", transient=True) from error
    if not answer.ok:
        raise status_failure(answer.status, who=who)
    try:
        listed = _Models.model_validate_json(answer.content).data
    except ValidationError:
        return None  # it answers; what it lists is its own
    return next((item.meta.n_params for item in listed if item.meta is not None), None)


def _is_too_long(error: _ErrorBody | str) -> bool:
    return isinstance(error, _ErrorBody) and (error.type in TOO_LONG or error.code in TOO_LONG)


async def _lines(answer: Stream) -> AsyncIterator[bytes]:
    rest = b""
    async for part in answer.parts():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > MAX_LINE_BYTES:
            raise Failed("NotUnderstood", f"{answer.who} sent a line of more than {MAX_LINE_BYTES} bytes", False)
    if rest:
        yield rest
