# SPDX-License-Identifier: Apache-2.0
"""The operator's own HTTP port: /metrics, /livez, /readyz. Read-only, no user text, no secrets."""

import socket
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a probe passes, and why."""

    ok: bool
    why: str


Probe = Callable[[], Verdict]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds after which silence means death: of resyncs, of a waiting queue, of a standby's lease reads."""

    resync: float
    queue: float
    lease: float


@dataclass(frozen=True, kw_only=True)
class Signs:
    """Signs of life, as ages in seconds. `resync` is None before the first one ended."""

    leads: bool
    running: float
    resync: float | None
    queue: float
    lease: float | None


def liveness(signs: Signs, limits: Limits) -> Verdict:
    """Judge the process: a leader by its resyncs and its queue, a standby by its reads of the lease."""
    if not signs.leads:
        age = signs.lease if signs.lease is not None else signs.running
        return Verdict(ok=age <= limits.lease, why=f"standby: the lease was read {age:.0f} s ago")
    resync = signs.resync if signs.resync is not None else signs.running
    if resync > limits.resync:
        return Verdict(ok=False, why=f"the last resync ended {resync:.0f} s ago, limit {limits.resync:.0f} s")
    if signs.queue > limits.queue:
        return Verdict(ok=False, why=f"keys wait and none was finished for {signs.queue:.0f} s")
    return Verdict(ok=True, why=f"leading: the last resync ended {resync:.0f} s ago")


def readiness(signs: Signs) -> Verdict:
    """Judge whether the process does its part: a standby stands by, a leader has read the cluster once."""
    if signs.leads and signs.resync is None:
        return Verdict(ok=False, why="leading, and the cluster is being read for the first time")
    return Verdict(ok=True, why="leading" if signs.leads else "standing by")


def application(*, registry: CollectorRegistry, live: Probe, ready: Probe) -> web.Application:
    """Return the application; nothing is bound yet."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def livez(_: web.Request) -> web.Response:
        return _answer(live())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(ready())

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/livez", livez), web.get("/readyz", readyz)])
    return app


def _answer(verdict: Verdict) -> web.Response:
    return web.Response(status=200 if verdict.ok else 503, text=f"{verdict.why}\n")


def listener(port: int) -> socket.socket:
    """Return a socket on all addresses, of both families where there are both; port 0 takes one free one."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


async def serve(app: web.Application, *, port: int) -> web.AppRunner:
    """Bind and serve; the caller ends it with `cleanup()`. Port 0 takes a free one."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, listener(port)).start()
    return runner
