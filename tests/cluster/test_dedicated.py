# SPDX-License-Identifier: Apache-2.0
"""A Dedicated store under the whole operator: a real StatefulSet and real claims, make-believe pods, no Qdrant."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.api import items
from e2e.cluster.controlplane import ControlPlane
from nimblet import labels
from nimblet.cli.main import main
from nimblet.names import qdrant
from tests.cluster.operator_support import Launcher, View, eventually
from tests.cluster.settling import ready, resyncs, settled, started
from tests.cluster.stub_server import Stub
from tests.cluster.test_index import documents, generations, holding, shows
from tests.cluster.volumes import volumes_by_hand

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture
def shelves(plane: ControlPlane) -> Iterator[str]:
    """A StorageClass with volumes made by hand: for the data and the snapshots of two servers."""
    with volumes_by_hand(plane, "shelf", size="30Gi", count=4) as name:
        yield name


def planned(view: View, plane: ControlPlane, directory: Path, store: Mapping[str, object]) -> str:
    """Return what `nimblet plan` tells of the index with another store, by the operator's own settings."""
    seen: Any = view.of("RetrievalIndex").model("handbook")
    head = {"name": "handbook", "namespace": view.namespace}
    body = {**seen, "metadata": head, "spec": {**seen["spec"], "store": store}}
    del body["status"]
    path = directory / "handbook.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    told = io.StringIO()
    with redirect_stdout(told):
        flags = ["--kubeconfig", str(plane.kubeconfig), "--settings", str(directory / "settings.yaml")]
        assert main(["plan", "-f", str(path), *flags]) == 0, told.getvalue()
    return told.getvalue()


def test_a_dedicated_store_serves_rests_and_outlives_a_bad_edit(
    launcher: Launcher, view: View, stub: Stub, shelves: str, plane: ControlPlane
) -> None:
    process, indexes = started(launcher), view.of("RetrievalIndex")
    documents(view)
    store = {"type": "Dedicated", "storageClassName": shelves, "size": "20Gi", "dedicated": {"replicas": 1}}
    # Given an index whose server is there, with claims of its own
    indexes.create("handbook", store=store)
    eventually(lambda: generations(view) == ["g000001"], what="the first build, once the server is ready")
    stub.retriever = holding("g000001", serving="g000001")
    ready(indexes, "handbook")
    assert indexes.model("handbook")["status"]["servers"] == {"number": 1, "count": 1, "copies": 1}
    assert set(view.children("StatefulSet")) == {"handbook-qdrant"}
    assert set(view.children("Deployment")) == {"handbook-retriever"}
    assert {"handbook-qdrant", "handbook-retriever"} <= set(view.children("NetworkPolicy"))
    # When nothing happens, nothing is written
    before = settled(process, view)
    resyncs(process, 3)
    assert view.versions() == before
    # When an edit is planned with a user's kubeconfig, what it would do is told, and nothing is written
    unchanged, moved, refused = (
        planned(view, plane, launcher.directory, {**store, "size": size}) for size in ("20Gi", "25Gi", "1Gi")
    )
    assert "Ready: True (Ready)" in unchanged
    assert "StatefulSet/handbook-qdrant-s2" not in unchanged
    assert {"  StatefulSet/handbook-qdrant", "  StatefulSet/handbook-qdrant-s2"} <= set(moved.splitlines())
    assert "Serving: True (Answering)" in moved
    assert "StoreTooSmall" in refused
    assert "StatefulSet" not in refused
    assert view.versions() == before
    # When the spec asks for servers that can't be made, it is told and nothing is touched
    made: Any = view.children("StatefulSet")["handbook-qdrant"]["metadata"]
    indexes.edit("handbook", store={**store, "size": "1Gi"})
    shows(indexes, "handbook", "Ready", "False", "UpdateFailed")
    assert indexes.condition("handbook", "Serving") == ("True", "Answering")
    after: Any = view.children("StatefulSet")["handbook-qdrant"]["metadata"]
    assert (after["uid"], after["generation"]) == (made["uid"], made["generation"])
    indexes.edit("handbook", store=store)
    ready(indexes, "handbook")
    # When it is suspended its pods go, and the number of its servers is kept
    indexes.edit("handbook", store=store, suspend=True)
    shows(indexes, "handbook", "Ready", "False", "Suspended")
    eventually(lambda: not any("-qdrant-" in name for name in view.children("Pod")), what="no server")
    kept: Any = view.children("StatefulSet")["handbook-qdrant"]
    assert (kept["spec"]["replicas"], kept["metadata"]["annotations"][labels.SERVERS]) == (0, "1")


