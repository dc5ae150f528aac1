# SPDX-License-Identifier: Apache-2.0
"""cert-manager's own controllers and definitions issue what the operator asks for, on a real API server.

Not part of `make test`: `make test-cert-manager` builds the controllers first. Pods are make-believe.
"""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.cluster import process, toolchain
from e2e.cluster.controlplane import ControlPlane, ControlPlaneOptions
from e2e.cluster.kwok import FakeNode
from e2e.cluster.paths import cache_of
from e2e.cluster.process import Command
from e2e.cluster.progress import Progress
from e2e.cluster.toolchain import MODULES
from e2e.cluster.tools import CERT_MANAGER
from nimblet import labels
from nimblet.cluster.authority import CA_SECRET
from nimblet.cluster.pki import ENTROPY_BYTES, make_authority, public_facts
from nimblet.manifests.certificate import API_VERSION, ISSUER_NAME
from tests.cluster.crd_support import install, install_all, read_manifest
from tests.cluster.operator_support import (
    NAMESPACE,
    OPERATOR_USER,
    Launcher,
    View,
    condition_of,
    eventually,
    grant_least_rights,
    stages,
)
from tests.cluster.settling import ready, settled, started
from tests.cluster.stub_server import stub_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
MODULE: Final = "github.com/cert-manager/cert-manager"
DEFINITIONS: Final = ("certificaterequests", "certificates", "clusterissuers", "issuers")
TEAM: Final = "team"
SECRET: Final = "small-model-tls"


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(ControlPlaneOptions(scheduler=True, stages=stages())) as plane:
        install_all(plane.api)
        for name in (NAMESPACE, TEAM):
            plane.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        grant_least_rights(plane.api)
        plane.add_node(FakeNode("node-1"))
        yield plane


@pytest.fixture
def cert_manager(plane: ControlPlane, tmp_path: Path) -> Iterator[None]:
    """cert-manager's definitions, and its controllers."""
    cache = cache_of(os.environ)
    toolchain.ensure((CERT_MANAGER,), cache=cache, progress=Progress())
    argv = ("go", "list", "-m", "-f", "{{.Dir}}", MODULE)
    done = subprocess.run(
        argv, cwd=MODULES / CERT_MANAGER.module, check=True, capture_output=True, text=True, timeout=120
    )
    folder = Path(done.stdout.strip()) / "deploy" / "crds"
    for name in DEFINITIONS:
        install(plane.api, read_manifest(folder / f"cert-manager.io_{name}.yaml"))
    record = process.start(
        Command(
            name="certmanager",
            argv=(str(CERT_MANAGER.path(cache)), f"--kubeconfig={plane.kubeconfig}"),
            log=tmp_path / "certmanager.log",
            dies_with_parent=True,
        )
    )
    yield
    process.stop_all([record], grace_seconds=5.0)


@pytest.fixture
def launcher(plane: ControlPlane, tmp_path: Path) -> Iterator[Launcher]:
    with stub_server() as stub:
        launcher = Launcher(kubeconfig=plane.user_kubeconfig(OPERATOR_USER), stub=stub, directory=tmp_path)
        yield launcher
        launcher.end_all()
        assert launcher.flaws() == []


def put_issuer(view: View, name: str) -> None:
    """Make an Issuer with an authority of its own."""
    made = make_authority(entropy=os.urandom(ENTROPY_BYTES), now=datetime.now(UTC), seconds=365 * 86400)
    texts = {"tls.crt": made.certificate, "tls.key": made.key}
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    secret = {"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": data}
    view.api.create(f"/api/v1/namespaces/{TEAM}/secrets", secret)
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "Issuer",
        "metadata": {"name": name},
        "spec": {"ca": {"secretName": name}},
    }
    view.api.create(f"/apis/{API_VERSION}/namespaces/{TEAM}/issuers", manifest)


def shown(view: View) -> str:
    """Return the fingerprint of the certificate in the Secret."""
    return public_facts(secret_of(view)["data"]).fingerprint


def secret_of(view: View) -> Any:
    return view.api.get(view.path("Secret", SECRET))


def mounted(view: View) -> str:
    template = view.children("Deployment")["small-model"]["spec"]["template"]["metadata"]
    return str(template["annotations"][labels.CERTIFICATE])


def settings(mode: str, issuer: str) -> dict[str, object]:
    return {"tls": {"mode": mode, "issuer": {"name": issuer}}}


@pytest.mark.usefixtures("cert_manager")
def test_cert_manager_itself_issues_and_hands_over(plane: ControlPlane, launcher: Launcher) -> None:
    view = View(api=plane.api, namespace=TEAM)
    put_issuer(view, "first")
    launcher.more = settings("CertManager", "first")
    process_ = started(launcher)
    view.create("small")
    ready(view, "small")
    assert secret_of(view)["metadata"]["annotations"][ISSUER_NAME] == "first"
    eventually(lambda: bool(secret_of(view)["metadata"].get("ownerReferences")), what="the Secret owned by us")
    first = shown(view)
    assert mounted(view) == first[:12]
    before = settled(process_, view)
    assert shown(view) == first  # our part of the Secret brought cert-manager to nothing
    # an issuer that is not there: what runs goes on with the Secret that there is
    process_.kill()
    launcher.more = settings("CertManager", "second")
    process_ = started(launcher)
    eventually(lambda: condition_of(view.model("small"), "Ready") != ("True", "Ready"), what="Ready not True")
    assert condition_of(view.model("small"), "Serving") == ("True", "Answering")
    assert shown(view) == first
    eventually(
        lambda: condition_of(view.model("small"), "Ready") == ("False", "CertificateNotReady"),
        seconds=180,
        what="the missing issuer told",
    )
    assert view.versions()["Deployment/small-model"] == before["Deployment/small-model"]
    put_issuer(view, "second")
    eventually(
        lambda: shown(view) != first and mounted(view) == shown(view)[:12], seconds=180, what="the second's"
    )
    ready(view, "small")
    second = shown(view)
    process_.kill()
    # to our own authority, and back again
    launcher.more = settings("OwnCA", "second")
    process_ = started(launcher)
    eventually(lambda: shown(view) != second and mounted(view) == shown(view)[:12], what="our own certificate")
    ready(view, "small")
    own = shown(view)
    settled(process_, view)
    assert shown(view) == own
    process_.kill()
    launcher.more = settings("CertManager", "second")
    started(launcher)
    eventually(lambda: shown(view) != own and mounted(view) == shown(view)[:12], seconds=180, what="the issuer's")
    ready(view, "small")
    authority: Any = plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/{CA_SECRET}")
    listed = json.loads(base64.b64decode(authority["data"]["authorities.json"]))
    trusted = base64.b64decode(secret_of(view)["data"]["ca.crt"]).decode()
    assert listed[0]["certificate"].strip() not in trusted
