# SPDX-License-Identifier: Apache-2.0
"""Gets an answer's chunks from the model, or from the fallback where the model did not begin."""

import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from pydantic import JsonValue

from nimblet_gateway.errors import ApiError, broken, invalid, too_long, unavailable
from nimblet_gateway.events import Record
from nimblet_gateway.grounded import Planner, Prompted
from nimblet_gateway.health import Health
from nimblet_gateway.model import REQUEST_FAILED, REQUEST_REFUSED, Chunk, Model, PromptTooLong
from nimblet_gateway.telemetry import Metrics, Trace
from nimblet_gateway.web import Failed

BYTES_PER_TOKEN: Final = 2
"""Of the upper estimate: tokenizers need fewer tokens for any script."""
LIKELY_BYTES_PER_TOKEN: Final = 3
MARGIN: Final = 1.05
"""A part of a text may have more tokens a byte than the whole."""
COUNTS: Final = 3
TOKENS_PER_MESSAGE: Final = 16
"""What a template puts around a message, generously."""

Messages = tuple[dict[str, JsonValue], ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of a model, and how long the answer may be."""

    planner: Planner
    needs_passages: bool
    parameters: Mapping[str, JsonValue]
    answer_tokens: int


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A prompt that fits, and the room it leaves."""

    prompted: Prompted
    answer_tokens: int


@dataclass(frozen=True, kw_only=True)
class Generator:
    """The models of an assistant, in the order in which they are asked."""

    model: Model
    fallback: Model | None
    health: Health
    metrics: Metrics

    @asynccontextmanager
    async def answer(
        self, wanted: Wanted, record: Record, trace: Trace
    ) -> AsyncIterator[tuple[Prompted, AsyncIterator[Chunk]]]:
        """Yield the prompt and the chunks of its answer. ApiError says why there is none."""
        async with AsyncExitStack() as stack:
            try:
                begun = await self._begin(self.model, wanted, record, stack, trace)
            except Failed as failed:
                if self.fallback is None or failed.reason == REQUEST_REFUSED:
                    raise _api_error(failed) from failed
                self.metrics.fallbacks.inc()
                record.is_fallback = True
                try:
                    begun = await self._begin(self.fallback, wanted, record, stack, trace)
                except Failed as second:
                    raise _api_error(second) from second
            record.model = (self.fallback if record.is_fallback and self.fallback else self.model).config.name
            prompted, first, rest = begun
            try:
                yield prompted, _chained(first, rest)
            except Failed as failed:
                self._note("fallback" if record.is_fallback else "model", failed)
                raise _api_error(failed) from failed
            except PromptTooLong as error:
                raise _does_not_fit() from error

    async def _begin(
        self, model: Model, wanted: Wanted, record: Record, stack: AsyncExitStack, trace: Trace
    ) -> tuple[Prompted, Chunk | None, AsyncIterator[Chunk]]:
        """Ask and wait for the first chunk, so that a model that fails before it costs no answer.

        The prompt counts from here on, by estimate: who hangs up while the model reads it had that done, too.
        """
        name = "fallback" if record.is_fallback else "model"
        fitted = await fit(model, wanted)
        record.prompt_tokens = estimate(fitted.prompted.messages) // 2  # until the model says it, if it does
        parameters = {**wanted.parameters, "max_tokens": fitted.answer_tokens}
        attempt = AsyncExitStack()
        try:
            here = attempt.enter_context(trace.span("generate", model=model.config.name))
            asked = model.chat(fitted.prompted.messages, parameters, here.headers())
            chunks = await attempt.enter_async_context(asked)
            first = await anext(chunks, None)
        except Failed as failed:
            record.prompt_tokens = 0
            self._note(name, failed)
            await attempt.aclose()
            raise
        except PromptTooLong as error:
            record.prompt_tokens = 0
            await attempt.aclose()
            raise _does_not_fit() from error
        except BaseException:
            await attempt.aclose()
            raise
        self.health.succeeded(name)
        stack.push_async_exit(attempt)
        return fitted.prompted, first, chunks

    def _note(self, name: str, failed: Failed) -> None:
        if failed.reason == REQUEST_REFUSED:
            return  # no client may make a model count as ill
        self.metrics.failures.labels(name, failed.reason).inc()
        if failed.reason == REQUEST_FAILED:
            self.health.doubt()  # the self-test asks what no client has a hand in
            return
        self.health.failed(name, failed)


async def fit(model: Model, wanted: Wanted) -> Fitted:
    """Return the fullest prompt that leaves room for an answer. ApiError context_length_exceeded where none does.

    Where an upper estimate fits nothing is asked; else the model's own template and tokenizer count.
    """
    context, role = model.config.context_length, model.config.system_role
    room = context - min(wanted.answer_tokens, context // 4)
    prompted = wanted.planner.plan(room, _free, system_role=role)
    tokens = estimate(prompted.messages)
    for _ in range(COUNTS):
        if tokens <= room:
            break
        counted = await model.count(prompted.messages)
        # where nobody counts, the likely number: the model itself has the last word
        tokens = counted if counted is not None else tokens * BYTES_PER_TOKEN // LIKELY_BYTES_PER_TOKEN
        if tokens > room:
            rate = tokens / _bytes(prompted.messages) * MARGIN
            prompted = wanted.planner.plan(room, partial(_at_rate, rate=rate), system_role=role)
            tokens = math.ceil(_bytes(prompted.messages) * rate)
    if tokens > room or (wanted.needs_passages and not prompted.shown):
        raise _does_not_fit()
    return Fitted(prompted=prompted, answer_tokens=min(wanted.answer_tokens, context - tokens))


def estimate(messages: Messages) -> int:
    """Return more tokens than a prompt has."""
    return _bytes(messages) // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * len(messages)


def _bytes(messages: Messages) -> int:
    values = [value for message in messages for value in message.values()]
    return sum(len(value.encode()) if isinstance(value, str) else len(json.dumps(value)) for value in values)


def _free(_: str) -> int:
    return 0


def _at_rate(text: str, *, rate: float) -> int:
    return math.ceil(len(text.encode()) * rate)


def _does_not_fit() -> ApiError:
    return too_long("the conversation does not fit the model's context; send fewer or shorter messages")


def _api_error(failed: Failed) -> ApiError:
    if failed.reason == REQUEST_REFUSED:
        return invalid(failed.message)
    if failed.transient:
        return unavailable(failed.message, code="model_unavailable")
    return broken(failed.message, code="model_failed")


async def _chained(first: Chunk | None, rest: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    if first is not None:
        yield first
    async for chunk in rest:
        yield chunk
