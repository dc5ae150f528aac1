# SPDX-License-Identifier: Apache-2.0
"""Bounded retries with exponential backoff and full jitter; time and randomness are arguments."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from nimblet_egress.errors import SourceError

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often and how soon to try again. Delays in seconds; `share` draws from [0, 1)."""

    attempts: int = 5
    first_delay: float = 1.0
    longest_delay: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    share: Callable[[], float] = random.random

    def pause(self, failures: int, error: SourceError) -> None:
        """Wait after the given number of failures in a row: at least as long as the source asked for."""
        ceiling = min(self.first_delay * 2 ** (failures - 1), self.longest_delay)
        delay = max(ceiling * (0.5 + self.share() / 2), error.retry_after or 0.0)
        _log.info("%s; try %d of %d follows in %.1f s", error.reason.name, failures + 1, self.attempts, delay)
        self.sleep(delay)


def with_retries(action: Callable[[], _T], pace: Pace) -> _T:
    """Run `action` until it succeeds, fails for good, or has used up its attempts."""
    for failures in range(1, pace.attempts):
        try:
            return action()
        except SourceError as error:
            if not error.reason.retryable:
                raise
            pace.pause(failures, error)
    return action()
