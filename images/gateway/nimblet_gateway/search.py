# SPDX-License-Identifier: Apache-2.0
"""Looks in all indexes at once by all questions of a conversation. A missing one is said, not waited for twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from nimblet_gateway.errors import broken, invalid, unavailable
from nimblet_gateway.events import IndexReport
from nimblet_gateway.health import Health
from nimblet_gateway.passage import Passage, fuse
from nimblet_gateway.retriever import Found, Index, Query
from nimblet_gateway.tasks import gathered
from nimblet_gateway.telemetry import Metrics, Trace
from nimblet_gateway.web import Failed

BUSY_SWAPS: Final = 3
NOT_AN_ILLNESS: Final = "InvalidRequest"
"""A retriever's word for what the client did wrong: no client may make an index count as ill."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is looked for, and for whom."""

    questions: Sequence[str]
    top_k: int
    access: frozenset[str] | None = None
    filters: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Passages of all indexes, best first, and what became of each index."""

    passages: tuple[Passage, ...]
    indexes: tuple[IndexReport, ...]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """What each index's generation was calibrated to; an index without it goes by the default."""


@dataclass(frozen=True, kw_only=True)
class Indexes:
    """The indexes of an assistant."""

    indexes: tuple[Index, ...]
    wait_seconds: float
    health: Health
    metrics: Metrics
    clock: Callable[[], float]

    async def find(self, search: Search, trace: Trace) -> Results:
        """Return what is found. ApiError 503 (or 502, where waiting does not help) when no index answered."""
        if not self.indexes:
            return Results(passages=(), indexes=())
        answered = await gathered(self._one(index, search, trace) for index in self.indexes)
        for answer in answered:
            if isinstance(answer, Failed) and answer.reason == NOT_AN_ILLNESS:
                raise invalid(answer.message)
        rankings = [[found.passages for found in answer] for answer in answered if not isinstance(answer, Failed)]
        if not rankings:
            raise _none_answered([answer for answer in answered if isinstance(answer, Failed)])
        reports = [_report(index, answer) for index, answer in zip(self.indexes, answered, strict=True)]
        # of each index's rankings first: an index is heard once, however many questions it was asked
        merged = fuse([fuse(ranking) for ranking in rankings]) if len(rankings) > 1 else fuse(rankings[0])
        told = [answer[0] for answer in answered if not isinstance(answer, Failed)]
        return Results(
            passages=merged,
            indexes=tuple(reports),
            thresholds={found.index: found.threshold for found in told if found.threshold is not None},
        )

    def reports(self) -> tuple[IndexReport, ...]:
        """Return what is known of the indexes without asking them."""
        states = [(index.config.name, self.health.state(f"index/{index.config.name}")) for index in self.indexes]
        return tuple(
            IndexReport(name=name, ok=state.ok, reason=state.reason, message=state.message)
            for name, state in states
        )

    async def _one(self, index: Index, search: Search, trace: Trace) -> tuple[Found, ...] | Failed:
        name = f"index/{index.config.name}"
        # one that was already missing is not waited for: it would hold up every answer
        wait = self.wait_seconds if self.health.may_be_restarting(name, self.wait_seconds) else 0.0
        begun = self.clock()
        try:
            with trace.span("retrieve", index=index.config.name) as here:
                found = await self._of_one_generation(index, search, wait, here.headers())
        except Failed as failed:
            if failed.reason != NOT_AN_ILLNESS:
                self.health.failed(name, failed)
            self.metrics.failures.labels(name, failed.reason).inc()
            return failed
        self.metrics.retrieval.labels(index.config.name).observe(self.clock() - begun)
        self.health.succeeded(name, generation=found[0].generation)
        return found

    async def _of_one_generation(
        self, index: Index, search: Search, wait: float, headers: Mapping[str, str]
    ) -> tuple[Found, ...]:
        """Ask all questions of one generation and push number: a swap in between means asking again."""
        queries = [
            Query(text=text, top_k=search.top_k, access=search.access, filters=search.filters)
            for text in search.questions
        ]
        found: tuple[Found, ...] = ()
        for _ in range(BUSY_SWAPS):
            if len(queries) == 1:
                return (await index.ask(queries[0], wait_seconds=wait, trace=headers),)
            asked = [index.ask(query, wait_seconds=wait, trace=headers) for query in queries]
            found = tuple(await gathered(asked))
            if len({(item.generation, item.push) for item in found}) == 1:
                return found
        return found[:1]  # pushes come faster than questions: the last turn's own answer is of one state


def _none_answered(failures: Sequence[Failed]) -> Exception:
    told = "; ".join(failed.message for failed in failures)
    if any(failed.transient for failed in failures):
        return unavailable(f"no index answered: {told}", code="retrieval_unavailable")
    return broken(f"no index answered: {told}", code="retrieval_failed")


def _report(index: Index, answer: tuple[Found, ...] | Failed) -> IndexReport:
    if isinstance(answer, Failed):
        return IndexReport(name=index.config.name, ok=False, reason=answer.reason, message=answer.message)
    return IndexReport(name=index.config.name, ok=True, generation=answer[0].generation, push=answer[0].push)
