# SPDX-License-Identifier: Apache-2.0
"""One light control plane for the whole run, and others with make-believe pods for the operator's process."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from e2e.cluster.controlplane import ControlPlane, ControlPlaneOptions
from e2e.cluster.kwok import FakeNode
from nimblet.cluster.client import Client, connect
from nimblet.cluster.resources import COMPACT_MODEL
from tests.cluster.apply_support import Rig, owner_of
from tests.cluster.crd_support import install_all, model_manifest, valid_spec
from tests.cluster.operator_support import NAMESPACE, OPERATOR_USER, Launcher, View, grant_least_rights, stages
from tests.cluster.stub_server import Stub, stub_server


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane(ControlPlaneOptions()) as plane:
        install_all(plane.api)
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:10]}"
    control_plane.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    if "deletionTimestamp" not in str(control_plane.api.get(f"/api/v1/namespaces/{name}").get("metadata")):
        control_plane.api.delete(f"/api/v1/namespaces/{name}")


@pytest_asyncio.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[Client]:
    client = await connect(control_plane.kubeconfig)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def rig(client: Client, control_plane: ControlPlane, namespace: str) -> Rig:
    """An owner (a CompactModel) in a namespace of its own, and what it takes to apply its children."""
    manifest = model_manifest(valid_spec(), name="owner")
    manifest["metadata"] = {"name": "owner", "namespace": namespace}
    body = await client.create(manifest)
    assert body["kind"] == COMPACT_MODEL.kind
    return Rig(client=client, rival=control_plane.api, owner=owner_of(body))


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """Nodes and pods in make-believe, and the operator's least rights; one for each module."""
    with ControlPlane(ControlPlaneOptions(scheduler=True, stages=stages())) as plane:
        install_all(plane.api)
        plane.api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        grant_least_rights(plane.api)
        plane.add_node(FakeNode("node-1"))
        yield plane


@pytest.fixture
def stub() -> Iterator[Stub]:
    with stub_server() as stub:
        yield stub


@pytest.fixture
def launcher(plane: ControlPlane, stub: Stub, tmp_path: Path) -> Iterator[Launcher]:
    """Start operators; their logs must tell of no defect."""
    launcher = Launcher(
        kubeconfig=plane.user_kubeconfig(OPERATOR_USER),
        stub=stub,
        directory=tmp_path,
    )
    yield launcher
    launcher.end_all()
    assert launcher.flaws() == []


@pytest.fixture
def view(plane: ControlPlane) -> Iterator[View]:
    """A namespace of the test's own on that plane."""
    name = f"team-{uuid.uuid4().hex[:8]}"
    plane.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield View(api=plane.api, namespace=name)
    plane.api.delete(f"/api/v1/namespaces/{name}")
