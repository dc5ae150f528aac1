# SPDX-License-Identifier: Apache-2.0
"""Asks the retrievers of the indexes. Waits for one that restarts; keeps and logs no question and no passage."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from nimblet_gateway.config import IndexConfig
from nimblet_gateway.passage import Passage
from nimblet_gateway.web import Asking, Client, Failed, Fetched, bearer, merged, status_failure

ASK_SECONDS: Final = 20.0
AGAIN_SECONDS: Final = 0.25
HEADERS: Final = {"Content-Type": "application/json"}
WORTH_WAITING: Final = frozenset(
    {"Unreachable", "Unavailable", "TimedOut", "StoreUnavailable", "EmbeddingUnavailable"}
)
"""What a restart looks like from outside. Any other reason, such as IndexEmpty, does not go away by itself."""


class Found(BaseModel):
    """What an index answered: all of one generation and one push number."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: str
    generation: str
    push: int | None = None
    threshold: float | None = Field(default=None, ge=0, le=1)
    """From which score on this generation's passages answer, where it was calibrated."""
    passages: tuple[Passage, ...] = ()


class _Refused(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    reason: str
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for. `access` narrows what the gateway's own key may see, None leaves it."""

    text: str
    top_k: int
    access: frozenset[str] | None = None
    filters: Mapping[str, JsonValue] = field(default_factory=dict)

    def body(self) -> dict[str, JsonValue]:
        """Return the request."""
        narrowed: dict[str, JsonValue] = {}
        if self.access is not None:
            narrowed["access"] = [*sorted(self.access)]
        return {**self.filters, **narrowed, "query": self.text, "topK": self.top_k}


@dataclass(frozen=True, kw_only=True)
class Index:
    """One index."""

    client: Client
    config: IndexConfig
    clock: Callable[[], float]

    @property
    def who(self) -> str:
        """Its name in messages."""
        return f"the index {self.config.name}"

    async def ask(self, query: Query, *, wait_seconds: float, trace: Mapping[str, str]) -> Found:
        """Return the passages. Failed says why there are none, after the wait."""
        until = self.clock() + wait_seconds
        while True:
            try:
                return await self._ask(query, trace)
            except Failed as failed:
                if failed.reason not in WORTH_WAITING or self.clock() + AGAIN_SECONDS >= until:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)

    async def _ask(self, query: Query, trace: Mapping[str, str]) -> Found:
        asking = Asking(
            url=f"{self.config.url}/v1/retrieve",
            who=self.who,
            headers=merged(bearer(self.config.key_file, who=self.who), trace, HEADERS),
            seconds=ASK_SECONDS,
            body=json.dumps(query.body()).encode(),
        )
        answer = await self.client.fetch(asking)
        if not answer.ok:
            raise _refusal(answer, who=self.who)
        try:
            return Found.model_validate_json(answer.content)
        except ValidationError as error:
            message = f"{self.who} answered what is not a list of passages; check its address"
            raise Failed("NotUnderstood", message, False) from error


def _refusal(answer: Fetched, *, who: str) -> Failed:
    """Return what a retriever's error means: its reason is kept, its words are its own and carry no question."""
    failed = status_failure(answer.status, who=who)
    if failed.reason == "KeyRefused":
        return failed
    try:
        refused = _Refused.model_validate_json(answer.content)
    except ValidationError:
        return failed
    return Failed(refused.reason, f"{who}: {refused.message}"[:500], failed.transient)
