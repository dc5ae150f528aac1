# SPDX-License-Identifier: Apache-2.0
"""How a build ends: one outcome, one exit code, and whether the same build can succeed without an edit.

The numbers are a contract with the operator (a confidential guest may let nothing else out): never reuse one.
Reasons of a source's own are those of nimblet_egress.errors, with their numbers (10 to 59).
"""

from enum import Enum
from typing import Final

from nimblet_egress.errors import TERMINATED_EXIT_CODE, Reason, SourceError

TERMINATED: Final = TERMINATED_EXIT_CODE


class Outcome(Enum):
    """A reason's name, its exit code (60 to 89), and whether trying again without an edit can help."""

    VolumeMissing = (60, True)
    SourceShrunk = (61, False)
    SourceTooLarge = (62, False)
    RobotsRefused = (63, False)
    RetrieverUnavailable = (70, True)
    RetrieverRefused = (71, False)
    KeyRefused = (72, True)
    EmbeddingUnavailable = (73, True)
    EmbeddingRefused = (74, False)
    StoreFull = (75, False)
    StoreUnavailable = (76, True)
    BuildFenced = (77, False)
    IndexEmpty = (78, False)
    GateFailed = (80, False)
    GateInvalid = (81, False)

    def __init__(self, exit_code: int, retryable: bool) -> None:
        self.exit_code = exit_code
        self.retryable = retryable


_TOLD: Final = {
    "Unavailable": Outcome.RetrieverUnavailable,
    "KeyRefused": Outcome.KeyRefused,
    "EmbeddingUnavailable": Outcome.EmbeddingUnavailable,
    "EmbeddingChanged": Outcome.EmbeddingUnavailable,
    "EmbeddingRefused": Outcome.EmbeddingRefused,
    "StoreFull": Outcome.StoreFull,
    "StoreUnavailable": Outcome.StoreUnavailable,
    "BuildFenced": Outcome.BuildFenced,
    "GenerationEmpty": Outcome.IndexEmpty,
}
"""The retriever's own words."""


class BuildFailed(Exception):  # noqa: N818 - what happened, in the words that the status has
    """A build that ends without serving. The message says what was found and what to do; it holds no secret."""

    def __init__(self, reason: Outcome | Reason, message: str, *, source: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.source = source


def from_retriever(reason: str, message: str) -> BuildFailed:
    """Return what a retriever's refusal means."""
    outcome = _TOLD.get(reason, Outcome.RetrieverRefused)
    return BuildFailed(outcome, message if reason in _TOLD else f"{reason}: {message}")


def from_source(error: SourceError, *, source: str) -> BuildFailed:
    """Return what a source's failure means."""
    return BuildFailed(error.reason, error.message, source=source)
