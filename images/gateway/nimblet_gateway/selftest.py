# SPDX-License-Identifier: Apache-2.0
"""Finds out whether the assistant answers: a passage from the indexes, a token from the model. Keeps no text.

Once for the configuration, and again whenever something that had failed is back. Between, cheap probes.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypedDict

from nimblet_gateway.config import ConfigModel, GatewayConfig
from nimblet_gateway.guard import Guard, Judged
from nimblet_gateway.health import Health, State
from nimblet_gateway.model import Model, PromptTooLong, probe
from nimblet_gateway.retriever import Index, Query
from nimblet_gateway.tasks import gathered
from nimblet_gateway.web import Failed

log = logging.getLogger(__name__)
PROBE_EVERY_SECONDS: Final = 5.0
PROBE_SECONDS: Final = 4.0
SELF_TEST_SECONDS: Final = 60.0
QUESTION: Final = "What is this about?"
EMPTY: Final = "IndexEmpty"


class SelfTest(ConfigModel):
    """How the last one ended."""

    ok: bool
    reason: str
    message: str
    passages: int = 0
    tokens: int = 0
    at: datetime | None = None


class DependencyStatus(ConfigModel):
    """A dependency as it is."""

    ok: bool
    reason: str
    message: str


class IndexStatus(DependencyStatus):
    """An index as it is."""

    name: str
    generation: str | None


class Status(ConfigModel):
    """GET /v1/status."""

    configuration: str
    self_test: SelfTest
    indexes: tuple[IndexStatus, ...]
    model: DependencyStatus
    guard: DependencyStatus | None
    fallback: DependencyStatus | None


@dataclass(kw_only=True)
class Examiner:
    """Probes the dependencies and runs the self-test."""

    config: GatewayConfig
    model: Model
    fallback: Model | None
    indexes: tuple[Index, ...]
    guard: Guard | None
    health: Health
    now: Callable[[], datetime]
    last: SelfTest = field(
        default=SelfTest(ok=False, reason="NotRunYet", message="the self-test has not ended yet")
    )
    _passages: dict[str, int] = field(default_factory=dict)
    _tested: int = -1

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.examine()
            await asyncio.sleep(PROBE_EVERY_SECONDS)

    async def examine(self) -> None:
        """Probe everything once; run the self-test where it is due."""
        await gathered([self._probe_models(), *map(self._probe_index, self.indexes)])
        recoveries = self.health.recoveries
        found = self._flaw()
        if found is None:
            if self.last.ok and self._tested == recoveries:
                return
            found = await self._test()
        if found.ok:
            self._tested = recoveries
        if (found.ok, found.reason) != (self.last.ok, self.last.reason):
            log.info("self-test: %s %s", found.reason, found.message)
            self.last = found

    def status(self) -> Status:
        """Return what is known."""
        indexes = [
            IndexStatus(name=index.config.name, generation=state.generation, **_told(state))
            for index in self.indexes
            for state in (self.health.state(_index(index)),)
        ]
        return Status(
            configuration=self.config.configuration,
            self_test=self.last,
            indexes=tuple(indexes),
            model=DependencyStatus(**_told(self.health.state("model"))),
            guard=DependencyStatus(**_told(self.health.state("guard"))) if self.guard is not None else None,
            fallback=DependencyStatus(**_told(self.health.state("fallback")))
            if self.fallback is not None
            else None,
        )

    def _flaw(self) -> SelfTest | None:
        """Return why a test would be in vain."""
        model = self.health.state("model")
        if not model.ok:
            return self._ended("ModelUnavailable", model.message)
        guard = self.health.state("guard") if self.guard is not None else None
        if guard is not None and not guard.ok:
            return self._ended("GuardUnavailable", guard.message)
        states = [self.health.state(_index(index)) for index in self.indexes]
        if not states or any(state.ok for state in states):
            return None
        message = "; ".join(state.message for state in states)
        empty = all(state.reason == EMPTY for state in states)
        return self._ended(EMPTY if empty else "IndexUnavailable", message)

    async def _test(self) -> SelfTest:
        """Get a verdict and a token."""
        try:
            async with asyncio.timeout(SELF_TEST_SECONDS):
                if self.guard is not None:
                    await self._ask_guard(self.guard)
                tokens = await self._ask_model()
        except Failed as failed:
            reason = "GuardUnavailable" if failed.message.startswith("the guard") else "ModelUnavailable"
            return self._ended(reason, failed.message)
        except (TimeoutError, PromptTooLong):
            return self._ended("NoToken", f"{self.model.who} gave no token within {SELF_TEST_SECONDS:g} s")
        if not tokens:
            return self._ended("NoToken", f"{self.model.who} answered without a single token")
        return self._ended("Ok", "", tokens=tokens)

    async def _ask_model(self) -> int:
        messages = [{"role": "user", "content": QUESTION}]
        tokens = 0
        async with self.model.chat(messages, {"max_tokens": 1, "temperature": 0}, {}) as chunks:
            async for chunk in chunks:
                tokens = chunk.usage.completion_tokens if chunk.usage is not None else tokens
                tokens = tokens or sum(
                    1 for choice in chunk.choices if choice.finish_reason or choice.delta.content
                )
        return tokens

    async def _ask_guard(self, guard: Guard) -> None:
        try:
            await guard.allows(Judged(messages=[{"role": "user", "content": QUESTION}]), {})
        except Failed as failed:
            self.health.failed("guard", failed)
            raise

    async def _probe_models(self) -> None:
        chats = {"model": self.model, "fallback": self.fallback, "guard": self.guard}
        await gathered(self._probe(name, asked) for name, asked in chats.items() if asked is not None)

    async def _probe(self, name: str, asked: Model | Guard) -> None:
        try:
            parameters = await probe(asked.client, asked.config.url, asked.config.key_file, who=asked.who)
        except Failed as failed:
            self.health.failed(name, failed)
        else:
            self.health.succeeded(name, parameters=parameters)

    async def _probe_index(self, index: Index) -> None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                found = await index.ask(Query(text=QUESTION, top_k=1), wait_seconds=0.0, trace={})
        except Failed as failed:
            self.health.failed(_index(index), failed)
            self._passages.pop(index.config.name, None)
            return
        except TimeoutError:
            late = Failed("TimedOut", f"{index.who} did not answer within {PROBE_SECONDS:g} s", transient=True)
            self.health.failed(_index(index), late)
            self._passages.pop(index.config.name, None)
            return
        self._passages[index.config.name] = len(found.passages)
        if found.passages:
            self.health.succeeded(_index(index), generation=found.generation)
            return
        message = f"{index.who} holds nothing that the gateway may see; index documents, or check access labels"
        self.health.failed(_index(index), Failed(EMPTY, message, transient=False))

    def _ended(self, reason: str, message: str, *, tokens: int = 0) -> SelfTest:
        passages = sum(self._passages.values())
        return SelfTest(
            ok=reason == "Ok", reason=reason, message=message, passages=passages, tokens=tokens, at=self.now()
        )


def _index(index: Index) -> str:
    return f"index/{index.config.name}"


class _Told(TypedDict):
    ok: bool
    reason: str
    message: str


def _told(state: State) -> _Told:
    return {"ok": state.ok, "reason": state.reason, "message": state.message}
