# SPDX-License-Identifier: Apache-2.0
"""The operator's questions to pods that speak TLS: by the pod's address, verified by the name of its Service."""

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from nimblet import labels
from nimblet.cluster.certificates import tls_host
from nimblet.cluster.observe import Asking, ask, pod_url
from nimblet.cluster.observed import Metadata
from nimblet.cluster.pki import ENTROPY_BYTES, Authority, bundle_of, issue
from nimblet.manifests.network import HTTP_PORT, PROGRESS_PORT
from nimblet.plan.facts import Answer, Observation
from tests.builders import a_pod
from tests.loopback import served
from tls_testing.mounted import DAY, new_authority

HOST = "smollm2-model.team.svc"
TOKEN = {"choices": [{"message": {"content": "Hi"}}], "usage": {"completion_tokens": 1}}


@asynccontextmanager
async def pod(authority: Authority, folder: Path) -> AsyncIterator[str]:
    """Serve a token over HTTPS; yield the address."""
    leaf = issue(authority, names=[HOST], entropy=os.urandom(ENTROPY_BYTES), now=datetime.now(UTC), seconds=DAY)
    for name, text in (("tls.crt", leaf.certificate), ("tls.key", leaf.key)):
        (folder / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(TOKEN)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with served(app, tls=context) as url:
        yield url


async def _asked(url: str, trusted: Authority, *, host: str) -> Observation:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(cadata=bundle_of([trusted]))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, force_close=True)) as session:
        return await ask(session, Asking(url=url, api_key="nk-1", timeout=20, tls_host=host))


@pytest.mark.asyncio
async def test_a_pod_is_verified_by_its_services_name(tmp_path: Path) -> None:
    ours, strange = new_authority(), new_authority()
    async with pod(ours, tmp_path) as url:
        assert (await _asked(url, ours, host=HOST)).answer is Answer.ANSWERED
        for trusted, host in ((strange, HOST), (ours, "other-model.team.svc")):
            refused = await _asked(url, trusted, host=host)
            assert refused.answer is Answer.FAILED
            assert "Certificate" in refused.detail


def test_a_pods_own_label_says_how_it_is_spoken_to() -> None:
    plain = replace(a_pod("r1"), ip="192.0.2.1")
    secured = replace(plain, tls_host=HOST)
    assert pod_url(plain, HTTP_PORT) == "http://192.0.2.1:8080"
    assert pod_url(secured, HTTP_PORT) == "https://192.0.2.1:8080"
    assert pod_url(secured, PROGRESS_PORT) == "http://192.0.2.1:8081"
    own = {labels.INSTANCE: "smollm2", labels.COMPONENT: "model"}
    assert tls_host(Metadata(namespace="team", labels=own)) == ""
    assert tls_host(Metadata(namespace="team", labels={**own, labels.TRANSPORT: "tls"})) == HOST
