# SPDX-License-Identifier: Apache-2.0
"""What a pod is asked for the sake of an observation, by task, and what its answer proves. Pure; no HTTP here.

The smallest question of each task; vectors come as base64, so that the widest fits the bound of a body.
"""

import base64
import binascii
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, Protocol

from pydantic import BaseModel, Field, ValidationError

from nimblet.api.compactmodel import Task
from nimblet.plan.artifact import parse_artifact
from nimblet.plan.facts import Answer, ArtifactFacts, Observation
from nimblet.plan.task import PROOF, answer_width

CHAT_PATH: Final = "/v1/chat/completions"
EMBEDDINGS_PATH: Final = "/v1/embeddings"
RERANK_PATH: Final = "/v1/rerank"
PATHS: Final[Mapping[Task, str]] = {
    "Chat": CHAT_PATH,
    "Embedding": EMBEDDINGS_PATH,
    "Rerank": RERANK_PATH,
    "Classify": EMBEDDINGS_PATH,
}
_VECTOR: Final = {"input": "Hello", "encoding_format": "base64"}
BODIES: Final[Mapping[Task, Mapping[str, object]]] = {
    "Chat": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "stream": False},
    "Embedding": _VECTOR,
    "Rerank": {"query": "Hello", "documents": ["Hello"]},
    "Classify": _VECTOR,
}
_FLOAT_BYTES: Final = 4


class Inquiry(Protocol):
    """What the pods of one resource are asked, and what their answers mean."""

    @property
    def method(self) -> Literal["GET", "POST"]:
        """How it is asked."""

    @property
    def path(self) -> str:
        """Where it is asked."""

    @property
    def body(self) -> Mapping[str, object] | None:
        """What is sent along."""

    @property
    def proof(self) -> str:
        """What an answer must hold, for messages."""

    def judge(self, body: bytes, *, source_hash: str) -> Observation:
        """Return what the body of a good answer says; it is not quoted."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What the pods of one model are asked; `widths` holds the numbers expected in a vector, by source hash."""

    task: Task = "Chat"
    widths: Mapping[str, int] = field(default_factory=dict)
    method: Literal["POST"] = "POST"

    @property
    def path(self) -> str:
        """Where it is asked."""
        return PATHS[self.task]

    @property
    def body(self) -> Mapping[str, object]:
        """What is sent along."""
        return BODIES[self.task]

    @property
    def proof(self) -> str:
        """What an answer must hold, for messages."""
        return PROOF[self.task]

    def judge(self, body: bytes, *, source_hash: str) -> Observation:
        """Return whether the body of a good answer holds the proof."""
        flaw = self.flaw(body, source_hash=source_hash)
        if flaw is not None:
            return Observation(answer=Answer.FAILED, detail=f"HTTP 200 {flaw}")
        return Observation(answer=Answer.ANSWERED)

    def flaw(self, body: bytes, *, source_hash: str) -> str | None:
        """Return what is wrong with the body of a good answer, or None."""
        width = self.widths.get(source_hash)
        try:
            if self.task == "Chat":
                return _completion_flaw(body)
            if self.task == "Rerank":
                Ranking.model_validate_json(body)  # to parse is the proof: one finite score
                return None
            return _vector_flaw(body, width=width, may_be_zero=self.task == "Classify")
        except ValidationError:
            return f"without a {'chat completion' if self.task == 'Chat' else self.proof}"


def questions(task: Task, artifacts: Iterable[ArtifactFacts]) -> Questions:
    """Return what to ask the pods, which may be of any of these artifacts."""
    if task in ("Chat", "Rerank"):
        return Questions(task=task)
    known = ((item.source_hash, parse_artifact(item.text)) for item in artifacts)
    widths = {source: answer_width(task, found.header) or 0 for source, found in known if found is not None}
    return Questions(task=task, widths=widths)


class Usage(BaseModel):
    completion_tokens: int = 0


class Completion(BaseModel):
    """The part of a chat completion that proves a token."""

    choices: list[object] = Field(min_length=1)
    usage: Usage


class Embedding(BaseModel):
    embedding: str


class Embeddings(BaseModel):
    """The part of an embeddings answer that holds the vector."""

    data: list[Embedding] = Field(min_length=1)


class Ranked(BaseModel):
    relevance_score: Annotated[float, Field(allow_inf_nan=False)]


class Ranking(BaseModel):
    """The part of a rerank answer that holds the score."""

    results: list[Ranked] = Field(min_length=1)


def _completion_flaw(body: bytes) -> str | None:
    completion = Completion.model_validate_json(body)
    return "without a token" if completion.usage.completion_tokens < 1 else None


def _vector_flaw(body: bytes, *, width: int | None, may_be_zero: bool) -> str | None:
    vector = _numbers(Embeddings.model_validate_json(body).data[0].embedding)
    if not vector:
        return "without a vector"
    if not all(math.isfinite(number) for number in vector):
        return "with a vector that is not of finite numbers"
    if width and len(vector) != width:
        return f"with {len(vector)} numbers where {width} were expected"
    if not may_be_zero and not any(vector):
        return "with a vector of length zero"
    return None


def _numbers(text: str) -> tuple[float, ...]:
    """Return the little-endian floats in base64; none where it is not that."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ()
    if len(raw) % _FLOAT_BYTES:
        return ()
    return struct.unpack(f"<{len(raw) // _FLOAT_BYTES}f", raw)
