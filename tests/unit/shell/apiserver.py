# SPDX-License-Identifier: Apache-2.0
"""A little API server on loopback: discovery of our kinds, lists of one node, watches as a test wants them.

Only for tests.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Final

from aiohttp import web

from nimblet.cluster.login import Login
from nimblet.cluster.resources import RESOURCES, Resource
from tests.loopback import served

Watch = Callable[[Resource], AsyncIterator[Mapping[str, object]]]
"""The events of each watch of a kind; its end ends the watch."""
VERBS: Final = ("list", "watch", "get")
VERSION: Final = "10"
NODE: Final[Mapping[str, object]] = {"metadata": {"name": "node-1", "uid": "node-1", "resourceVersion": "9"}}
"""What every list of nodes has."""


async def silence(_: Resource) -> AsyncIterator[Mapping[str, object]]:
    """Yield no event, and don't end."""
    await asyncio.Event().wait()
    yield {}


def failure(code: int) -> Mapping[str, object]:
    """Return the event by which the server ends a watch."""
    return {"type": "ERROR", "object": status_of(code)}


def status_of(code: int) -> Mapping[str, object]:
    """Return an error as the API server words it."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": f"it says {code}"}


def changes(resource: Resource) -> Iterator[Mapping[str, object]]:
    """Yield changes of one object after another, without end."""
    number = int(VERSION)
    while True:
        number += 1
        metadata = {"name": f"n{number}", "namespace": "team", "uid": f"u{number}", "resourceVersion": str(number)}
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        yield {"type": "ADDED", "object": body}


@asynccontextmanager
async def api_server(watch: Watch = silence) -> AsyncIterator[Login]:
    """Serve; yield how to log in."""
    app = web.Application()
    app.add_routes([web.get("/api", _versions), web.get("/apis", _groups), web.get("/version", _version)])
    for (group, version), resources in groupby(sorted(RESOURCES, key=_place), key=_place):
        _serve_group(app, _base(group, version), tuple(resources), watch)
    async with served(app) as url:
        yield Login(server=url, authority=None, certificate=None, private_key=None, insecure=True, token=None)


def _place(resource: Resource) -> tuple[str, str]:
    return resource.group, resource.version


def _base(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


async def _versions(_: web.Request) -> web.Response:
    return web.json_response({"versions": ["v1"]})


async def _version(_: web.Request) -> web.Response:
    return web.json_response({"major": "1", "minor": "32"})


async def _groups(_: web.Request) -> web.Response:
    groups = [
        {
            "name": group,
            "versions": [{"version": version, "groupVersion": f"{group}/{version}"}],
            "preferredVersion": {"version": version, "groupVersion": f"{group}/{version}"},
        }
        for group, version in sorted({_place(resource) for resource in RESOURCES if resource.group})
    ]
    return web.json_response({"groups": groups})


def _serve_group(app: web.Application, base: str, resources: Sequence[Resource], watch: Watch) -> None:
    async def discovery(_: web.Request) -> web.Response:
        return web.json_response({"resources": [_discovered(resource) for resource in resources]})

    app.router.add_get(base, discovery)
    for resource in resources:
        app.router.add_get(f"{base}/{resource.plural}", _answering(resource, watch))


def _discovered(resource: Resource) -> Mapping[str, object]:
    return {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "kind": resource.kind,
        "namespaced": resource.namespaced,
        "verbs": list(VERBS),
    }


def _answering(resource: Resource, watch: Watch) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") != "true":
            items = [NODE] if resource.kind == "Node" else []
            return web.json_response({"metadata": {"resourceVersion": VERSION}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        async for event in watch(resource):
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    return answer
