# SPDX-License-Identifier: Apache-2.0
"""One light control plane for the whole run, a namespace and a client for each test."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from e2e.cluster.controlplane import ControlPlane, ControlPlaneOptions
from nimblet.cluster.client import Client, connect
from nimblet.cluster.resources import COMPACT_MODEL
from tests.cluster.apply_support import Rig, owner_of
from tests.cluster.crd_support import install_all, model_manifest, valid_spec


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
