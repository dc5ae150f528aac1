# SPDX-License-Identifier: Apache-2.0
"""From watch events to keys, and kopf's settings."""

import asyncio
import warnings

import kopf
import pytest

from nimblet.cluster.key import Key
from nimblet.cluster.login import Login
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.trim import WATCHED
from nimblet.shell.handlers import Intake, connection_of, registry_for, unplaced, watch_settings
from nimblet.shell.queue import Queue
from tests.unit.cluster_facts.builders import child, condition, model, pod
from tests.unit.shell.virtual import dice

SMALL = Key("CompactModel", "team", "small")
LOGIN = Login(
    server="https://127.0.0.1:6443",
    authority="/ca.pem",
    certificate=None,
    private_key=None,
    insecure=False,
    token="t",
)


def node(version: int, cpu: str) -> dict[str, object]:
    return {
        "metadata": {"name": "n", "uid": "n", "resourceVersion": str(version)},
        "status": {"allocatable": {"cpu": cpu}},
    }


@pytest.fixture
def intake() -> Intake:
    return Intake(mirror=Mirror(), queue=Queue(rng=dice()))


@pytest.mark.asyncio
async def test_a_childs_event_wakes_its_owner_once_per_change(intake: Intake) -> None:
    event = {"type": "MODIFIED", "object": child("Service", "small-model")}
    intake.take("Service", event)
    assert intake.queue.depth == 1
    intake.queue._ready.clear()
    intake.take("Service", event)
    assert intake.queue.depth == 0


@pytest.mark.asyncio
async def test_what_a_watch_lists_is_told_of_and_what_it_sees_is_not() -> None:
    told: list[str] = []
    intake = Intake(mirror=Mirror(), queue=Queue(rng=dice()), listing=lambda: told.append("listing"))
    intake.take("Service", {"type": "ADDED", "object": child("Service", "small-model")})
    assert told == []
    intake.take("Service", {"type": None, "object": child("Service", "small-model")})
    assert told == ["listing"]


@pytest.mark.asyncio
async def test_a_deleted_child_wakes_its_owner(intake: Intake) -> None:
    body = child("Service", "small-model")
    intake.mirror.put("Service", body)
    intake.take("Service", {"type": "DELETED", "object": body})
    assert intake.queue.depth == 1


@pytest.mark.asyncio
async def test_our_own_status_write_wakes_nobody(intake: Intake) -> None:
    intake.mirror.put("CompactModel", model(version=1))
    intake.take("CompactModel", {"type": "MODIFIED", "object": model(version=2, placed="True")})
    assert intake.queue.depth == 0


@pytest.mark.asyncio
async def test_who_names_a_resource_looks_again_when_it_fails_for_another_reason(intake: Intake) -> None:
    # given an Assistant, and its model that does not serve
    named = {"metadata": {"name": "help", "namespace": "team", "uid": "h", "resourceVersion": "1"}}
    intake.mirror.put("Assistant", {**named, "spec": {"modelRef": {"name": "small"}}})
    failed = {"conditions": [condition("Serving", "False", "ImagePullFailed")]}
    intake.mirror.put("CompactModel", {**model("small"), "status": failed})
    # when that is for another reason by now, then the Assistant has to tell it
    failed = {"conditions": [condition("Serving", "False", "OOMKilled")]}
    intake.take("CompactModel", {"type": "MODIFIED", "object": {**model("small", version=2), "status": failed}})
    assert list(intake.queue._ready["team"]) == [Key("Assistant", "team", "help")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "name", "woken"), [("TEEPolicy", "p", 1), ("Namespace", "team", 1), ("Namespace", "x", 0)]
)
async def test_what_may_bind_a_resource_wakes_it(intake: Intake, kind: str, name: str, woken: int) -> None:
    intake.mirror.put("CompactModel", model("small", placed="True"))
    body = {"metadata": {"name": name, "uid": name, "resourceVersion": "7"}}
    intake.take(kind, {"type": "ADDED", "object": body})
    assert intake.queue.depth == woken


@pytest.mark.asyncio
async def test_a_node_wakes_only_who_waits_for_one(intake: Intake) -> None:
    intake.mirror.put("CompactModel", model("settled", placed="True"))
    intake.mirror.put("CompactModel", model("small", placed="False"))
    intake.take("Node", {"type": "ADDED", "object": node(1, "4")})
    assert unplaced(intake.mirror) == (SMALL,)
    assert intake.queue.depth == 1


@pytest.mark.asyncio
async def test_a_pod_without_owner_or_label_wakes_nobody(intake: Intake) -> None:
    stranger = pod(labels={"nimblet.dev/model": ""})
    intake.take("Pod", {"type": "ADDED", "object": stranger})
    assert intake.queue.depth == 0


def test_there_are_only_event_handlers_one_for_each_kind(intake: Intake) -> None:
    async def login() -> Login:
        await asyncio.sleep(0)
        return LOGIN

    registry = registry_for(intake, login=login)
    handlers = registry._watching.get_all_handlers()
    assert len(handlers) == len(WATCHED)
    assert {handler.selector.any_name for handler in handlers if handler.selector is not None} >= {"pods", "nodes"}
    assert "secrets" not in {handler.selector.any_name for handler in handlers if handler.selector is not None}
    others = (registry._changing, registry._spawning, registry._indexing, registry._webhooks)
    assert not any(other.get_all_handlers() for other in others)


def test_watches_of_other_peoples_kinds_are_narrowed_by_the_server() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selectors = watch_settings().watching.label_selectors
    assert {selector.any_name for selector in selectors} == {
        "pods",
        "deployments",
        "statefulsets",
        "jobs",
        "configmaps",
        "services",
        "serviceaccounts",
        "networkpolicies",
        "poddisruptionbudgets",
        "persistentvolumeclaims",
    }
    assert set(selectors.values()) == {"app.kubernetes.io/managed-by=nimblet"}


def test_the_log_in_of_the_watches_is_our_clients() -> None:
    info = connection_of(LOGIN)
    assert isinstance(info, kopf.ConnectionInfo)
    assert (info.server, info.scheme, info.token, info.insecure) == (LOGIN.server, "Bearer", "t", False)
    assert "t'" not in repr(LOGIN).replace("certificate", "")
