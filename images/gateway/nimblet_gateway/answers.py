# SPDX-License-Identifier: Apache-2.0
"""Answers as clients get them, in OpenAI's shapes: whole, or as a stream's chunks. Pure.

Clients drop fields they don't know, so that citations come three times: as `[n]` in the text, as the message's
`annotations`, and in full as `citations`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from nimblet_gateway.config import Grounding
from nimblet_gateway.events import Ended, Event, Mark, Record, Text, ToolCalls

Json = dict[str, JsonValue]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What all parts of one answer share."""

    id: str
    created: int
    model: str
    grounding: Grounding
    include_usage: bool = False

    def chunk(self, choices: list[JsonValue]) -> Json:
        """Return a chunk."""
        head: Json = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        return {**head, "usage": None} if self.include_usage else head

    def opening(self, choice: int) -> Json:
        """Return an answer's first chunk."""
        return self.chunk(
            [{"index": choice, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
        )

    def event(self, event: Event, record: Record) -> Json:
        """Return the chunk of an event. An end carries what is known of the answer as a whole."""
        if isinstance(event, Ended):
            ending = self.chunk([{"index": event.choice, "delta": {}, "finish_reason": event.reason}])
            return {**ending, **_extension(record, self.grounding)}
        delta: Json
        if isinstance(event, ToolCalls):
            delta = {"tool_calls": list(event.calls)}
            return self.chunk([{"index": event.choice, "delta": delta, "finish_reason": None}])
        delta = {"content": event.text}
        if event.marks:
            delta["annotations"] = [annotation(item) for item in event.marks]
        choice: Json = {"index": event.choice, "delta": delta, "finish_reason": None}
        if event.logprobs is not None:
            choice["logprobs"] = event.logprobs
        return self.chunk([choice])

    def usage(self, record: Record) -> Json:
        """Return the last chunk of who asked for it."""
        return {**self.chunk([]), "usage": _usage(record)}

    def whole(self, events: Sequence[Event], record: Record) -> Json:
        """Return the answer in one."""
        indices = sorted({event.choice for event in events}) or [0]
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [_choice([event for event in events if event.choice == index], index) for index in indices],
            "usage": _usage(record),
            **_extension(record, self.grounding),
        }


def annotation(mark: Mark) -> JsonValue:
    """Return OpenAI's annotation: of a web page where the document is one, else of a file."""
    citation = mark.citation
    place: Json = {
        "start_index": mark.start_index,
        "end_index": mark.end_index,
        "title": citation.title or citation.document,
    }
    if citation.document.startswith(("https://", "http://")):
        return {"type": "url_citation", "url_citation": {**place, "url": citation.document}}
    file: Json = {"file_id": citation.id, "filename": citation.document, "quote": citation.quote}
    return {"type": "file_citation", "file_citation": {**place, **file}}


def _usage(record: Record) -> JsonValue:
    return {
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "total_tokens": record.prompt_tokens + record.completion_tokens,
    }


def _extension(record: Record, grounding: Grounding) -> Json:
    citations: list[JsonValue] = [item.model_dump(mode="json", by_alias=True) for item in record.citations]
    indexes: list[JsonValue] = [item.model_dump(mode="json", exclude_none=True) for item in record.indexes]
    return {
        "citations": citations,
        "nimblet": {
            "grounding": grounding.value,
            "refusal": record.refusal,
            "model": record.model,
            "fallback": record.is_fallback,
            "indexes": indexes,
            "passages": list(record.shown),
            "quote": record.is_quote,
            "sentences": {"supported": record.supported, "unsupported": record.unsupported},
        },
    }


def _choice(events: Sequence[Event], index: int) -> JsonValue:
    texts = [event for event in events if isinstance(event, Text)]
    calls = joined_calls([call for event in events if isinstance(event, ToolCalls) for call in event.calls])
    content = "".join(event.text for event in texts)
    message: Json = {"role": "assistant", "content": content if content or not calls else None, "refusal": None}
    annotations = [annotation(item) for event in texts for item in event.marks]
    if annotations:
        message["annotations"] = annotations
    if calls:
        message["tool_calls"] = [*calls]
    reasons = [event.reason for event in events if isinstance(event, Ended)]
    return {
        "index": index,
        "message": message,
        "finish_reason": reasons[-1] if reasons else "stop",
        "logprobs": _logprobs([event.logprobs for event in texts]),
    }


def joined_calls(parts: Sequence[Mapping[str, JsonValue]]) -> list[Json]:
    """Return calls put together from their parts: strings grow, everything else is set once."""
    calls: dict[JsonValue, Json] = {}
    for part in parts:
        call = calls.setdefault(part.get("index", 0), {})
        for name, value in part.items():
            if name != "index":
                call[name] = _grown(call.get(name), value)
    return list(calls.values())


def _grown(old: JsonValue, new: JsonValue) -> JsonValue:
    if isinstance(old, dict) and isinstance(new, dict):
        joined = {name: f"{old.get(name) or ''}{value}" for name, value in new.items() if isinstance(value, str)}
        return {**old, **new, **joined}
    return new if new is not None else old


def _logprobs(parts: Sequence[JsonValue]) -> JsonValue:
    content: list[JsonValue] = []
    for part in parts:
        found = part.get("content") if isinstance(part, dict) else None
        content += found if isinstance(found, list) else []
    return {"content": content} if content else None
