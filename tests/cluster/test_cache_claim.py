# SPDX-License-Identifier: Apache-2.0
"""Whose claim it is: owned by uid, or retained for a kind and a name; on the real API server."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet import labels
from nimblet.cluster.apply import delete_children
from nimblet.cluster.client import Json
from nimblet.cluster.resources import CLAIM, COMPACT_MODEL
from nimblet.manifests.cache import Claim, claim_manifest
from nimblet.manifests.common import Part
from nimblet.plan.facts import ChildRef
from tests.cluster.apply_support import Rig, config_map, version_of

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]
NAME = "owner-cache"
PLAIN = Claim(access_mode="ReadWriteMany", storage_class="shared", size="1Gi", retained=False)
RETAINED = replace(PLAIN, retained=True)


def manifest(rig: Rig, claim: Claim, *, owner: str = "owner") -> dict[str, Any]:
    part = Part(owner=owner, namespace=rig.owner.namespace, component="cache")
    return claim_manifest(part, claim, name=NAME)


async def live(rig: Rig) -> Json:
    return await rig.read(NAME, CLAIM)


async def test_a_claim_is_owned_like_any_child(rig: Rig) -> None:
    assert await rig.apply(manifest(rig, PLAIN)) == ()
    [reference] = (await live(rig))["metadata"]["ownerReferences"]
    assert reference["uid"] == rig.owner.uid


async def test_a_retained_claim_has_no_owner_and_nothing_is_written_twice(rig: Rig) -> None:
    assert await rig.apply(manifest(rig, RETAINED)) == ()
    first = await live(rig)
    assert "ownerReferences" not in first["metadata"]
    assert await rig.apply_fresh(manifest(rig, RETAINED)) == ()
    assert version_of(await live(rig)) == version_of(first)


async def test_retention_is_changed_in_place_both_ways(rig: Rig) -> None:
    await rig.apply(manifest(rig, PLAIN))
    uid = (await live(rig))["metadata"]["uid"]
    assert await rig.apply_fresh(manifest(rig, RETAINED)) == ()
    kept = (await live(rig))["metadata"]
    assert "ownerReferences" not in kept
    assert await rig.apply_fresh(manifest(rig, PLAIN)) == ()
    owned = (await live(rig))["metadata"]
    assert (kept["uid"], owned["uid"]) == (uid, uid)
    assert [item["uid"] for item in owned["ownerReferences"]] == [rig.owner.uid]
    assert labels.RETAINED_FOR not in owned["annotations"]


async def made_anew(rig: Rig) -> Rig:
    """Return the rig of an owner that was deleted and made again under its name."""
    body = await rig.read("owner", COMPACT_MODEL)
    await rig.client.delete(COMPACT_MODEL, namespace=rig.owner.namespace, name="owner", uid=rig.owner.uid)
    fresh = {key: body[key] for key in ("apiVersion", "kind", "spec")}
    metadata = {"name": "owner", "namespace": rig.owner.namespace}
    again = await rig.client.create({**fresh, "metadata": metadata})
    assert again["metadata"]["uid"] != rig.owner.uid
    return replace(rig, owner=replace(rig.owner, uid=again["metadata"]["uid"]))


async def test_only_the_same_kind_and_name_takes_a_retained_claim_up_again(rig: Rig) -> None:
    await rig.apply(manifest(rig, RETAINED))
    before = await live(rig)
    successor = await made_anew(rig)

    assert await successor.apply_fresh(manifest(rig, RETAINED)) == ()
    assert version_of(await live(rig)) == version_of(before)

    assert await successor.apply_fresh(manifest(rig, PLAIN)) == ()
    [reference] = (await live(rig))["metadata"]["ownerReferences"]
    assert reference["uid"] == successor.owner.uid


async def test_a_claim_retained_for_another_name_is_a_conflict(rig: Rig) -> None:
    rig.overwrite(manifest(rig, RETAINED, owner="somebody"))
    before = version_of(await live(rig))
    failures = await rig.apply_fresh(manifest(rig, RETAINED))
    assert [each.category for each in failures] == ["Conflict"]
    assert version_of(await live(rig)) == before


@pytest.mark.parametrize("annotated", [False, True], ids=["a stranger's", "another owner's, annotated"])
async def test_a_foreign_claim_of_the_name_is_a_conflict_and_stays(rig: Rig, annotated: bool) -> None:
    foreign = manifest(rig, RETAINED if annotated else PLAIN)
    if annotated:
        rig.overwrite(config_map("other"))  # an owner that lives, or the garbage collector takes the claim
        uid = (await rig.read("other"))["metadata"]["uid"]
        holder = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": uid, "controller": True}
        foreign["metadata"]["ownerReferences"] = [holder]
    rig.overwrite(foreign)
    failures = await rig.apply_fresh(manifest(rig, RETAINED))
    assert [each.category for each in failures] == ["Conflict"]


async def test_no_other_kind_is_taken_up_by_its_annotation(rig: Rig) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "child"}, "data": {"a": "theirs"}}
    config["metadata"] = {"name": "child", "annotations": {labels.RETAINED_FOR: "CompactModel.owner"}}
    rig.overwrite(config)
    failures = await rig.apply({**config, "metadata": {"name": "child"}, "data": {"a": "ours"}})
    assert [each.category for each in failures] == ["Conflict"]


async def test_a_change_that_the_server_refuses_is_told(rig: Rig) -> None:
    await rig.apply(manifest(rig, PLAIN))
    failures = await rig.apply_fresh(manifest(rig, replace(PLAIN, storage_class="other")))
    assert [each.name for each in failures] == [NAME]


async def test_a_class_that_was_applied_cannot_be_left_out_again(rig: Rig) -> None:
    unnamed = replace(PLAIN, storage_class=None)
    await rig.apply(manifest(rig, PLAIN))
    [refused] = await rig.apply_fresh(manifest(rig, unnamed))
    assert refused.category == "ImmutableField"
    assert await rig.apply_fresh(manifest(rig, PLAIN)) == ()


async def test_a_claim_is_deleted_by_its_uid(rig: Rig) -> None:
    await rig.apply(manifest(rig, PLAIN))
    uid = (await live(rig))["metadata"]["uid"]
    ref = ChildRef(kind="PersistentVolumeClaim", name=NAME, uid=uid)
    await delete_children(rig.client, namespace=rig.owner.namespace, refs=[ref])
    left = await rig.get(NAME, CLAIM)
    assert left is None or "deletionTimestamp" in left["metadata"]
