# SPDX-License-Identifier: Apache-2.0
"""The client's verbs on a real API server: lists in chunks, errors by kind, the master key's race."""

import asyncio
import json
from pathlib import Path

import pytest

from e2e.cluster.controlplane import ControlPlane
from nimblet.cluster.client import Client, connect
from nimblet.cluster.errors import Conflict, Forbidden, NotFound, Transient
from nimblet.cluster.masterkey import SECRET_NAME, MasterKeyError, get_master_key
from nimblet.cluster.resources import CONFIG_MAP, DEPLOYMENT, SECRET, Resource

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]


def config_map(namespace: str, name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"made-by": "test"}},
    }


async def test_lists_come_page_by_page_with_one_version_and_typed_items(
    client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nimblet.cluster.client.PAGE_SIZE", 3)
    for number in range(7):
        await client.create(config_map(namespace, f"map-{number}"))

    pages = [page async for page in client.pages(CONFIG_MAP, namespace=namespace, label_selector="made-by=test")]

    assert [len(page.items) for page in pages] == [3, 3, 1]
    assert len({page.resource_version for page in pages}) == 1
    assert {item["kind"] for page in pages for item in page.items} == {"ConfigMap"}


async def test_a_missing_object_is_none_but_a_missing_kind_is_an_error(client: Client, namespace: str) -> None:
    absent = Resource(kind="Nothing", plural="nothings", group="nowhere.test", version="v1")

    assert await client.get(DEPLOYMENT, namespace=namespace, name="absent") is None
    with pytest.raises(NotFound):
        await client.get(absent, namespace=namespace, name="absent")


async def test_a_taken_name_and_an_old_version_are_conflicts(client: Client, namespace: str) -> None:
    first = await client.create(config_map(namespace, "one"))
    await client.replace({**first, "data": {"a": "1"}})

    with pytest.raises(Conflict) as taken:
        await client.create(config_map(namespace, "one"))
    with pytest.raises(Conflict):
        await client.replace({**first, "data": {"a": "2"}})

    assert taken.value.reason == "AlreadyExists"


async def test_a_user_without_rights_is_forbidden_in_the_servers_words(
    control_plane: ControlPlane, namespace: str
) -> None:
    stranger = await connect(control_plane.user_kubeconfig("stranger"))

    with pytest.raises(Forbidden, match='User "stranger" cannot get resource "configmaps"'):
        await stranger.get(CONFIG_MAP, namespace=namespace, name="one")
    await stranger.close()


async def test_an_unknown_token_is_transient_since_tokens_are_renewed(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    kubeconfig = json.loads(control_plane.kubeconfig.read_text(encoding="utf-8"))
    kubeconfig["users"][0]["user"] = {"token": "expired"}
    target = tmp_path / "kubeconfig"
    target.write_text(json.dumps(kubeconfig), encoding="utf-8")
    late = await connect(target)

    with pytest.raises(Transient) as caught:
        await late.get(CONFIG_MAP, namespace="default", name="one")
    await late.close()

    assert caught.value.status == 401


async def test_the_servers_minor_version_is_read(client: Client) -> None:
    assert await client.server_minor() >= 30


async def test_two_operators_agree_on_one_master_key(client: Client, namespace: str) -> None:
    first, second = await asyncio.gather(
        get_master_key(client, namespace=namespace, fresh=b"1" * 32),
        get_master_key(client, namespace=namespace, fresh=b"2" * 32),
    )

    assert first == second
    assert await get_master_key(client, namespace=namespace, fresh=b"3" * 32) == first


async def test_a_damaged_master_key_is_an_error_and_never_replaced(client: Client, namespace: str) -> None:
    secret = {**config_map(namespace, SECRET_NAME), "kind": "Secret", "data": {"key": "c2hvcnQ="}}
    await client.create(secret)

    with pytest.raises(MasterKeyError, match="restore it from a backup"):
        await get_master_key(client, namespace=namespace, fresh=b"1" * 32)

    kept = await client.get(SECRET, namespace=namespace, name=SECRET_NAME)
    assert kept is not None
    assert kept["data"] == {"key": "c2hvcnQ="}
