# SPDX-License-Identifier: Apache-2.0
"""Time limits, throttling, restarts and the guard, against a small HTTP server on loopback."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web
from kubernetes.aio.client import Configuration

from nimblet.cluster.client import Client
from nimblet.cluster.errors import Invalid, LeadershipLost, Transient
from nimblet.cluster.resources import CONFIG_MAP, LEASE
from nimblet.cluster.transport import Request, Timeouts, Transport, proxy_of
from tests.loopback import served

pytestmark = pytest.mark.asyncio
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}


@dataclass
class Server:
    """Answers with `answers` in order, then with the last one for ever; keeps what it was asked."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


@dataclass
class Time:
    seconds: float = 0.0

    def read(self) -> float:
        return self.seconds


def answer(status: int = 200, *, headers: dict[str, str] | None = None, **body: object) -> Answer:
    async def respond(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return respond


def failure(status: int, reason: str, message: str, **details: object) -> Answer:
    return answer(status, kind="Status", reason=reason, message=message, details=details)


def page(*names: str, token: str = "") -> Answer:
    return answer(
        metadata={"resourceVersion": "7", "continue": token},
        items=[{"metadata": {"name": each}} for each in names],
    )


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with served(app) as server.url:
        yield server


@pytest.fixture
def time() -> Time:
    return Time()


@pytest_asyncio.fixture
async def client(server: Server, time: Time) -> AsyncIterator[Client]:
    client = Client(Transport(Configuration(host=server.url), clock=time.read))
    yield client
    await client.close()


async def test_a_silent_server_is_given_up_in_time(server: Server) -> None:
    client = Client(Transport(Configuration(host=server.url), timeouts=Timeouts(total=0.2)))

    async def silence(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():  # until the client hangs up
            await response.write(b" ")
        return response

    server.answers = [silence]

    with pytest.raises(Transient, match=r"no answer within 0\.2 s"):
        await client.get(CONFIG_MAP, namespace="n", name="a")
    await client.close()


async def test_a_refused_connection_is_transient(server: Server) -> None:
    client = Client(Transport(Configuration(host="http://127.0.0.1:9")))

    with pytest.raises(Transient):
        await client.get(CONFIG_MAP, namespace="n", name="a")
    await client.close()


async def test_a_proxys_page_is_transient(client: Client, server: Server) -> None:
    async def page_of_a_proxy(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>", content_type="text/html")

    server.answers = [page_of_a_proxy]

    with pytest.raises(Transient, match="a proxy in between"):
        await client.get(CONFIG_MAP, namespace="n", name="a")


async def test_retry_after_silences_everything_but_the_lease(client: Client, server: Server, time: Time) -> None:
    server.answers = [answer(429, headers={"Retry-After": "3"}, kind="Status", message="slow"), answer(kind="X")]
    with pytest.raises(Transient) as throttled:
        await client.get(CONFIG_MAP, namespace="n", name="a")
    assert throttled.value.retry_after == 3

    with pytest.raises(Transient) as silent:
        await client.get(CONFIG_MAP, namespace="n", name="a")
    await client.get(LEASE, namespace="n", name="a")
    time.seconds += 3
    await client.get(CONFIG_MAP, namespace="n", name="a")

    assert silent.value.retry_after == 3
    assert [request.path.split("/")[-2] for request in server.requests] == ["configmaps", "leases", "configmaps"]


async def test_a_list_that_expires_begins_anew_and_says_so(client: Client, server: Server) -> None:
    server.answers = [page("a", token="t"), failure(410, "Expired", "too old"), page("a", token="u"), page("b")]

    pages = [each async for each in client.pages(CONFIG_MAP, label_selector="x=y")]

    assert [(len(each.items), each.restarted) for each in pages] == [(1, False), (1, True), (1, False)]
    assert [request.query.get("continue") for request in server.requests] == [None, "t", None, "u"]
    assert {request.query["labelSelector"] for request in server.requests} == {"x=y"}


async def test_a_list_that_expires_for_ever_is_given_up(client: Client, server: Server) -> None:
    server.answers = [failure(410, "Expired", "too old")]

    with pytest.raises(Transient, match="expired"):
        [each async for each in client.list(CONFIG_MAP)]

    assert len(server.requests) == 4


async def test_an_apply_says_who_writes_strictly_and_for_how_long(client: Client, server: Server) -> None:
    server.answers = [answer(kind="ConfigMap")]

    await client.apply(MAP, uid="u", force=True, dry_run=True)

    query = dict(server.requests[0].query)
    assert server.requests[0].headers["Content-Type"] == "application/apply-patch+yaml"
    assert query["fieldManager"] == "nimblet"
    assert query["fieldValidation"] == "Strict"
    assert (query["force"], query["dryRun"]) == ("true", "All")
    assert "timeout" in query


async def test_a_500_about_the_schema_is_invalid_and_not_tried_again(client: Client, server: Server) -> None:
    server.answers = [failure(500, "InternalError", "failed to create typed patch object: .x: field not declared")]

    with pytest.raises(Invalid):
        await client.apply(MAP)


async def test_writes_wait_for_the_guard_but_reads_and_the_lease_do_not(client: Client, server: Server) -> None:
    async def guard() -> None:
        raise LeadershipLost

    server.answers = [answer(kind="X")]
    guarded = client.guarded(guard)

    for write in (
        guarded.apply(MAP),
        guarded.create(MAP),
        guarded.replace(MAP),
        guarded.delete(CONFIG_MAP, namespace="n", name="a", uid="u"),
        guarded.apply_status(MAP, resource_version="1"),
    ):
        with pytest.raises(LeadershipLost):
            await write
    assert server.requests == []
    await guarded.get(CONFIG_MAP, namespace="n", name="a")
    await guarded.replace({**MAP, "apiVersion": "coordination.k8s.io/v1", "kind": "Lease"})


async def test_a_delete_names_the_uid_and_outlives_a_missing_object(client: Client, server: Server) -> None:
    bodies: list[object] = []

    async def keep(request: web.Request) -> web.StreamResponse:
        bodies.append(json.loads(await request.text()))
        return web.json_response({"kind": "Status"})

    server.answers = [keep, failure(404, "NotFound", "gone"), failure(409, "Conflict", "uid differs")]
    deleted = [await client.delete(CONFIG_MAP, namespace="n", name="a", uid="u") for _ in range(3)]

    assert deleted == [True, False, False]
    assert bodies == [
        {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": "u"},
            "propagationPolicy": "Background",
        }
    ]


async def test_what_may_only_go_as_it_was_seen_stays_when_it_changed(client: Client, server: Server) -> None:
    bodies: list[dict[str, object]] = []

    async def keep(request: web.Request) -> web.StreamResponse:
        bodies.append(json.loads(await request.text()))
        return web.json_response({"kind": "Status"})

    server.answers = [keep, failure(409, "Conflict", "the ResourceVersion differs")]
    assert await client.delete(CONFIG_MAP, namespace="n", name="a", uid="u", version="7")
    assert bodies[0]["preconditions"] == {"uid": "u", "resourceVersion": "7"}
    with pytest.raises(Transient):
        await client.delete(CONFIG_MAP, namespace="n", name="a", uid="u", version="7")


async def test_the_token_is_asked_for_with_every_request(server: Server) -> None:
    tokens = iter(["one", "two"])

    def renew(configuration: Configuration) -> None:
        configuration.api_key["BearerToken"] = f"Bearer {next(tokens)}"

    configuration = Configuration(host=server.url, api_key={"BearerToken": "Bearer stale"})
    configuration.refresh_api_key_hook = renew  # type: ignore[assignment]  # the library's stub knows only None
    server.answers = [answer(kind="X")]
    transport = Transport(configuration)

    for _ in range(2):
        await transport.send(Request(method="GET", path="/x"))
    await transport.close()

    assert [each.headers["Authorization"] for each in server.requests] == ["Bearer one", "Bearer two"]


async def test_the_environment_names_the_proxy_of_the_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_of("https://api.example.test:6443") is None

    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.test:3128")
    monkeypatch.setenv("NO_PROXY", "inside.test")

    assert proxy_of("https://api.example.test:6443") == "http://proxy.example.test:3128"
    assert proxy_of("https://api.inside.test:6443") is None
