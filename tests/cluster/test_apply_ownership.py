# SPDX-License-Identifier: Apache-2.0
"""Whose objects are written and deleted: exactly ours, by uid, and none for an owner or namespace that goes."""

from dataclasses import replace

import pytest

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.tools import CONTROLLER_MANAGER
from nimblet import labels
from nimblet.cluster.apply import delete_children
from nimblet.cluster.errors import Conflict, Forbidden
from nimblet.cluster.refusal import is_namespace_going
from nimblet.cluster.resources import COMPACT_MODEL, resource_of
from nimblet.cluster.sightings import ALIVE_SECONDS, Recent, Sightings
from nimblet.plan.facts import ChildRef
from tests.cluster.apply_support import Rig, config_map, deployment, version_of
from tests.cluster.crd_support import model_manifest, valid_spec

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]


def service() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "child"},
        "spec": {"ports": [{"port": 80}]},
    }


def policy() -> dict[str, object]:
    head = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "child"}}
    return {**head, "spec": {"podSelector": {}}}


def kind_of(manifest: dict[str, object]) -> str:
    return str(manifest["kind"])


async def test_an_object_without_owner_is_refused_and_left_as_it_is(rig: Rig) -> None:
    rig.overwrite(config_map(other="theirs"))
    before = version_of(await rig.read())

    failures = await rig.apply(config_map(a="1"))

    assert [(each.category, each.name) for each in failures] == [("Conflict", "child")]
    assert "has no controller" in failures[0].message
    assert version_of(await rig.read()) == before


async def test_an_object_of_another_owner_is_refused_even_with_our_labels(rig: Rig) -> None:
    # an owner that lives, or the garbage collector takes the child
    older = model_manifest(valid_spec(), name="older")
    older["metadata"] = {"name": "older", "namespace": rig.owner.namespace}
    reference = {
        "apiVersion": labels.API_VERSION,
        "kind": "CompactModel",
        "name": "older",
        "uid": (await rig.client.create(older))["metadata"]["uid"],
        "controller": True,
    }
    stolen = config_map(other="theirs")
    stolen["metadata"] = {
        "name": "child",
        "labels": {labels.MODEL: "owner", labels.MANAGED_BY: labels.MANAGED_BY_VALUE},
        "ownerReferences": [reference],
    }
    rig.overwrite(stolen)

    failures = await rig.apply_fresh(config_map(a="1"))

    assert [each.category for each in failures] == ["Conflict"]
    assert "belongs to CompactModel older" in failures[0].message


async def test_workloads_wait_while_something_before_them_is_refused(rig: Rig) -> None:
    rig.overwrite(config_map(other="theirs"))

    failures = await rig.apply(config_map(), deployment(), config_map("later"))

    assert [each.name for each in failures] == ["child"]
    assert ("Deployment", "server") not in rig.mirror
    assert ("ConfigMap", "later") in rig.mirror


async def test_apply_with_a_uid_never_touches_an_object_made_anew(rig: Rig) -> None:
    await rig.apply(config_map())
    old = await rig.read()
    manifest = {**config_map(a="2"), "metadata": {"name": "child", "namespace": rig.owner.namespace}}
    rig.remove()

    with pytest.raises(Conflict):
        await rig.client.apply(manifest, force=True, uid=old["metadata"]["uid"])
    rig.overwrite(config_map(new="yes"))
    with pytest.raises(Conflict):
        await rig.client.apply(manifest, force=True, uid=old["metadata"]["uid"])

    assert (await rig.read())["data"] == {"new": "yes"}


@pytest.mark.parametrize("child", [config_map(), deployment(), service(), policy()], ids=kind_of)
async def test_an_apply_that_only_makes_never_touches_what_is_there(rig: Rig, child: dict[str, object]) -> None:
    metadata = {"name": "made", "namespace": rig.owner.namespace}
    made = await rig.client.apply_new({**child, "metadata": metadata})

    with pytest.raises(Conflict):
        await rig.client.apply_new({**child, "metadata": {**metadata, "labels": {"ours": "too"}}})

    # by what is ours alone to change: controllers go on to write its status
    stored = (await rig.read("made", resource_of(kind_of(child))))["metadata"]
    assert stored["uid"] == made["metadata"]["uid"]
    assert "labels" not in stored


