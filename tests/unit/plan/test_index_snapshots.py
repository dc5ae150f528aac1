# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a Dedicated store: what the retriever is told to take, and what is told of them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from pydantic import ValidationError

from nimblet.api.indexstatus import MAX_SNAPSHOTS
from nimblet.api.indexstore import Snapshots
from nimblet.plan.indexfacts import PartFacts, SnapshotFacts, SnapshotsFacts
from tests.builders import NOW
from tests.conditions import message, shown
from tests.indexes import a_retriever, an_index, config_of, index_plan
from tests.unit.plan.test_index_servers import a_store, servers, serving

HOUR: Final = timedelta(hours=1)
SERVER: Final = "http://handbook-qdrant-0.handbook-qdrant-headless.team.svc:6333"
WANTED: Final = {"snapshots": {"retain": 3, "every": "6h"}}


def taken(hours: int = 1, *, collection: str = "handbook-push") -> SnapshotFacts:
    return SnapshotFacts(
        server=SERVER, collection=collection, name=f"{collection}-{hours}", bytes=7, taken_at=NOW - hours * HOUR
    )


def told(*held: SnapshotFacts, failure: str = "") -> SnapshotsFacts:
    last = PartFacts(ok=not failure, reason="SnapshotFailed" if failure else "", message=failure)
    return SnapshotsFacts(last=last, held=held)


def test_retriever_is_told_the_address_of_every_server() -> None:
    index, facts = serving(servers(2), replicas=2, **WANTED)
    store: Any = config_of(index_plan(index, facts), "handbook-retriever")["store"]
    assert store["snapshots"] == {
        "servers": [SERVER, SERVER.replace("-0.", "-1.")],
        "retain": 3,
        "everySeconds": 6 * 3600,
        "folder": "/qdrant/snapshots",
    }
    # and a store that is left alone is configured as before
    index, facts = serving(servers())
    assert "snapshots" not in config_of(index_plan(index, facts), "handbook-retriever")["store"]


def test_asking_for_snapshots_builds_nothing() -> None:
    index, facts = serving(servers())
    asked = an_index(store=a_store(**WANTED), status=index.status)
    plan = index_plan(asked, facts)
    assert not [item for item in plan.children if item["kind"] == "Job"]


def test_none_are_taken_while_an_index_moves_to_other_servers() -> None:
    index, facts = serving(servers(2), replicas=2, **WANTED)
    fewer = index.model_copy(update={"spec": an_index(store=a_store(**WANTED)).spec})
    store: Any = config_of(index_plan(fewer, facts), "handbook-retriever")["store"]
    assert store["former"]
    assert "snapshots" not in store


def test_what_is_kept_is_told() -> None:
    index, facts = serving(servers(), **WANTED)
    assert shown(index_plan(index, facts), "Snapshotted") == ("Unknown", "Pending")
    held = (taken(1), taken(2, collection="handbook-g000001-a"))
    plan = index_plan(index, replace(facts, retriever=a_retriever("g000001", snapshots=told(*held))))
    assert shown(plan, "Snapshotted") == ("True", "SnapshotsTaken")
    assert (
        message(plan, "Snapshotted")
        == f"2 snapshot(s) on 1 server(s); the newest of {NOW - HOUR:%Y-%m-%dT%H:%M:%SZ}."
    )
    assert [(item.collection, item.bytes) for item in plan.status.snapshots] == [
        ("handbook-push", 7),
        ("handbook-g000001-a", 7),
    ]
    # a store that asks for none has no condition and no list
    index, facts = serving(servers())
    plan = index_plan(index, replace(facts, retriever=a_retriever("g000001", snapshots=told(*held))))
    assert shown(plan, "Snapshotted") is None
    assert plan.status.snapshots == []


def test_failure_is_told_and_touches_neither_serving_nor_ready() -> None:
    index, facts = serving(servers(), **WANTED)
    before = index_plan(index, facts)
    failed = told(taken(), failure=f"{SERVER}: the volume for snapshots has no room left")
    plan = index_plan(index, replace(facts, retriever=a_retriever("g000001", snapshots=failed)))
    assert shown(plan, "Snapshotted") == ("False", "SnapshotFailed")
    assert "no room left. See the named server" in message(plan, "Snapshotted")
    for kind in ("Serving", "Ready"):
        assert shown(plan, kind) == shown(before, kind)
    assert len(plan.status.snapshots) == 1


def test_list_stays_while_nothing_serves_and_is_bounded() -> None:
    index, facts = serving(servers(), **WANTED)
    many = tuple(taken(hours) for hours in range(1, MAX_SNAPSHOTS + 20))
    plan = index_plan(index, replace(facts, retriever=a_retriever("g000001", snapshots=told(*many))))
    assert len(plan.status.snapshots) == MAX_SNAPSHOTS
    # When the servers lost all they had, what one restores from is still there
    lost = index.model_copy(update={"status": plan.status})
    for retriever in (None, a_retriever(None, snapshots=told()), a_retriever("g000001", snapshots=None)):
        again = index_plan(lost, replace(facts, retriever=retriever))
        assert again.status.snapshots == plan.status.snapshots


@pytest.mark.parametrize(("told_of", "shown_as"), [(0, 0), (3, 3), (20, 20), (21, 20), (5000, 20)])
def test_pushes_that_can_not_be_embedded_are_counted_up_to_a_bound(told_of: int, shown_as: int) -> None:
    index, facts = serving(servers())
    plan = index_plan(index, replace(facts, retriever=a_retriever("g000001", unembedded=told_of)))
    assert plan.status.unembedded_pushes == shown_as


@pytest.mark.parametrize("flaw", [{"retain": 0}, {"retain": 11}, {"every": "0h"}, {"every": "1w"}, {"at": "noon"}])
def test_snapshots_are_bounded(flaw: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Snapshots.model_validate(flaw)
