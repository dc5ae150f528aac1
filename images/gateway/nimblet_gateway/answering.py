# SPDX-License-Identifier: Apache-2.0
"""Makes an answer: guard, retrieval, prompt, model, check. Yields what may be read, in order; knows no HTTP.

With `Required` and `Preferred` a sentence leaves only when it was checked; with a guard nothing leaves before the
whole answer was judged.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from nimblet_gateway.answers import joined_calls
from nimblet_gateway.chat import ChatRequest, Message, parameters
from nimblet_gateway.config import GatewayConfig, Grounding
from nimblet_gateway.conversation import compared, questions
from nimblet_gateway.errors import ApiError, too_long, unavailable
from nimblet_gateway.events import Ended, Event, Record, Text, ToolCalls
from nimblet_gateway.generation import Generator, Wanted
from nimblet_gateway.grounded import Checker, Planner, Prompted, relevant
from nimblet_gateway.grounding.answer import SMALL_MODEL
from nimblet_gateway.guard import TEXT_TOO_LONG, Guard, Judged
from nimblet_gateway.health import Health
from nimblet_gateway.keys import Caller
from nimblet_gateway.model import Choice, Chunk
from nimblet_gateway.passage import Passage
from nimblet_gateway.search import Indexes, Results, Search
from nimblet_gateway.telemetry import Metrics, Trace
from nimblet_gateway.think import ThinkFilter
from nimblet_gateway.web import Failed

NOTHING_RELEVANT: Final = "I can't answer that: the indexed documents hold nothing relevant to it."
NOT_SUPPORTED: Final = "I can't answer that: the indexed documents don't support an answer."
BLOCKED: Final = "I can't help with that."


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request, by whom, and where in a trace."""

    request: ChatRequest
    caller: Caller
    trace: Trace


