# SPDX-License-Identifier: Apache-2.0
"""What is read of Certificates and of their Secrets, and by whom the operator verifies pods."""

import base64
import contextlib
import os
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from nimblet import labels
from nimblet.cluster.certificates import Bearer
from nimblet.cluster.client import Client, Json
from nimblet.cluster.issued import CertManager, Requests
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.pki import ENTROPY_BYTES, Authority, issue, secret_data
from nimblet.cluster.resources import Resource
from nimblet.cluster.trust import MOST_BYTES, Trust
from nimblet.manifests.certificate import ISSUER_NAME
from nimblet.plan.transport import Wanted
from nimblet.plan.transportfacts import RequestFacts, SecretFacts, TransportFacts
from tests.unit.loopback import connected
from tls_testing.mounted import DAY, new_authority

NOW = datetime.now(UTC)
BEARER = Bearer(key=Key("CompactModel", "team", "small"), uid="uid-1")
WANTED = Wanted(service="small-model", namespace="team")
OWNER = {"kind": "CompactModel", "name": "small", "uid": "uid-1", "controller": True}
MADE = "2026-01-01T00:00:00Z"


def entries(authority: Authority, *, names: tuple[str, ...] = WANTED.dns_names, since: datetime = NOW) -> Json:
    leaf = issue(authority, names=names, entropy=os.urandom(ENTROPY_BYTES), now=since, seconds=DAY)
    return secret_data(leaf, authority.certificate)


def secret(data: Json, **metadata: Any) -> Json:
    meta = {"name": WANTED.secret, "namespace": "team", **metadata}
    return {"kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "data": data}


def filled(data: Json, **metadata: Any) -> Json:
    """Return a Secret as cert-manager makes it: nobody's."""
    annotations = {labels.ISSUED_FOR: "CompactModel.small", ISSUER_NAME: "company"}
    return secret(data, annotations=annotations, **metadata)


class Shelf:
    """One Secret, or none."""

    def __init__(self, body: Json | None) -> None:
        self._body = body

    async def get(self, resource: Resource, *, namespace: str | None = None, name: str) -> Json | None:
        assert (resource.kind, namespace, name) == ("Secret", "team", WANTED.secret)
        return self._body


CURRENT = RequestFacts(uid="uid-c", current=True)


async def gathered(body: Json | None, trust: Trust | None = None) -> TransportFacts:
    reader = CertManager(trust=trust or Trust())
    return await reader.gather(Shelf(body), WANTED, BEARER, CURRENT, NOW + timedelta(minutes=1))


@pytest.mark.asyncio
async def test_no_key_is_taken_out_of_a_secret() -> None:
    data = entries(new_authority())
    found = await gathered(filled({**data, "tls.key": "not even base64!"}))
    assert found.live is not None
    assert found.live.dns_names == WANTED.dns_names
    assert found.material == {}
    assert "not even" not in repr(found)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changes", "facts", "live"),
    [
        ({}, SecretFacts(marked=True, filled=True), True),
        ({"ownerReferences": [OWNER]}, SecretFacts(marked=True, filled=True), True),
        (
            {"ownerReferences": [{**OWNER, "uid": "uid-c"}]},  # cert-manager may have the Certificate own it
            SecretFacts(owned=False, marked=True, filled=True),
            True,
        ),
        (
            {"ownerReferences": [{**OWNER, "uid": "uid-9"}]},
            SecretFacts(ours=False, owned=False, marked=True, filled=True),
            False,
        ),
        ({"annotations": {}}, SecretFacts(ours=False, owned=False), False),
        ({"annotations": {}, "ownerReferences": [OWNER]}, SecretFacts(), True),  # by our own authority
        (
            {"annotations": {ISSUER_NAME: "(tls.mode OwnCA)"}, "ownerReferences": [OWNER]},
            SecretFacts(marked=True),
            True,
        ),
    ],
)
async def test_whose_a_secret_is_and_who_filled_it(changes: Json, facts: SecretFacts, live: bool) -> None:
    body = filled(entries(new_authority()))
    body["metadata"] |= changes
    found = await gathered(body)
    assert found.secret == facts
    assert (found.live is not None) is live


@pytest.mark.asyncio
async def test_what_no_pod_can_serve_with_is_not_there() -> None:
    good = entries(new_authority())
    for data in (
        entries(new_authority(), since=NOW - timedelta(days=2)),
        entries(new_authority(), names=("small-model",)),
        {**good, "tls.crt": base64.b64encode(b"nothing").decode()},
    ):
        found = await gathered(filled(data))
        assert (found.live, found.secret) == (None, SecretFacts(marked=True, filled=True))
    for authorities in ({}, {"ca.crt": ""}, {"ca.crt": base64.b64encode(b"nothing").decode()}):
        data = {key: text for key, text in good.items() if key != "ca.crt"} | authorities
        found = await gathered(filled(data))
        assert (found.live, found.secret) == (None, SecretFacts(marked=True, filled=True, authorities=False))
    assert await gathered(None) == TransportFacts(request=CURRENT)


def certificate(*conditions: Json, generation: int = 2, uid: str = "uid-1") -> Json:
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {
            "name": WANTED.secret,
            "namespace": "team",
            "uid": "uid-c",
            "generation": generation,
            "resourceVersion": "5",
            "creationTimestamp": MADE,
            "labels": {
                labels.MANAGED_BY: labels.MANAGED_BY_VALUE,
                labels.MODEL: "small",
                labels.INSTANCE: "small",
            },
            "ownerReferences": [{**OWNER, "uid": uid, "apiVersion": labels.API_VERSION}],
        },
        "status": {"conditions": list(conditions)},
    }


