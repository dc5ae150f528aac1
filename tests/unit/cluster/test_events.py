# SPDX-License-Identifier: Apache-2.0
"""Which flips of conditions become Events."""

from datetime import UTC, datetime

from nimblet.api.common import Condition, ConditionStatus
from nimblet.cluster.events import flips

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
AT = datetime(2026, 1, 1, tzinfo=UTC)


def condition(type_: str, status: ConditionStatus, reason: str = "Starting") -> Condition:
    return Condition(type=type_, status=status, reason=reason, message="m", last_transition_time=AT)


def told(before: list[Condition], after: list[Condition]) -> list[tuple[str, str]]:
    return [(item.type, item.status.value) for item in flips(before, after)]


def test_a_resource_just_made_does_not_tell_that_it_does_not_serve_yet() -> None:
    assert told([], [condition("Ready", UNKNOWN), condition("Serving", FALSE, "Resolving")]) == []


def test_a_resource_just_made_that_is_broken_tells_it() -> None:
    after = [condition("Ready", FALSE, "InvalidSpec"), condition("Serving", FALSE, "InvalidSpec")]

    assert told([], after) == [("Ready", "False"), ("Serving", "False")]


def test_what_becomes_ready_serves_and_one_event_says_so() -> None:
    before = [condition("Ready", UNKNOWN), condition("Serving", FALSE)]

    assert told(before, [condition("Ready", TRUE), condition("Serving", TRUE)]) == [("Ready", "True")]


def test_what_serves_before_it_is_ready_tells_both() -> None:
    before = [condition("Ready", UNKNOWN), condition("Serving", FALSE)]
    serving = [condition("Ready", UNKNOWN), condition("Serving", TRUE)]

    assert told(before, serving) == [("Serving", "True")]
    assert told(serving, [condition("Ready", TRUE), condition("Serving", TRUE)]) == [("Ready", "True")]


def test_what_stops_to_serve_tells_both_at_whatever_reason() -> None:
    before = [condition("Ready", TRUE), condition("Serving", TRUE)]

    assert told(before, [condition("Ready", FALSE), condition("Serving", FALSE)]) == [
        ("Ready", "False"),
        ("Serving", "False"),
    ]