@dataclass(frozen=True, kw_only=True)
class Answering:
    """An assistant."""

    config: GatewayConfig
    generator: Generator
    indexes: Indexes
    guard: Guard | None
    health: Health
    metrics: Metrics

    async def answer(self, ask: Ask, record: Record) -> AsyncGenerator[Event, None]:
        """Yield the answer's events and fill its record. ApiError ends it."""
        if not await self._allowed(ask):
            async for event in self._refuse("BlockedQuestion", BLOCKED, record, ending="content_filter"):
                yield event
            return
        if self.guard is None:
            async with aclosing(self._answer(ask, record)) as events:
                async for event in events:
                    yield event
            return
        async with aclosing(self._answer(ask, record)) as events:
            held = [event async for event in events]
        if not await self._allowed(ask, answer=held):
            record.citations = ()
            async for event in self._refuse("BlockedAnswer", BLOCKED, record, ending="content_filter"):
                yield event
            return
        for event in held:
            yield event

    async def _answer(self, ask: Ask, record: Record) -> AsyncGenerator[Event, None]:
        grounding, limit = self.config.grounding, self.config.limits.max_tokens
        asked = questions(ask.request.messages)
        passages = await self._relevant(ask, asked, record)
        if not passages and grounding is Grounding.REQUIRED:
            async for event in self._refuse("NothingRelevant", NOTHING_RELEVANT, record):
                yield event
            return
        wanted = Wanted(
            planner=Planner(
                messages=ask.request.messages,
                passages=passages,
                most=self.config.retrieval.max_passages,
                system=self.config.system_prompt,
            ),
            needs_passages=grounding is Grounding.REQUIRED,
            parameters=parameters(ask.request, grounding),
            answer_tokens=min(ask.request.answer_tokens or limit, limit),
        )
        async with self.generator.answer(wanted, record, ask.trace) as (prompted, chunks):
            record.shown = tuple(passage.id for passage in prompted.shown)
            counted = _counted(chunks, record)
            if grounding is Grounding.OFF or ask.request.has_tools:
                events = _unchecked(counted)
            else:
                events = self._checked(counted, prompted, asked, record)
            async with aclosing(events):
                async for event in events:
                    yield event

    async def _relevant(self, ask: Ask, asked: Sequence[str], record: Record) -> tuple[Passage, ...]:
        """Return the passages to answer from.

        None are looked for where the model may call tools: a document's words must not reach them; and none
        where nothing is asked, as in a message without a word.
        """
        if ask.request.has_tools or not asked:
            return ()
        search = Search(questions=asked, top_k=self.config.retrieval.top_k, access=ask.caller.access)
        found = await self._retrieve(search, record, ask.trace)
        if self.config.grounding is Grounding.OFF:
            return found.passages
        return relevant(
            asked, found.passages, threshold=self.config.retrieval.threshold, calibrated=found.thresholds
        )

    async def _retrieve(self, search: Search, record: Record, trace: Trace) -> Results:
        try:
            results = await self.indexes.find(search, trace)
        except ApiError:
            if self.config.grounding is Grounding.REQUIRED:
                raise
            record.indexes = self.indexes.reports()
            return Results(passages=(), indexes=record.indexes)
        record.indexes = results.indexes
        return results

    async def _checked(
        self, chunks: AsyncIterator[Chunk], used: Prompted, asked: Sequence[str], record: Record
    ) -> AsyncGenerator[Event, None]:
        """Release sentence by sentence. Nothing released is a refusal."""
        required = self.config.grounding is Grounding.REQUIRED
        checker = Checker(
            passages=used.shown,
            question=compared(asked),
            keeps_unsupported=not required,
            # a follow-up's own words say too little to find its sentence by
            agreeing=len(asked) == 1 and self._needs_agreement(record),
        )
        thoughts, released, ending = ThinkFilter(), False, "stop"
        async for chunk in chunks:
            for choice in chunk.choices[:1]:
                ending = choice.finish_reason or ending
                for text in checker.feed(thoughts.feed(choice.delta.content or "")):
                    released = True
                    yield text
        for text in checker.feed(thoughts.finish(), ended=True):
            released = True
            yield text
        record.citations = tuple(checker.citations)
        record.supported, record.unsupported = checker.supported, checker.unsupported
        self.metrics.sentences.labels("supported").inc(checker.supported)
        self.metrics.sentences.labels("dropped" if required else "kept").inc(checker.unsupported)
        quoted = checker.quoted() if required and not released and self.config.retrieval.quote_instead else None
        if quoted is not None:
            record.is_quote, record.citations, ending = True, tuple(checker.citations), "stop"
            yield quoted
        if released or quoted is not None:
            yield Ended(reason=ending)
            return
        async for event in self._refuse("NotSupported", NOT_SUPPORTED, record):
            yield event

    def _needs_agreement(self, record: Record) -> bool:
        """Tell whether the model is too small to be believed where the documents' own sentence could stand."""
        parameters = self.health.state("fallback" if record.is_fallback else "model").parameters
        quotes = self.config.grounding is Grounding.REQUIRED and self.config.retrieval.quote_instead
        return quotes and parameters is not None and parameters < SMALL_MODEL

    async def _allowed(self, ask: Ask, *, answer: Sequence[Event] | None = None) -> bool:
        """Have the guard judge what was asked, or with `answer` what would be released."""
        if self.guard is None:
            return True
        asked = [{"role": _guard_role(message), "content": _all_of(message)} for message in ask.request.messages]
        judged = Judged(
            messages=asked if answer is None else [*asked, *_said(answer)],
            tools=_offered(ask.request),
            is_answer=answer is not None,
        )
        try:
            with ask.trace.span("guard") as here:
                allowed = await self.guard.allows(judged, here.headers())
        except Failed as failed:
            if failed.reason == TEXT_TOO_LONG:  # no client may make the guard count as ill
                raise too_long(failed.message) from failed
            self.health.failed("guard", failed)
            self.metrics.failures.labels("guard", failed.reason).inc()
            raise unavailable(f"no verdict of the guard: {failed.message}", code="guard_unavailable") from failed
        self.health.succeeded("guard")
        return allowed

    async def _refuse(
        self, reason: str, text: str, record: Record, *, ending: str = "stop"
    ) -> AsyncGenerator[Event, None]:
        record.refusal = reason
        self.metrics.refusals.labels(reason).inc()
        yield Text(text=text)
        yield Ended(reason=ending)


