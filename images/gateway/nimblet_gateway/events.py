# SPDX-License-Identifier: Apache-2.0
"""What happens while an answer is made: the steps that become a stream or one body. Values only."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic.alias_generators import to_camel


class Citation(BaseModel):
    """A source of a sentence. `quote` occurs in the chunk, letter by letter, at the span given."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    number: int
    id: str
    index: str
    document: str
    chunk: int
    source: str
    title: str
    location: str
    score: float
    quote: str
    quote_start: int
    quote_end: int


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Where a citation's sentence stands in the answer, its `[n]` at the end."""

    citation: Citation
    start_index: int
    end_index: int


class IndexReport(BaseModel):
    """What became of asking an index."""

    model_config = ConfigDict(frozen=True)

    name: str
    ok: bool
    generation: str | None = None
    push: int | None = None
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Text:
    """A part of an answer that may be read, and what it cites."""

    text: str
    choice: int = 0
    marks: tuple[Mark, ...] = ()
    logprobs: JsonValue = None


@dataclass(frozen=True, kw_only=True)
class ToolCalls:
    """Parts of calls, as the model streamed them."""

    calls: tuple[dict[str, JsonValue], ...]
    choice: int = 0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """An answer is complete."""

    reason: str
    choice: int = 0


Event = Text | ToolCalls | Ended


@dataclass(kw_only=True)
class Record:
    """What is known of an answer beside its text; filled while it is made, whole when it has ended."""

    model: str = ""
    is_fallback: bool = False
    indexes: tuple[IndexReport, ...] = ()
    shown: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    refusal: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    supported: int = 0
    unsupported: int = 0
    is_quote: bool = False
    """Whether the answer is a sentence of the documents, since nothing of the model's was supported."""
