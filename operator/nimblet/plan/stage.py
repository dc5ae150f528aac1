# SPDX-License-Identifier: Apache-2.0
"""What the stages of a plan hand to each other. Data only."""

from dataclasses import dataclass

from nimblet.conditions import Reason
from nimblet.manifests.common import Manifest
from nimblet.nextstep import advised
from nimblet.plan.facts import ChildRef


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that keeps the spec from serving. The message says what was found and what to do."""

    reason: Reason
    message: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Something that is under way and needs nobody."""

    reason: Reason
    message: str


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """Children and deletions of a stage, and how it stands: a problem, progress, or neither when done."""

    children: tuple[Manifest, ...] = ()
    deletions: tuple[ChildRef, ...] = ()
    state: Problem | Progress | None = None
    requeue_after: float | None = None


def problem(reason: Reason, found: str) -> Problem:
    """Return a problem told in our own words: what was found, and the reason's next step."""
    return Problem(reason=reason, message=advised(reason, found))


def earliest(*delays: float | None) -> float | None:
    """Return the smallest of the delays that are set, at least a tenth of a second."""
    wanted = [max(delay, 0.1) for delay in delays if delay is not None]
    return min(wanted) if wanted else None
