# SPDX-License-Identifier: Apache-2.0
"""The algebra of conditions: merging, clipping, next steps."""

from datetime import UTC, datetime, timedelta

from nimblet.api.common import ConditionStatus
from nimblet.conditions import MAX_MESSAGE_LENGTH, ConditionType, Reason, Verdict, clip, verdict
from nimblet.merging import find, merge
from nimblet.nextstep import NEXT_STEP, advised

EARLY = datetime(2026, 1, 1, tzinfo=UTC)
LATE = EARLY + timedelta(hours=1)
TRUE, FALSE = ConditionStatus.TRUE, ConditionStatus.FALSE
PROGRESS = {
    Reason.ANSWERING,
    Reason.READY,
    Reason.RESOLVING,
    Reason.RESOLVED,
    Reason.PROGRESSING,
    Reason.DOWNLOADING,
    Reason.STARTING,
    Reason.SCALED_TO_ZERO,
    Reason.SUSPENDED,
    Reason.ROTATING_KEY,
    Reason.PLACED,
    Reason.PENDING,
    Reason.DIGESTS_MATCH,
    Reason.SIGNATURE_MATCHES,
    Reason.PINNED,
    Reason.UNVERIFIED,
    Reason.BUILDING,
    Reason.INDEXED,
    Reason.SWAPPING,
    Reason.GATE_PASSED,
    Reason.NO_GATE,
    Reason.FRESH,
    Reason.SNAPSHOTS_TAKEN,
    Reason.SIMULATED,
    Reason.ATTESTED,
    Reason.ATTESTATION_PENDING,
    Reason.ISSUING,
    Reason.UPDATE_FAILED,  # carries the step of the reason behind it
}


def ready(status: ConditionStatus, message: str = "m") -> Verdict:
    return Verdict(type=ConditionType.READY, status=status, reason=Reason.READY, message=message)


def test_time_stays_while_the_status_stays() -> None:
    first = merge((), [ready(TRUE)], generation=1, now=EARLY)
    second = merge(first, [ready(TRUE, "other words")], generation=2, now=LATE)
    assert (second[0].last_transition_time, second[0].message) == (EARLY, "other words")
    assert second[0].observed_generation == 2


def test_time_moves_when_the_status_flips() -> None:
    first = merge((), [ready(TRUE)], generation=1, now=EARLY)
    assert merge(first, [ready(FALSE)], generation=1, now=LATE)[0].last_transition_time == LATE


def test_abnormal_conditions_exist_only_while_true() -> None:
    stalled = Verdict(type=ConditionType.STALLED, status=FALSE, reason=Reason.PENDING, message="m")
    assert merge((), [stalled], generation=1, now=EARLY) == ()


def test_unnamed_conditions_are_dropped_and_the_rest_sorted() -> None:
    serving = Verdict(type=ConditionType.SERVING, status=TRUE, reason=Reason.ANSWERING, message="m")
    first = merge((), [serving, ready(TRUE)], generation=1, now=EARLY)
    assert [condition.type for condition in first] == ["Ready", "Serving"]
    assert find(merge(first, [serving], generation=1, now=LATE), ConditionType.READY) is None


def test_every_reason_of_a_problem_has_a_next_step() -> None:
    assert {reason for reason in Reason if reason not in NEXT_STEP} == PROGRESS


def test_problem_in_our_words_ends_with_the_next_step() -> None:
    assert advised(Reason.OOM_KILLED, "It was killed. ") == f"It was killed. {NEXT_STEP[Reason.OOM_KILLED]}"


def test_long_message_keeps_its_end() -> None:
    told = advised(Reason.OOM_KILLED, "x" * 5000)
    made = verdict(ConditionType.READY, FALSE, Reason.OOM_KILLED, told)
    assert len(made.message) <= MAX_MESSAGE_LENGTH
    assert made.message.endswith(NEXT_STEP[Reason.OOM_KILLED])
    assert clip("short") == "short"
