# SPDX-License-Identifier: Apache-2.0
"""What a load's samples come to: rates and percentiles. Pure.

Latencies count from when a request was due, not from when it was sent: a client that falls behind must not make
the server look fast.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

POINTS = (50, 90, 99)
"""The percentiles that are told."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request; seconds after it was due."""

    due: float
    """Seconds after the load's start."""
    late: float = 0.0
    """By how much the client itself was late."""
    texts: tuple[float, ...] = ()
    """When each piece of text came."""
    tokens: int = 0
    """Tokens of the answer: the server's count, else pieces of text."""
    error: str = ""

    @property
    def first(self) -> float:
        """Time to the first token."""
        return self.texts[0]

    @property
    def between(self) -> float | None:
        """Mean time between tokens, None for an answer of one."""
        if self.tokens < 2 or len(self.texts) < 2:  # noqa: PLR2004 - one token has no gap
            return None
        return (self.texts[-1] - self.texts[0]) / (self.tokens - 1)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One load's figures; seconds. Percentiles are those of POINTS, empty where nothing was answered."""

    requests: int
    answered: int
    errors: tuple[tuple[str, int], ...]
    span: float
    """From the start of a run to its last text, summed over the runs."""
    tokens: int
    first: tuple[float, ...]
    between: tuple[float, ...]
    whole: tuple[float, ...]
    latest: float
    """The most that the client itself was late."""

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens a second over the whole span."""
        return self.tokens / self.span if self.span > 0 else 0.0

    @property
    def answers_per_second(self) -> float:
        """Answers a second over the whole span."""
        return self.answered / self.span if self.span > 0 else 0.0


def figures(runs: Sequence[Sequence[Sample]], *, seconds: float) -> Figures:
    """Return the figures of one or more runs, each of them meant to last `seconds`."""
    samples = [sample for run in runs for sample in run]
    good = [sample for sample in samples if not sample.error]
    between = [sample.between for sample in good]
    return Figures(
        requests=len(samples),
        answered=len(good),
        errors=tuple(sorted(Counter(sample.error for sample in samples if sample.error).items())),
        span=sum(_span(run, seconds) for run in runs),
        tokens=sum(sample.tokens for sample in good),
        first=percentiles([sample.first for sample in good]),
        between=percentiles([gap for gap in between if gap is not None]),
        whole=percentiles([sample.texts[-1] for sample in good]),
        latest=max((sample.late for sample in samples), default=0.0),
    )


def _span(run: Sequence[Sample], seconds: float) -> float:
    return max([seconds, *(sample.due + sample.texts[-1] for sample in run if not sample.error)])


def percentiles(values: Sequence[float]) -> tuple[float, ...]:
    """Return the values at POINTS by nearest rank; none of nothing."""
    ordered = sorted(values)
    return tuple(ordered[math.ceil(point / 100 * len(ordered)) - 1] for point in POINTS) if ordered else ()
