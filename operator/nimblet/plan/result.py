# SPDX-License-Identifier: Apache-2.0
"""What a plan decides: children to apply, objects to delete, the status to show, when to look again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from nimblet.api.common import StatusModel
from nimblet.plan.facts import ChildRef

Manifest = Mapping[str, object]
S_co = TypeVar("S_co", bound=StatusModel, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[S_co]):
    """The decision for one resource. Applying it twice is the same as applying it once.

    `children` are applied in order. `deletions` are exact objects (uid and all): what the plan no longer wants
    and is sure about; everything else is left alone.
    """

    children: tuple[Manifest, ...]
    deletions: tuple[ChildRef, ...]
    status: S_co
    requeue_after: float | None = None
    """Seconds until the next look without an event; None leaves it to events and resync."""
