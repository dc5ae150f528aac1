# SPDX-License-Identifier: Apache-2.0
"""What a retriever told before, out of the stored status: for plans of a cluster that ask no pod."""

from datetime import UTC, datetime

from nimblet.api.common import Condition, ConditionStatus
from nimblet.api.indexstatus import (
    GenerationStatus,
    RetrievalIndexStatus,
    ServersStatus,
    SnapshotStatus,
    StoreServerStatus,
)
from nimblet.cli.toldbefore import retriever_as_told
from nimblet.conditions import Reason
from nimblet.nextstep import advised
from nimblet.plan.facts import Answer, Observation, PodFacts
from nimblet.plan.indexfacts import ServersFacts
from nimblet.plan.qdrant import SetFacts
from tests.builders import NOW, a_pod
from tests.indexes import an_index

FIRST = "http://handbook-qdrant.team.svc:6333"
SECOND = "http://handbook-qdrant-s2.team.svc:6333"
SETS = ServersFacts(
    sets=tuple(
        SetFacts(number=number, replicas=1, memory="1Gi", cpu="1", size="20Gi", storage_class=None, retained=False)
        for number in (1, 2)
    )
)


def answering(answer: Answer = Answer.ANSWERED) -> tuple[PodFacts, ...]:
    return (a_pod("r", observation=Observation(answer=answer, detail="not asked")),)


def a_status(**fields: object) -> RetrievalIndexStatus:
    return RetrievalIndexStatus(
        serving_generation="g000002",
        generations=[GenerationStatus(name="g000002", documents=2, chunks=12, bytes=100)],
        servers=ServersStatus(number=2, count=1),
        store_servers=[StoreServerStatus(url=url, version="1.18.2") for url in (FIRST, SECOND)],
    ).model_copy(update=fields)


def test_the_set_counts_as_used_where_the_serving_generation_lies() -> None:
    told = retriever_as_told(an_index(status=a_status()), SETS, answering())
    assert told is not None
    assert told.serving == "g000002"
    assert [(item.url, item.used) for item in told.servers] == [(FIRST, False), (SECOND, True)]
    assert told.snapshots is None


def test_nothing_is_told_where_no_pod_serves() -> None:
    assert retriever_as_told(an_index(status=a_status()), SETS, answering(Answer.BUSY)) is None


def test_snapshots_stay_as_they_are_and_a_failed_round_is_told_once() -> None:
    taken = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    kept = [SnapshotStatus(server=SECOND, collection="c", name="s", bytes=1, taken_at=taken)]
    found = "handbook-qdrant-s2-0 took none: no space left."
    failed = Condition(
        type="Snapshotted",
        status=ConditionStatus.FALSE,
        reason="SnapshotFailed",
        message=advised(Reason.SNAPSHOT_FAILED, found),
        last_transition_time=NOW,
    )
    for conditions, ok, words in ([], True, ""), ([failed], False, found):
        told = retriever_as_told(
            an_index(status=a_status(snapshots=kept, conditions=conditions)), SETS, answering()
        )
        assert told is not None
        assert told.snapshots is not None
        assert [item.taken_at for item in told.snapshots.held] == [taken]
        assert (told.snapshots.last.ok, told.snapshots.last.message) == (ok, words)