def on(*names: str, serving: str, asked: tuple[int, ...], used: int) -> dict[str, object]:
    """Return a retriever's status that asks these sets of servers and uses one."""
    told: Any = holding(*names, serving=serving)
    urls = {number: f"http://{qdrant('handbook', number=number)}.{{ns}}.svc:6333" for number in asked}
    servers = [
        {"url": url, "used": number == used, "version": "1.18.2", "collections": [f"handbook-{serving}-a"]}
        for number, url in urls.items()
    ]
    return {**told, "store": {**told["store"], "servers": servers}}


def test_claims_of_another_size_are_moved_to_without_a_gap(
    launcher: Launcher, view: View, stub: Stub, shelves: str
) -> None:
    started(launcher)
    indexes = view.of("RetrievalIndex")
    documents(view)
    store = {"type": "Dedicated", "storageClassName": shelves, "size": "20Gi", "dedicated": {"replicas": 1}}

    def tell(*names: str, serving: str, asked: tuple[int, ...], used: int) -> None:
        text = json.dumps(on(*names, serving=serving, asked=asked, used=used))
        stub.retriever = json.loads(text.replace("{ns}", view.namespace))

    # Given an index that serves from a server of its own
    indexes.create("handbook", store=store)
    eventually(lambda: generations(view) == ["g000001"], what="the first build")
    tell("g000001", serving="g000001", asked=(1,), used=1)
    ready(indexes, "handbook")
    old: Any = view.children("StatefulSet")["handbook-qdrant"]["metadata"]
    # When claims of another size are asked for, another set is made beside it and built for
    tell("g000001", serving="g000001", asked=(1, 2), used=1)
    indexes.edit("handbook", store={**store, "size": "25Gi"})
    eventually(lambda: "g000002" in generations(view), what="a build on the new server")
    assert set(view.children("StatefulSet")) == {"handbook-qdrant", "handbook-qdrant-s2"}
    kept: Any = view.children("StatefulSet")["handbook-qdrant"]["metadata"]
    assert (kept["uid"], kept["generation"]) == (old["uid"], old["generation"])
    assert indexes.condition("handbook", "Serving") == ("True", "Answering")
    # When the new generation serves, the retriever is told to let go of the old server
    tell("g000001", "g000002", serving="g000002", asked=(1, 2), used=2)

    def asked() -> list[str]:
        config: Any = view.children("ConfigMap")["handbook-retriever"]
        found: list[str] = json.loads(config["data"]["config.json"])["store"].get("former", [])
        return found

    eventually(lambda: asked() == [], what="a retriever that asks the new server alone")
    assert "handbook-qdrant" in view.children("StatefulSet")
    # And once it has, the old set goes with its claims
    tell("g000002", serving="g000002", asked=(2,), used=2)
    eventually(lambda: set(view.children("StatefulSet")) == {"handbook-qdrant-s2"}, what="the old set gone")
    eventually(lambda: "handbook-qdrant" not in view.children("Service"), what="its Service gone")
    ready(indexes, "handbook")
    new = {"number": 2, "count": 1, "copies": 1}
    eventually(lambda: indexes.model("handbook")["status"]["servers"] == new, what="the new servers alone told")
    claims = f"/api/v1/namespaces/{view.namespace}/persistentvolumeclaims"
    eventually(
        lambda: all("-s2-" in str(item) for item in items(view.api.get(claims), "items")),
        what="the old claims gone",
    )
