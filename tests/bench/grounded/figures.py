# SPDX-License-Identifier: Apache-2.0
"""Shares with their intervals, as lines of a table. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_Z = 1.96
"""Of a two-sided interval of 95 %."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many, under a name; `aim` is what was wanted, as a share."""

    name: str
    hits: int
    count: int
    aim: float | None = None

    def line(self) -> str:
        """Return the row: percent, interval, counts, aim."""
        if not self.count:
            return f"| {self.name} | none asked | | |"
        low, high = wilson(self.hits, self.count)
        share = self.hits / self.count
        aim = "" if self.aim is None else f"≥ {self.aim:.0%}, {'met' if share >= self.aim else 'missed'}"
        return f"| {self.name} | {share:.1%} ({low:.1%} to {high:.1%}) | {self.hits} of {self.count} | {aim} |"


def share(name: str, verdicts: Iterable[bool], *, aim: float | None = None) -> Share:
    """Count verdicts."""
    told = list(verdicts)
    return Share(name=name, hits=sum(told), count=len(told), aim=aim)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    rate, weight = hits / count, _Z * _Z / count
    middle = rate + weight / 2
    reach = _Z * math.sqrt(rate * (1 - rate) / count + weight / (4 * count))
    # the bounds of none and of all are 0 and 1 but for rounding
    return max(0.0, (middle - reach) / (1 + weight)), min(1.0, (middle + reach) / (1 + weight))


def table(shares: Sequence[Share]) -> str:
    """Return the rows under a head."""
    return "\n".join(
        ["| figure | share (95 %) | counts | aim |", "|---|---|---|---|", *(s.line() for s in shares)]
    )
