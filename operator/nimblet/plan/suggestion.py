# SPDX-License-Identifier: Apache-2.0
"""What would fit where the wanted context and slots do not. Pure; the same search for every server."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

STEP: Final = 256
"""Contexts are suggested in steps of llama.cpp's padding, and none shorter."""

Total = Callable[[int, int], int]
"""Memory in bytes for a context length and a number of slots; grows with both."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """The largest context with the wanted slots, and the most slots with the wanted context; 0 for none."""

    context_length: int
    parallel: int

    @property
    def text(self) -> str:
        """Return a sentence that begins with a blank, or nothing where nothing would fit."""
        options = [f"a contextLength of {self.context_length}"] if self.context_length else []
        options += [f"parallel of {self.parallel}"] if self.parallel else []
        joined = " or ".join(options)
        return f" {joined[0].upper()}{joined[1:]} would fit." if joined else ""


NOTHING: Final = Suggestion(context_length=0, parallel=0)
"""Nothing less would fit, or nothing less is needed."""


def suggest(total: Total, *, context_length: int, parallel: int, budget_bytes: int) -> Suggestion:
    """Return what fits the budget, each lowered alone; bisections, since a header may claim anything."""
    return Suggestion(
        context_length=largest_context(total, context_length, parallel, budget_bytes),
        parallel=bisect_right(range(1, parallel), budget_bytes, key=lambda slots: total(context_length, slots)),
    )


def largest_context(total: Total, context_length: int, parallel: int, budget_bytes: int) -> int:
    """Return the largest context up to the wanted one, in steps, that fits with these slots; 0 for none."""
    steps = range(STEP, context_length + 1, STEP)
    fitting = bisect_right(steps, budget_bytes, key=lambda tokens: total(tokens, parallel))
    return steps[fitting - 1] if fitting else 0
