# SPDX-License-Identifier: Apache-2.0
"""Lets a guard model judge questions and answers. Fails closed: what was not judged safe is not let through."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from nimblet_gateway.config import GuardConfig
from nimblet_gateway.web import Asking, Client, Failed, bearer, merged, status_failure

GUARD_SECONDS: Final = 30.0
VERDICT_TOKENS: Final = 32
SAFE: Final = re.compile(r"\s*(?:safety\s*:\s*)?safe\b", re.IGNORECASE)
"""How guard models say yes: Llama Guard 3's first line, Qwen3Guard's `Safety: Safe` (their model cards)."""
TOO_LONG: Final = (b"too large to process", b"exceed_context_size_error", b"context_length_exceeded")
"""How llama.cpp (the first with HTTP 500, of a classifier) and servers like OpenAI's say that it does not fit."""
TEXT_TOO_LONG: Final = "TextTooLong"
"""Of what is to be judged, not of the guard's state."""
UNSAFE: Final = re.compile(r"\s*(?:safety\s*:\s*)?(?:unsafe|controversial)\b", re.IGNORECASE)


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Message(_Loose):
    content: str | None = None


class _Choice(_Loose):
    message: _Message


class _Completion(_Loose):
    choices: tuple[_Choice, ...]


class _Vector(_Loose):
    embedding: tuple[float, ...]


class _Vectors(_Loose):
    data: tuple[_Vector, ...]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is to be judged: a conversation, or with `is_answer` its last message; and tools beside it, as text."""

    messages: Sequence[Mapping[str, str]]
    tools: Sequence[str] = ()
    is_answer: bool = False

    def texts(self) -> list[str]:
        """Return each text by itself; of an answer no more than it: what was asked was judged before."""
        messages = [message["content"] for message in self.messages]
        texts = messages[-1:] if self.is_answer else [*messages, *self.tools]
        return [text for text in dict.fromkeys(texts) if text.strip()] or [""]

    def conversation(self) -> list[dict[str, str]]:
        """Return a conversation with the tools in the user's last turn: guard models judge that above all.

        A turn of their own would break templates that want users and assistants by turns.
        """
        turns = [dict(message) for message in self.messages]
        last = max((number for number, turn in enumerate(turns) if turn["role"] == "user"), default=0)
        turns[last]["content"] = "\n".join([turns[last]["content"], *self.tools])
        return turns


@dataclass(frozen=True, kw_only=True)
class Guard:
    """One guard model."""

    client: Client
    config: GuardConfig

    @property
    def who(self) -> str:
        """Its name in messages."""
        return f"the guard {self.config.name}"

    async def allows(self, judged: Judged, trace: Mapping[str, str]) -> bool:
        """Tell whether it may pass. Failed without a verdict.

        A classifier sees no conversation: it judges each text, since all of them, earlier turns and tools too, are
        what the client says they are.
        """
        if self.config.task == "Classify":
            return await self._classified(judged.texts(), trace)
        body: dict[str, JsonValue] = {
            "model": self.config.name,
            "messages": [{**turn} for turn in judged.conversation()],
            "max_tokens": VERDICT_TOKENS,
            "temperature": 0,
        }
        content = await self._post("/chat/completions", body, trace)
        try:
            verdict = _Completion.model_validate_json(content).choices[0].message.content or ""
        except (ValidationError, IndexError) as error:
            raise self._not_understood() from error
        if SAFE.match(verdict):
            return True
        if UNSAFE.match(verdict):
            return False
        raise self._not_understood()

    async def _classified(self, texts: Sequence[str], trace: Mapping[str, str]) -> bool:
        body: dict[str, JsonValue] = {
            "model": self.config.name,
            "input": list(texts),
            "encoding_format": "float",
        }
        content = await self._post("/embeddings", body, trace)
        try:
            vectors = _Vectors.model_validate_json(content).data
        except ValidationError as error:
            raise self._not_understood() from error
        if len(vectors) != len(texts):
            raise self._not_understood()
        return all(self._passes(vector.embedding) for vector in vectors)

    def _passes(self, scores: Sequence[float]) -> bool:
        if len(scores) != len(self.config.labels) or not all(math.isfinite(score) for score in scores):
            raise self._not_understood()
        highest = max(scores)
        weights = [math.exp(score - highest) for score in scores]
        labelled = zip(self.config.labels, weights, strict=True)
        blocked = sum(weight for label, weight in labelled if label in self.config.blocked)
        return blocked / sum(weights) < self.config.threshold

    async def _post(self, path: str, body: Mapping[str, JsonValue], trace: Mapping[str, str]) -> bytes:
        headers = merged(bearer(self.config.key_file, who=self.who), trace, {"Content-Type": "application/json"})
        asking = Asking(
            url=f"{self.config.url}{path}",
            who=self.who,
            headers=headers,
            seconds=GUARD_SECONDS,
            body=json.dumps(body).encode(),
        )
        answer = await self.client.fetch(asking)
        if not answer.ok and any(words in answer.content for words in TOO_LONG):
            raise Failed(TEXT_TOO_LONG, f"{self.who} takes no text as long as this; send a shorter one", False)
        if not answer.ok:
            raise status_failure(answer.status, who=self.who)
        return answer.content

    def _not_understood(self) -> Failed:
        return Failed("NotUnderstood", f"{self.who} gave no verdict; is it a guard model for this task?", False)
