# SPDX-License-Identifier: Apache-2.0
"""Status writes on a real API server: only on change, only for that very resource, with Events on flips."""

from datetime import UTC, datetime

import pytest

from nimblet.api.common import Condition, ConditionStatus
from nimblet.api.compactmodel import CompactModelStatus
from nimblet.cluster.client import Json
from nimblet.cluster.resources import COMPACT_MODEL, EVENT
from nimblet.cluster.status import write_status
from tests.cluster.apply_support import Rig, version_of

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]
NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def condition(type_: str, status: ConditionStatus, reason: str = "Starting") -> Condition:
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=f"{type_} because of the test.",
        observed_generation=1,
        last_transition_time=NOON,
    )


def status_of(*conditions: Condition, endpoint: str = "") -> CompactModelStatus:
    return CompactModelStatus(observed_generation=1, conditions=list(conditions), endpoint=endpoint)


async def owner_body(rig: Rig) -> Json:
    return await rig.read("owner", COMPACT_MODEL)


async def events(rig: Rig) -> list[tuple[str, str, str]]:
    listed = rig.client.list(EVENT, namespace=rig.owner.namespace)
    return sorted([(each["type"], each["action"], each["reason"]) async for each in listed])


async def test_a_status_is_written_once_and_then_only_on_change(rig: Rig) -> None:
    status = status_of(condition("Ready", ConditionStatus.UNKNOWN), endpoint="http://owner-model/v1")
    assert await write_status(rig.client, body=await owner_body(rig), status=status)
    before = await owner_body(rig)

    assert not await write_status(rig.client, body=before, status=status)

    after = await owner_body(rig)
    assert version_of(after) == version_of(before)
    assert after["status"]["endpoint"] == "http://owner-model/v1"
    assert after["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-01T12:00:00Z"


async def test_the_order_of_conditions_is_no_change(rig: Rig) -> None:
    ready = condition("Ready", ConditionStatus.UNKNOWN)
    serving = condition("Serving", ConditionStatus.UNKNOWN)
    await write_status(rig.client, body=await owner_body(rig), status=status_of(ready, serving))

    assert not await write_status(rig.client, body=await owner_body(rig), status=status_of(serving, ready))


async def test_a_condition_left_out_is_removed(rig: Rig) -> None:
    ready = condition("Ready", ConditionStatus.UNKNOWN)
    stalled = condition("Stalled", ConditionStatus.TRUE, "UnsupportedModel")
    await write_status(rig.client, body=await owner_body(rig), status=status_of(ready, stalled))

    assert await write_status(rig.client, body=await owner_body(rig), status=status_of(ready))

    stored = (await owner_body(rig))["status"]["conditions"]
    assert [each["type"] for each in stored] == ["Ready"]


async def test_flips_of_watched_conditions_become_events_once(rig: Rig) -> None:
    starting = status_of(
        condition("Ready", ConditionStatus.UNKNOWN), condition("Placed", ConditionStatus.TRUE, "Placed")
    )
    broken = status_of(
        condition("Ready", ConditionStatus.FALSE, "UpdateFailed"),
        condition("Serving", ConditionStatus.TRUE, "Answering"),
        condition("Stalled", ConditionStatus.TRUE, "UpdateFailed"),
    )
    body = await owner_body(rig)
    await write_status(rig.client, body=body, status=starting)
    assert await events(rig) == []

    await write_status(rig.client, body=await owner_body(rig), status=broken)
    await write_status(rig.client, body=body, status=broken)  # the same flip told twice

    assert await events(rig) == [
        ("Normal", "ServingTrue", "Answering"),
        ("Warning", "ReadyFalse", "UpdateFailed"),
        ("Warning", "StalledTrue", "UpdateFailed"),
    ]


async def test_a_resource_that_is_gone_or_made_anew_gets_no_status(rig: Rig) -> None:
    body = await owner_body(rig)
    await rig.client.delete(COMPACT_MODEL, namespace=rig.owner.namespace, name="owner", uid=rig.owner.uid)
    status = status_of(condition("Ready", ConditionStatus.UNKNOWN))
    assert not await write_status(rig.client, body=body, status=status)

    fresh = {key: value for key, value in body.items() if key in ("apiVersion", "kind", "spec")}
    await rig.client.create({**fresh, "metadata": {"name": "owner", "namespace": rig.owner.namespace}})
    assert not await write_status(rig.client, body=body, status=status)

    assert "status" not in await owner_body(rig)


async def test_a_change_by_someone_else_meanwhile_does_not_lose_the_status(rig: Rig) -> None:
    body = await owner_body(rig)
    touched = {"apiVersion": body["apiVersion"], "kind": body["kind"]}
    rig.overwrite({**touched, "metadata": {"name": "owner", "labels": {"team": "blue"}}})

    assert await write_status(rig.client, body=body, status=status_of(condition("Ready", ConditionStatus.UNKNOWN)))

    after = await owner_body(rig)
    assert after["status"]["observedGeneration"] == 1
    assert after["metadata"]["labels"] == {"team": "blue"}
