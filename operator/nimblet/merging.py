# SPDX-License-Identifier: Apache-2.0
"""The algebra of lists of conditions: new verdicts over stored ones. Pure; knows no clock."""

from collections.abc import Iterable
from datetime import datetime

from nimblet.api.common import Condition, ConditionStatus
from nimblet.conditions import ABNORMAL_TRUE, ConditionType, Verdict


def merge(
    current: Iterable[Condition], verdicts: Iterable[Verdict], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions to store, sorted by type.

    `lastTransitionTime` moves only when `status` flips. Abnormal-true types that are not True are left out.
    Conditions of types that no verdict names are dropped: one pass decides the whole set.
    """
    before = {condition.type: condition for condition in current}
    merged = []
    for item in verdicts:
        if item.type in ABNORMAL_TRUE and item.status is not ConditionStatus.TRUE:
            continue
        old = before.get(item.type)
        same = old is not None and old.status is item.status
        merged.append(
            Condition(
                type=item.type,
                status=item.status,
                reason=item.reason,
                message=item.message,
                observed_generation=generation,
                last_transition_time=old.last_transition_time if old is not None and same else now,
            )
        )
    return tuple(sorted(merged, key=lambda condition: condition.type))


def find(conditions: Iterable[Condition], type_: ConditionType) -> Condition | None:
    """Return the condition of a type, or None."""
    return next((condition for condition in conditions if condition.type == type_), None)
