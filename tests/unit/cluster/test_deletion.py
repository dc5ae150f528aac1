# SPDX-License-Identifier: Apache-2.0
"""What a plan deletes as it was seen, where one has changed since; against a server on loopback."""

import pytest
from aiohttp import web

from nimblet.cluster.apply import delete_children
from nimblet.cluster.errors import Transient
from nimblet.plan.facts import ChildRef
from tests.unit.loopback import connected

pytestmark = pytest.mark.asyncio


async def test_one_that_changed_since_is_seen_anew_and_puts_no_other_off() -> None:
    # Given two workloads to evict, the first of which the server has in a newer version than the one judged
    deleted: list[str] = []
    newer = {"metadata": {"name": "moved", "namespace": "team", "uid": "u1", "resourceVersion": "9"}}
    conflict = {
        "kind": "Status",
        "reason": "Conflict",
        "message": "the ResourceVersion in the precondition differs",
    }

    async def answer(request: web.Request) -> web.Response:
        name = request.path.rsplit("/", 1)[-1]
        if request.method == "GET":
            return web.json_response(newer)
        if name == "moved":
            return web.json_response(conflict, status=409)
        deleted.append(name)
        return web.json_response({"kind": "Status"})

    refs = [
        ChildRef(kind="Deployment", name="moved", uid="u1", version="7"),
        ChildRef(kind="Job", name="other", uid="u2", version="8"),
    ]
    seen: list[tuple[str, object]] = []
    # When they are deleted, then the pass is tried again, by what is there now
    async with connected(answer) as client:
        with pytest.raises(Transient):
            await delete_children(
                client, namespace="team", refs=refs, seen=lambda kind, body: seen.append((kind, body))
            )
    assert seen == [("Deployment", newer)]
    assert deleted == ["other"]