def condition(type_: str, status: str, reason: str = "R", *, of: int = 2, words: str = "") -> Json:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": words or type_.lower(),
        "observedGeneration": of,
        "lastTransitionTime": "2026-01-02T00:00:00Z",
    }


AT_FIRST, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
KNOWN = RequestFacts(uid="uid-c", since=LATER)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ((), RequestFacts(uid="uid-c", since=AT_FIRST)),
        ((condition("Ready", "True"),), replace(KNOWN, current=True, message="ready")),
        ((condition("Ready", "True", of=1),), RequestFacts(uid="uid-c", since=AT_FIRST)),  # of an older spec
        (
            (condition("Ready", "False"), condition("Issuing", "True")),
            replace(KNOWN, message="ready"),
        ),
        (
            (condition("Ready", "False"), condition("Issuing", "False", "Failed", words="sealed")),
            replace(KNOWN, failed=True, message="sealed"),
        ),
        (
            (condition("Ready", "False"), condition("Issuing", "False", "Failed", of=1)),
            replace(KNOWN, message="ready"),  # the spec was put right since
        ),
    ],
)
def test_a_certificates_conditions_are_read_for_its_spec_of_now(
    conditions: tuple[Json, ...], expected: RequestFacts
) -> None:
    mirror = Mirror()
    mirror.put("Certificate", certificate(*conditions))
    assert Requests(mirror=mirror, namespaces=()).facts(BEARER, WANTED.secret) == expected


def test_the_certificate_of_another_is_as_none() -> None:
    mirror = Mirror()
    mirror.put("Certificate", certificate(uid="uid-9"))
    assert Requests(mirror=mirror, namespaces=()).facts(BEARER, WANTED.secret) == RequestFacts()


@pytest.mark.asyncio
async def test_a_definition_that_comes_and_goes_wakes_everybody_once() -> None:
    served = False

    async def handle(request: web.Request) -> web.Response:
        assert request.path == "/apis/cert-manager.io/v1/certificates"
        if not served:
            return web.Response(status=404, text="404 page not found")
        metadata = {"resourceVersion": "9"}
        return web.json_response({"metadata": metadata, "items": [certificate(condition("Ready", "True"))]})

    mirror, model = (
        Mirror(),
        {"metadata": {"name": "other", "namespace": "team", "uid": "u", "resourceVersion": "1"}},
    )
    mirror.put("CompactModel", model)
    other, small = Key("CompactModel", "team", "other"), BEARER.key
    requests = Requests(mirror=mirror, namespaces=())
    async with connected(handle) as client:
        assert await _refreshed(requests, client) == [other]
        assert not requests.facts(BEARER, WANTED.secret).served
        assert await _refreshed(requests, client) == []
        served = True
        assert await _refreshed(requests, client) == [other, small]
        assert requests.facts(BEARER, WANTED.secret).current
        assert await _refreshed(requests, client) == []
        served = False
        assert await _refreshed(requests, client) == [other, small]
        assert requests.facts(BEARER, WANTED.secret) == RequestFacts(served=False)


async def _refreshed(requests: Requests, client: Client) -> list[Key]:
    return sorted(await requests.refresh(client))


def test_an_authority_counts_in_its_own_namespace_alone(tmp_path: Path) -> None:
    ours, theirs = new_authority(), new_authority()
    trust = Trust()
    for namespace, authority in (("team", ours), ("others", theirs), ("team", ours)):
        trust.learn(namespace, authority.certificate)
    here, there = "small-model.team.svc", "small-model.others.svc"
    assert trust.of("") is None
    assert believes(trust, here, ours, tmp_path)
    assert believes(trust, there, theirs, tmp_path)
    assert not believes(trust, here, theirs, tmp_path)
    assert not believes(trust, "small-model.unknown.svc", ours, tmp_path)
    trust.learn("team", theirs.certificate)  # the older one goes on to be trusted: pods show it for a while
    assert believes(trust, here, ours, tmp_path)
    assert believes(trust, here, theirs, tmp_path)


def believes(trust: Trust, host: str, signer: Authority, folder: Path) -> bool:
    """Tell whether a server of this name, by this signer, is believed: a handshake in memory."""
    leaf = issue(signer, names=[host], entropy=os.urandom(ENTROPY_BYTES), now=NOW, seconds=DAY)
    (folder / "pair").write_text(leaf.certificate + leaf.key)
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trust.of(host)
    serving.load_cert_chain(folder / "pair")
    assert trusting is not None
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=host)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (client, server, client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError:
        return False
    assert client.version() == "TLSv1.3"
    return True


def test_authorities_that_are_changed_again_and_again_cost_a_bounded_memory() -> None:
    # given a Secret whose authority somebody replaces without end
    first, last = new_authority().certificate, new_authority().certificate
    filler = "# " + "x" * 60_000 + "\n"
    trust = Trust()
    trust.learn("team", first)
    for _ in range(MOST_BYTES // len(filler) + 4):
        trust.learn("team", filler + new_authority().certificate)
        trust.learn("team", first)  # which another server of the namespace shows all the while
    trust.learn("team", last)
    # then the oldest are forgotten, and what is in use is not
    context = trust.of(WANTED.host)
    assert context is not None
    held = {ssl.DER_cert_to_PEM_cert(item) for item in context.get_ca_certs(binary_form=True)}
    assert {first, last} <= held
    assert len(held) <= MOST_BYTES // len(filler) + 3
