# SPDX-License-Identifier: Apache-2.0
"""When requests are due and what they ask: made up before the first is sent. Pure; randomness is an argument.

Open loop: users come whether or not earlier ones were served, so a slow server does not slow down its own load.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

WORDS: Final = (
    *("harbour", "barrel", "winter", "engine", "ledger", "valley", "signal", "copper", "garden", "voyage"),
    *("lantern", "timber", "river", "market", "bridge", "letter", "pilot", "anchor", "orchard", "station"),
)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent: a Poisson process of `rate` requests a second for `seconds`."""

    rate: float
    seconds: float
    prompt_words: int
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One request: due so many seconds after the start."""

    due: float
    prompt: str


def arrivals(load: Load, random: Random) -> tuple[Arrival, ...]:
    """Return the requests in order; the gaps of a Poisson process are exponential with mean 1/rate."""
    return tuple(Arrival(due=due, prompt=_prompt(load.prompt_words, random)) for due in _times(load, random))


def _times(load: Load, random: Random) -> Iterator[float]:
    due = random.expovariate(load.rate)
    while due < load.seconds:
        yield due
        due += random.expovariate(load.rate)


def _prompt(words: int, random: Random) -> str:
    """Return a prompt that differs from its first words on, so that no server finds it in a cache."""
    text = " ".join(random.choice(WORDS) for _ in range(words))
    return f"Go on with this story, at length: {random.getrandbits(32):08x} {text}"