async def test_a_child_that_the_mirror_lacks_but_exists_is_left_when_it_is_as_rendered(rig: Rig) -> None:
    await rig.apply(config_map(a="1"))
    before = version_of(await rig.read())
    rig.mirror.clear()

    assert await rig.apply(config_map(a="1")) == ()

    assert version_of(await rig.read()) == before


async def test_delete_never_touches_an_object_made_anew(rig: Rig) -> None:
    await rig.apply(config_map())
    uid = (await rig.read())["metadata"]["uid"]
    rig.remove()
    rig.overwrite(config_map(new="yes"))

    ref = ChildRef(kind="ConfigMap", name="child", uid=uid)
    gone = ChildRef(kind="ConfigMap", name="never-there", uid=uid)
    await delete_children(rig.client, namespace=rig.owner.namespace, refs=[ref, gone])

    assert (await rig.read())["data"] == {"new": "yes"}


async def test_delete_removes_exactly_the_named_object(rig: Rig) -> None:
    await rig.apply(config_map(), config_map("other"))
    uid = (await rig.read())["metadata"]["uid"]

    ref = ChildRef(kind="ConfigMap", name="child", uid=uid)
    await delete_children(rig.client, namespace=rig.owner.namespace, refs=[ref])

    assert await rig.get() is None
    assert await rig.get("other") is not None


async def test_nothing_is_applied_for_an_owner_known_to_be_deleted(rig: Rig) -> None:
    assert await rig.apply(config_map(), deleting=True) == ()
    assert await rig.get() is None


async def test_nothing_is_applied_for_an_owner_whose_deletion_we_have_not_seen(rig: Rig) -> None:
    await rig.client.delete(COMPACT_MODEL, namespace=rig.owner.namespace, name=rig.owner.name, uid=rig.owner.uid)

    assert await rig.apply(config_map()) == ()

    assert await rig.get() is None


async def test_a_child_that_went_with_an_owner_seen_a_moment_ago_is_not_made_anew(rig: Rig) -> None:
    # given a pass under way, which read its owner when it began, however long a request takes here
    rig.owner, rig.recent = replace(rig.owner, known=True), Recent(alive=Sightings(ALIVE_SECONDS, lambda: 0.0))
    await rig.apply(config_map("first"))
    assert rig.recent.alive.recent(rig.owner.uid)

    # when the owner goes and the garbage collector took a child that was there
    await rig.client.delete(COMPACT_MODEL, namespace=rig.owner.namespace, name=rig.owner.name, uid=rig.owner.uid)

    # then what the mirror lacks is no child to make
    assert await rig.apply(config_map()) == ()
    assert await rig.get() is None


async def test_nothing_is_applied_in_a_namespace_that_is_being_deleted(
    rig: Rig, control_plane: ControlPlane
) -> None:
    await rig.apply(config_map())
    control_plane.stop_component(CONTROLLER_MANAGER.name)  # it would delete the owner too, which hides the rule
    try:
        rig.rival.delete(f"/api/v1/namespaces/{rig.owner.namespace}")

        assert await rig.apply(config_map("new")) == ()
        assert await rig.apply(config_map(a="2")) == ()

        assert await rig.get("new") is None
        assert (await rig.read())["data"] == {"a": "1"}
    finally:
        control_plane.start_component(CONTROLLER_MANAGER.name)


async def test_a_create_in_a_namespace_that_is_being_deleted_is_known_by_its_refusal(
    rig: Rig, control_plane: ControlPlane
) -> None:
    manifest = {**config_map(), "metadata": {"name": "new", "namespace": rig.owner.namespace}}
    control_plane.stop_component(CONTROLLER_MANAGER.name)
    try:
        rig.rival.delete(f"/api/v1/namespaces/{rig.owner.namespace}")

        with pytest.raises(Forbidden) as caught:
            await rig.client.apply(manifest)
    finally:
        control_plane.start_component(CONTROLLER_MANAGER.name)
    assert is_namespace_going(caught.value)