def _guard_role(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def _all_of(message: Message) -> str:
    """Return a message's text and the calls in it: all that the client says and the model reads."""
    calls = [f"{call.function.name} {call.function.arguments}" for call in message.tool_calls or ()]
    return "\n".join([*([message.text] if message.text else []), *calls])


def _offered(request: ChatRequest) -> list[str]:
    """Return the tools as models are shown them: their descriptions and schemas are the client's words, too."""
    tools = [tool.model_dump(mode="json", exclude_none=True) for tool in request.tools or ()]
    return [json.dumps(tool, ensure_ascii=False) for tool in tools]


def _said(events: Sequence[Event]) -> list[dict[str, str]]:
    """Return everything that would be released, calls of tools too, as the last turn of a conversation.

    Each answer, and each call's arguments, in one piece: of several answers the pieces come by turns.
    """
    parts: list[str] = []
    for choice in sorted({event.choice for event in events}):
        own = [event for event in events if event.choice == choice]
        parts.append("".join(event.text for event in own if isinstance(event, Text)))
        for call in joined_calls([call for event in own if isinstance(event, ToolCalls) for call in event.calls]):
            function = call.get("function")
            parts.append(" ".join(map(str, function.values())) if isinstance(function, dict) else str(call))
    return [{"role": "assistant", "content": "\n".join(part for part in parts if part)}]


async def _counted(chunks: AsyncIterator[Chunk], record: Record) -> AsyncIterator[Chunk]:
    """Count tokens as they come; where the model tells the sum, that is it. What nobody read was paid for too."""
    async for chunk in chunks:
        record.completion_tokens += sum(1 for choice in chunk.choices if choice.delta.has_token)
        if chunk.usage is not None:
            record.prompt_tokens = chunk.usage.prompt_tokens
            record.completion_tokens = chunk.usage.completion_tokens
        yield chunk


@dataclass(kw_only=True)
class _Spoken:
    """One answer without its thoughts, and without their words in its logprobs: those were judged by nobody."""

    thoughts: ThinkFilter = field(default_factory=ThinkFilter)
    held: list[JsonValue] = field(default_factory=list)
    """Logprobs of what may yet turn out to begin a thought."""

    def feed(self, choice: Choice) -> Text | None:
        """Return what may be read by now, if anything."""
        thought = self.thoughts.thinking or choice.delta.is_thought
        text = self.thoughts.feed(choice.delta.content or "")
        if self.thoughts.thinking:
            self.held.clear()
        elif not thought and isinstance(choice.logprobs, dict):
            found = choice.logprobs.get("content")
            self.held += found if isinstance(found, list) else []
        if choice.finish_reason is not None:
            text += self.thoughts.finish()
        if not text and (choice.finish_reason is None or not self.held):
            return None
        logprobs: JsonValue = {"content": [*self.held]} if self.held else None
        self.held.clear()
        return Text(text=text, choice=choice.index, logprobs=logprobs)


async def _unchecked(chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Event, None]:
    """Pass on what the model says, its thoughts apart."""
    spoken: dict[int, _Spoken] = {}
    async for chunk in chunks:
        for choice in chunk.choices:
            text = spoken.setdefault(choice.index, _Spoken()).feed(choice)
            if text is not None:
                yield text
            if choice.delta.tool_calls:
                yield ToolCalls(calls=choice.delta.tool_calls, choice=choice.index)
            if choice.finish_reason is not None:
                yield Ended(reason=choice.finish_reason, choice=choice.index)
