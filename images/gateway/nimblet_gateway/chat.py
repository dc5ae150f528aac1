# SPDX-License-Identifier: Apache-2.0
"""Chat requests as clients send them, and what of them goes on to a model. Parsing and shapes only.

What is not named here is dropped: parameters of a server behind the gateway (grammar, id_slot, n_predict, lora,
cache_prompt and whatever comes to be) are not the clients' to set.
"""

from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    model_validator,
)

from nimblet_gateway.config import Grounding
from nimblet_gateway.errors import invalid

MAX_MESSAGES: Final = 1000
MAX_TEXT: Final = 1_000_000

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Role = Literal["system", "developer", "user", "assistant", "tool"]


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: object) -> object:
        """Take null for absent: clients in languages without optional fields send it everywhere."""
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if value is not None}
        return given


class TextPart(_Loose):
    """A part of a message; other kinds than text are refused by name."""

    type: Literal["text"]
    text: Text


class FunctionCall(_Loose):
    """What a tool call calls."""

    name: Annotated[str, StringConstraints(max_length=200)]
    arguments: Text = ""


class ToolCall(_Loose):
    """A call that the model made in an earlier turn."""

    id: Annotated[str, StringConstraints(max_length=200)]
    type: Literal["function"] = "function"
    function: FunctionCall


def _joined(content: object) -> object:
    """Accept a refusal part, which clients send back, as text."""
    if isinstance(content, list):
        return [
            {"type": "text", "text": part.get("refusal") or ""}
            if isinstance(part, dict) and part.get("type") == "refusal"
            else part
            for part in content
        ]
    return content


def _form(content: object) -> str:
    """Tell parts from a text, so that what is wrong with a part is told of the part."""
    return "parts" if isinstance(content, list | tuple) else "text"


class Message(_Loose):
    """One message of the conversation."""

    role: Role
    content: Annotated[
        Annotated[Text, Tag("text")] | Annotated[tuple[TextPart, ...], Tag("parts")],
        Discriminator(_form),
        BeforeValidator(_joined),
    ] = ""
    tool_calls: Annotated[tuple[ToolCall, ...] | None, Field(max_length=100)] = None
    tool_call_id: Annotated[str, StringConstraints(max_length=200)] | None = None

    @property
    def text(self) -> str:
        """The message as one text."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class StreamOptions(_Loose):
    """What a stream ends with."""

    include_usage: bool = False


class ResponseFormat(_Loose):
    """Text, or JSON."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, JsonValue] | None = None


class ToolFunction(BaseModel):
    """A function that the model may call; its parameters' schema is the server's to read."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Tool(BaseModel):
    """What the model may call. Servers fail at what has another shape."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: Literal["function"]
    function: ToolFunction


class ChatRequest(_Loose):
    """POST /v1/chat/completions."""

    model: Annotated[str, StringConstraints(max_length=200)]
    messages: tuple[Message, ...] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    n: int | None = Field(default=None, ge=1, le=8)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = None
    stop: str | Annotated[tuple[str, ...], Field(max_length=16)] | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: tuple[Tool, ...] | None = Field(default=None, max_length=128)
    tool_choice: JsonValue = None
    parallel_tool_calls: bool | None = None

    @property
    def answer_tokens(self) -> int | None:
        """How long the answer may be, by whichever name the client knows."""
        asked = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return min(asked, default=None)

    @property
    def wants_json(self) -> bool:
        """Whether the answer is to be JSON."""
        return self.response_format is not None and self.response_format.type != "text"

    @property
    def has_tools(self) -> bool:
        """Whether tools are offered, or were called before."""
        return bool(self.tools) or any(item.role == "tool" or item.tool_calls for item in self.messages)


SAMPLING: Final = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed", "stop"}
)
"""Parameters that go on to a model whatever the grounding."""
UNCHECKED: Final = frozenset(
    {
        "n",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
    }
)
"""Parameters that go on only where answers are not checked."""


def check_allowed(request: ChatRequest, grounding: Grounding) -> None:
    """Raise ApiError 400 where a parameter would lead around the grounding, or has no meaning with it."""
    if all(message.role != "user" for message in request.messages):
        raise invalid("expected a message of the role user; found none", param="messages")
    if request.tools is None and request.tool_choice not in (None, "none", "auto"):
        raise invalid("tool_choice needs tools", param="tool_choice")
    if request.stop is not None and "" in ((request.stop,) if isinstance(request.stop, str) else request.stop):
        # it stands in every text: llama.cpp ends before the first token, vLLM refuses it in words of its own
        raise invalid("an empty sequence would end every answer at once; leave it out", param="stop")
    if grounding is Grounding.OFF:
        return
    if request.messages[-1].role not in ("user", "tool"):
        raise invalid("expected the last message to be the user's", param="messages")
    told = f"this assistant's answers are checked against its documents (grounding {grounding.value})"
    refused = {
        "n": request.n is not None and request.n > 1,
        "logprobs": bool(request.logprobs) or request.top_logprobs is not None,
        "response_format": request.wants_json,
    }
    if grounding is Grounding.REQUIRED:
        refused["tools"] = request.has_tools
    for name, found in refused.items():
        if found:
            raise invalid(f"{told}: {name} can't be used; leave it out", code="unsupported_parameter", param=name)


def parameters(request: ChatRequest, grounding: Grounding) -> dict[str, JsonValue]:
    """Return the parameters that go on to a model."""
    names = SAMPLING | UNCHECKED if grounding is Grounding.OFF or request.has_tools else SAMPLING
    return request.model_dump(mode="json", include=set(names), exclude_none=True)
