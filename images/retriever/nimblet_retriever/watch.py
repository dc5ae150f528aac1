# SPDX-License-Identifier: Apache-2.0
"""What the core tells of its work while it works: stages and fallbacks. An interface; telemetry.py measures.

Names only: no question, passage or key is ever handed to a watch.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

Stage = Literal["embed", "search", "rerank"]


class Watch(Protocol):
    """Sees stages begin and end."""

    def stage(self, name: Stage) -> AbstractContextManager[None]:
        """Surround one stage of a question."""

    def fell_back(self, reason: str) -> None:
        """Tell that a question was answered without its reranker."""


class Unwatched:
    """A watch that looks away."""

    def stage(self, _name: Stage) -> AbstractContextManager[None]:
        """Surround nothing."""
        return nullcontext()

    def fell_back(self, _reason: str) -> None:
        """Tell nobody."""
