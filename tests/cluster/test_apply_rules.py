# SPDX-License-Identifier: Apache-2.0
"""Server-side apply on a real API server: what is written, what is skipped, what others may keep."""

import pytest

from nimblet import labels
from nimblet.cluster.resources import DEPLOYMENT, SECRET
from tests.cluster.apply_support import Rig, config_map, deployment, version_of
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]


async def test_first_apply_makes_the_child_with_owner_and_hash(rig: Rig) -> None:
    assert await rig.apply(config_map(a="1")) == ()

    child = await rig.read()
    assert child["data"] == {"a": "1"}
    assert labels.APPLIED_HASH in child["metadata"]["annotations"]
    assert child["metadata"]["ownerReferences"] == [
        {
            "apiVersion": labels.API_VERSION,
            "kind": "CompactModel",
            "name": "owner",
            "uid": rig.owner.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }
    ]


async def test_nothing_is_written_when_nothing_changed(rig: Rig) -> None:
    children = (config_map(), deployment(cpu="1000m"), _key_secret())
    assert await rig.apply(*children) == ()
    await until(lambda: _is_rolled_out(rig), seconds=60, what="the Deployment controller to be done")
    before = [await rig.read(), await rig.read("server", DEPLOYMENT), await rig.read("key", SECRET)]

    for _ in range(3):
        assert await rig.apply_fresh(*children) == ()

    after = [await rig.read(), await rig.read("server", DEPLOYMENT), await rig.read("key", SECRET)]
    assert [version_of(each) for each in after] == [version_of(each) for each in before]
    assert rig.writes == 3


async def test_nothing_is_written_when_the_mirror_is_empty_after_a_restart(rig: Rig) -> None:
    await rig.apply(config_map())
    rig.mirror.clear()

    assert await rig.apply(config_map()) == ()

    assert rig.writes == 1


async def test_a_changed_manifest_is_applied_and_dropped_fields_go(rig: Rig) -> None:
    await rig.apply(config_map(a="1", b="2"))

    assert await rig.apply(config_map(a="3")) == ()

    assert (await rig.read())["data"] == {"a": "3"}


async def test_drift_of_a_field_is_repaired(rig: Rig) -> None:
    await rig.apply(config_map(a="1"))
    rig.overwrite(config_map(a="rival"))

    assert await rig.apply_fresh(config_map(a="1")) == ()

    assert (await rig.read())["data"] == {"a": "1"}


async def test_a_deleted_child_is_made_anew(rig: Rig) -> None:
    await rig.apply(config_map())
    rig.remove()
    rig.mirror.clear()

    assert await rig.apply(config_map()) == ()

    assert (await rig.read())["data"] == {"a": "1"}


async def test_fields_of_others_are_kept_through_our_writes(rig: Rig) -> None:
    await rig.apply(config_map(a="1"))
    foreign = config_map(theirs="x")
    foreign["metadata"] = {"name": "child", "labels": {"team": "blue"}, "annotations": {"note": "kept"}}
    rig.overwrite(foreign)

    assert await rig.apply_fresh(config_map(a="2")) == ()

    child = await rig.read()
    assert child["data"] == {"a": "2", "theirs": "x"}
    assert child["metadata"]["labels"] == {"team": "blue"}
    assert child["metadata"]["annotations"]["note"] == "kept"


async def test_a_stale_mirror_does_not_cause_a_write(rig: Rig) -> None:
    await rig.apply(config_map(a="1"))
    stale = rig.mirror["ConfigMap", "child"]
    await rig.apply(config_map(a="2"))
    before = version_of(await rig.read())
    rig.mirror["ConfigMap", "child"] = stale

    assert await rig.apply(config_map(a="2")) == ()

    assert version_of(await rig.read()) == before


async def _is_rolled_out(rig: Rig) -> bool:
    status = (await rig.read("server", DEPLOYMENT)).get("status", {})
    return any(each["reason"] == "NewReplicaSetAvailable" for each in status.get("conditions", ()))


def _key_secret() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "key"},
        "type": "Opaque",
        "stringData": {"api-key": "nk-1"},
    }
