# SPDX-License-Identifier: Apache-2.0
"""What the plan of any kind says in its conditions. Only for tests."""

from collections.abc import Sequence
from typing import Protocol

from nimblet.api.common import Condition, ConditionStatus
from nimblet.conditions import ConditionType
from nimblet.merging import find


class Status(Protocol):
    """A status of ours."""

    @property
    def conditions(self) -> Sequence[Condition]:
        """Its conditions."""


class Concluded(Protocol):
    """The plan of any kind."""

    @property
    def status(self) -> Status:
        """What it would write."""


def shown(plan: Concluded, type_: str) -> tuple[str, str] | None:
    """Return a condition's status and reason, None when the plan has no such condition."""
    condition = find(plan.status.conditions, ConditionType(type_))
    return (condition.status.value, condition.reason) if condition is not None else None


def message(plan: Concluded, type_: str) -> str:
    """Return a condition's message; LookupError when there is none."""
    condition = find(plan.status.conditions, ConditionType(type_))
    if condition is None:
        raise LookupError(f"expected condition {type_}, found none")
    return condition.message


def is_true(plan: Concluded, type_: str) -> bool:
    """Tell whether a condition is there and True."""
    condition = find(plan.status.conditions, ConditionType(type_))
    return condition is not None and condition.status is ConditionStatus.TRUE
