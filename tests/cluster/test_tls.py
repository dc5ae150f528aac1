# SPDX-License-Identifier: Apache-2.0
"""The installation's own authority and the certificates by it, on a real API server."""

import asyncio
import base64
import json
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from e2e.cluster.controlplane import ControlPlane
from nimblet import labels
from nimblet.cluster.authority import CA_SECRET, AuthorityError, Keeper
from nimblet.cluster.client import Client, connect
from nimblet.cluster.errors import Forbidden
from nimblet.cluster.pki import (
    ENTROPY_BYTES,
    Authority,
    BadCertificateError,
    certificate_facts,
    issue,
    public_facts,
    secret_data,
)
from nimblet.cluster.resources import SECRET
from nimblet.manifests.certificate import ISSUER_NAME
from nimblet.plan.transport import Wanted
from nimblet.plan.transportfacts import CertificateFacts
from nimblet.settings import TLS
from tests.cluster.issuing import Issuing, install_definition, remove_definition
from tests.cluster.operator_support import (
    NAMESPACE,
    OPERATOR_USER,
    Launcher,
    View,
    condition_of,
    eventually,
    grant_own_rights,
)
from tests.cluster.settling import ready, resyncs, settled, started
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
LIVES = TLS(mode="OwnCA")


@pytest.fixture
def own(plane: ControlPlane) -> str:
    """A namespace where operators with their least rights run."""
    name = f"operators-{uuid.uuid4().hex[:8]}"
    plane.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    grant_own_rights(plane.api, name)
    return name


@pytest_asyncio.fixture
async def keepers(plane: ControlPlane, own: str) -> AsyncIterator[tuple[Keeper, Keeper]]:
    """Two operators' keepers of one authority."""
    clients = [await connect(plane.user_kubeconfig(OPERATOR_USER)) for _ in range(2)]

    async def granted() -> bool:
        try:
            await clients[0].get(SECRET, namespace=own, name=CA_SECRET)
        except Forbidden:
            return False
        return True

    await until(granted, seconds=60, what="the operators' grant in the authorizer")
    first, second = (_keeper(client, own) for client in clients)
    yield first, second
    for client in clients:
        await client.close()


def _keeper(client: Client, namespace: str) -> Keeper:
    return Keeper(
        client=client,
        namespace=namespace,
        tls=LIVES,
        entropy=lambda: os.urandom(ENTROPY_BYTES),
        now=lambda: datetime.now(UTC),
    )


def _version(plane: ControlPlane, namespace: str) -> str:
    found: Any = plane.api.get(f"/api/v1/namespaces/{namespace}/secrets/{CA_SECRET}")
    return str(found["metadata"]["resourceVersion"])


@pytest.mark.asyncio
async def test_one_authority_is_made_by_two_operators_and_renewed_in_time(
    plane: ControlPlane, own: str, keepers: tuple[Keeper, Keeper]
) -> None:
    first, second = keepers
    assert all(await asyncio.gather(first.refresh(), second.refresh()))
    assert len(first.authorities) == 1
    assert first.authorities == second.authorities
    version = _version(plane, own)
    assert not await first.refresh()
    assert _version(plane, own) == version  # steady state writes nothing
    (old,) = first.authorities
    later = datetime.now(UTC) + timedelta(seconds=LIVES.authority_seconds * 2 / 3 + 60)
    for keeper in keepers:
        keeper.now = lambda: later
    assert all(await asyncio.gather(first.refresh(), second.refresh()))
    assert first.authorities == second.authorities
    assert len(first.authorities) == 2
    assert first.signer() == old  # the new one is only trusted for a while
    first.now = lambda: later + timedelta(seconds=LIVES.overlap_seconds + 1)
    assert first.signer() == first.authorities[1]


@pytest.mark.asyncio
async def test_a_deleted_authority_is_put_back_and_a_broken_one_refused(
    plane: ControlPlane, own: str, keepers: tuple[Keeper, Keeper]
) -> None:
    first, second = keepers
    path = f"/api/v1/namespaces/{own}/secrets/{CA_SECRET}"
    await first.refresh()
    plane.api.delete(path)
    assert not await first.refresh()
    await second.refresh()
    assert second.authorities == first.authorities
    found: Any = plane.api.get(path)
    found["data"]["authorities.json"] = base64.b64encode(b"[]x").decode()
    plane.api.replace(path, found)
    with pytest.raises(AuthorityError, match="restore it from a backup"):
        await second.refresh()


def test_a_model_gets_a_certificate_that_is_healed_and_renewed(
    launcher: Launcher, view: View, plane: ControlPlane
) -> None:
    launcher.more = {"tls": {"mode": "OwnCA"}}
    process = started(launcher)
    view.create("small")
    ready(view, "small")
    assert view.model("small")["status"]["endpoint"] == f"https://small-model.{view.namespace}.svc/v1"
    assert view.children("Service")["small-model"]["spec"]["ports"][0]["port"] == 443
    first = _facts(view, plane)
    wanted = Wanted(service="small-model", namespace=view.namespace)
    assert set(first.dns_names) == set(wanted.dns_names)
    assert first.issuer
    assert _mounted(view) == first.fingerprint[:12]
    _tamper(view, {"tls.key": base64.b64encode(b"no key").decode()})
    second = _rolled(view, plane, first.fingerprint)
    (authority,) = _authorities(plane)
    old = issue(
        authority,
        names=wanted.dns_names,
        entropy=os.urandom(ENTROPY_BYTES),
        now=datetime.now(UTC) - timedelta(days=61),
        seconds=90 * 86400,
    )
    overdue = secret_data(old, authority.certificate)
    _tamper(view, overdue)
    shown = certificate_facts(overdue, [authority]).fingerprint
    third = _rolled(view, plane, first.fingerprint, second.fingerprint, shown)
    assert third.not_after > datetime.now(UTC) + timedelta(days=80)
    _tamper(view, {"ca.crt": base64.b64encode(b"").decode()})
    eventually(
        lambda: _facts(view, plane) == third, what="the trusted authorities put back beside the certificate"
    )
    before = settled(process, view)
    process.kill()
    again = started(launcher)
    resyncs(again, 1)
    assert view.versions() == before  # the same authority, and no certificate made anew
    again.kill()
    _take_away(plane)


def _facts(view: View, plane: ControlPlane) -> CertificateFacts:
    return certificate_facts(view.children("Secret")["small-model-tls"]["data"], _authorities(plane))


def _authorities(plane: ControlPlane) -> list[Authority]:
    found: Any = plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/{CA_SECRET}")
    return [Authority(**item) for item in json.loads(base64.b64decode(found["data"]["authorities.json"]))]


def _mounted(view: View) -> str:
    template = view.children("Deployment")["small-model"]["spec"]["template"]["metadata"]
    return str(template["annotations"][labels.CERTIFICATE])


def _tamper(view: View, data: dict[str, str]) -> None:
    path = view.path("Secret", "small-model-tls")
    view.change(path, lambda found: {**found, "data": {**found["data"], **data}})


def _rolled(view: View, plane: ControlPlane, *but: str) -> CertificateFacts:
    """Return the certificate that the Secret holds and the pods have; `but`: fingerprints of others."""
    seen: list[CertificateFacts] = []

    def is_another() -> bool:
        try:
            found = _facts(view, plane)
        except BadCertificateError:
            return False  # what was tampered with is still there
        seen.append(found)
        return found.fingerprint not in but and _mounted(view) == found.fingerprint[:12]

    eventually(is_another, what="another certificate that the pods have")
    ready(view, "small")
    return seen[-1]


def _take_away(plane: ControlPlane) -> None:
    """Leave no authority behind: other tests of this control plane run without. An operator would put it back."""
    plane.api.delete(f"/api/v1/namespaces/{NAMESPACE}/secrets/{CA_SECRET}")


TLS_SECRET = "small-model-tls"
ISSUER = {"name": "company", "kind": "ClusterIssuer"}


def test_cert_manager_issues_once_it_is_there_and_breaks_nothing(
    launcher: Launcher, view: View, plane: ControlPlane
) -> None:
    launcher.more = {"tls": {"mode": "CertManager", "issuer": ISSUER}}
    process, cert_manager = started(launcher), Issuing(view)
    view.create("small")
    _told(view, "False", "CertManagerMissing")
    assert not view.children("Deployment")
    install_definition(view)
    # found without a restart
    eventually(lambda: not view.is_gone(cert_manager.path(TLS_SECRET)), what="the Certificate")
    cert_manager.fail(TLS_SECRET, "the company's issuer is sealed")
    _told(view, "False", "CertificateNotReady")
    assert "the company's issuer is sealed" in str(view.model("small")["status"])
    assert not view.children("Deployment")
    cert_manager.issue(TLS_SECRET)
    ready(view, "small")
    first = _shown(view)
    eventually(
        lambda: bool(_secret(view)["metadata"].get("ownerReferences")), what="the Secret owned by the model"
    )
    assert _shown(view) == first  # owning it took nothing away
    before = settled(process, view)
    # renewed by an issuer that tells no authority: what runs goes on
    cert_manager.issue(TLS_SECRET, leaving_out=["ca.crt"])
    _told(view, "False", "AuthorityMissing")
    assert condition_of(view.model("small"), "Serving") == ("True", "Answering")
    assert _unchanged(view, before, "Deployment")
    cert_manager.issue(TLS_SECRET)
    eventually(lambda: _shown(view) != first and _mounted(view) == _shown(view)[:12], what="pods with the new one")
    ready(view, "small")
    process.kill()
    _back_to_our_own(launcher, view, cert_manager)
    remove_definition(view)
    _take_away(plane)


def _back_to_our_own(launcher: Launcher, view: View, cert_manager: Issuing) -> None:
    """Switch to the mode OwnCA, and to none."""
    left = _shown(view)
    launcher.more = {"tls": {"mode": "OwnCA", "issuer": ISSUER}}
    process = started(launcher)
    eventually(lambda: view.is_gone(cert_manager.path(TLS_SECRET)), what="no Certificate")
    eventually(lambda: _shown(view) != left and _mounted(view) == _shown(view)[:12], what="pods with our own")
    ready(view, "small")
    assert _secret(view)["metadata"]["annotations"][ISSUER_NAME] == "(tls.mode OwnCA)"
    settled(process, view)
    process.kill()


def _told(view: View, status: str, reason: str) -> None:
    eventually(lambda: view.condition("small", "Ready") == (status, reason), what=f"Ready {status} {reason}")


def _secret(view: View) -> Any:
    return view.api.get(view.path("Secret", TLS_SECRET))


def _shown(view: View) -> str:
    """Return the fingerprint of the certificate in the Secret."""
    return public_facts(_secret(view)["data"]).fingerprint


def _unchanged(view: View, before: Mapping[str, str], kind: str) -> bool:
    return {name: version for name, version in view.versions().items() if name.startswith(kind)} == {
        name: version for name, version in before.items() if name.startswith(kind)
    }
