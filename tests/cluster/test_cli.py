# SPDX-License-Identifier: Apache-2.0
"""`nimblet plan` and `nimblet status` against a real API server, with a user's kubeconfig."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.kwok import FakeNode
from nimblet.cli.main import main
from nimblet.cluster.client import connect
from nimblet.cluster.resources import COMPACT_MODEL
from nimblet.plan.facts import ModelFacts
from tests.builders import SMOLLM2_URI, a_model, failed_job, plan_of
from tests.cluster.crd_support import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
SAMPLE = ROOT / "samples" / "compactmodel-smollm2.yaml"
DEDICATED = ROOT / "samples" / "retrievalindex-dedicated.yaml"


def run(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    code = main([str(part) for part in argv])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text("{}", encoding="utf-8")
    return path


@pytest.fixture
def node(control_plane: ControlPlane, namespace: str) -> Iterator[FakeNode]:
    """A node for one test: the control plane is shared."""
    node = FakeNode(f"node-of-{namespace}")
    control_plane.add_node(node)
    yield node
    control_plane.delete_node(node.name)


@pytest.mark.usefixtures("node")
def test_plan_of_a_new_model_reads_the_clusters_nodes(
    control_plane: ControlPlane, namespace: str, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(
        capsys,
        "plan",
        "-f",
        SAMPLE,
        "-n",
        namespace,
        "--kubeconfig",
        control_plane.kubeconfig,
        "--settings",
        settings,
    )
    assert (code, err) == (0, "")
    assert "Job/smollm2-resolve-" in out


@pytest.fixture
def shelf(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """A StorageClass for one test: the control plane is shared, and has none."""
    name, classes = f"shelf-of-{namespace}", "/apis/storage.k8s.io/v1/storageclasses"
    control_plane.api.create(classes, {"metadata": {"name": name}, "provisioner": "kubernetes.io/no-provisioner"})
    yield name
    control_plane.api.delete(f"{classes}/{name}")


@pytest.mark.usefixtures("node")
def test_plan_of_a_new_index_with_servers_of_its_own(
    control_plane: ControlPlane, namespace: str, shelf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, manifest = tmp_path / "settings.yaml", tmp_path / "archive.yaml"
    settings.write_text("{}", encoding="utf-8")
    where = ("-n", namespace, "--kubeconfig", control_plane.kubeconfig, "--settings", settings)
    [sample] = yaml.safe_load_all(DEDICATED.read_text(encoding="utf-8"))
    sample["spec"]["embedding"] = {"url": "https://huggingface.co/v1", "model": "minilm"}

    def planned(storage_class: str) -> list[str]:
        sample["spec"]["store"]["storageClassName"] = storage_class
        manifest.write_text(yaml.safe_dump(sample), encoding="utf-8")
        code, out, err = run(capsys, "plan", "-f", manifest, *where)
        assert (code, err) == (0, "")
        return [line.strip() for line in out.splitlines()]

    found = planned(shelf)
    assert "StatefulSet/archive-qdrant" in found, found
    assert not [line for line in found if line.startswith("Secret/")]
    refused = planned(f"no-{shelf}")
    assert "StatefulSet/archive-qdrant" not in refused
    assert "Ready: False (StorageClassMissing)" in refused, refused


def test_settings_come_from_the_operators_config_map(
    control_plane: ControlPlane, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("plan", "-f", SAMPLE, "-n", namespace, "--kubeconfig", control_plane.kubeconfig, "-o", "yaml")
    code, _, err = run(capsys, *argv, "--operator-namespace", namespace)
    assert code == 1
    assert "give --operator-namespace NAME or --settings FILE" in err
    config = {"images": {"loader": "registry.example/loader:7"}}
    control_plane.api.create(
        f"/api/v1/namespaces/{namespace}/configmaps",
        {"metadata": {"name": "nimblet-operator"}, "data": {"settings.json": yaml.safe_dump(config)}},
    )
    code, out, _ = run(capsys, *argv, "--operator-namespace", namespace)
    assert code == 0
    [job] = [item for item in yaml.safe_load_all(out) if item.get("kind") == "Job"]
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/loader:7"


def test_status_shows_stored_conditions(
    control_plane: ControlPlane, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(store_failed_model(control_plane.kubeconfig, namespace))
    code, out, _ = run(capsys, "status", "smollm2", "-n", namespace, "--kubeconfig", control_plane.kubeconfig)
    assert code == 0
    assert "Stalled: True (RepositoryNotFound)" in out
    assert "The hub said RepositoryNotFound." in out


async def store_failed_model(kubeconfig: Path, namespace: str) -> None:
    """Create a model whose status tells of a missing repository."""
    client = await connect(kubeconfig)
    try:
        body = await client.create(
            {
                "apiVersion": COMPACT_MODEL.api_version,
                "kind": COMPACT_MODEL.kind,
                "metadata": {"name": "smollm2", "namespace": namespace},
                "spec": {"source": {"uri": SMOLLM2_URI}},
            }
        )
        from_plan = plan_of(a_model(), facts_of_failure()).status
        await client.apply_status(
            {
                "apiVersion": COMPACT_MODEL.api_version,
                "kind": COMPACT_MODEL.kind,
                "metadata": {"name": "smollm2", "namespace": namespace},
                "status": from_plan.model_dump(mode="json", by_alias=True, exclude_none=True),
            },
            resource_version=str(body["metadata"]["resourceVersion"]),
        )
    finally:
        await client.close()


def facts_of_failure() -> ModelFacts:
    return ModelFacts(jobs=(failed_job(a_model()),))


def test_absent_model_and_absent_key_are_told(
    control_plane: ControlPlane, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("-n", namespace, "--kubeconfig", control_plane.kubeconfig)
    code, _, err = run(capsys, "status", "nobody", *where)
    assert (code, "see `kubectl get compactmodels -A`" in err) == (1, True)
    code, _, err = run(capsys, "ask", "nobody", "Where?", *where)
    assert (code, "expected Secret nobody-key" in err) == (1, True)


def test_ask_reaches_for_the_service_through_the_api_server(
    control_plane: ControlPlane, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = base64.b64encode(b"nk-1").decode()
    control_plane.api.create(
        f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "m-key"}, "data": {"api-key": key}}
    )
    control_plane.api.create(
        f"/apis/nimblet.dev/v1alpha1/namespaces/{namespace}/compactmodels",
        {
            "apiVersion": COMPACT_MODEL.api_version,
            "kind": COMPACT_MODEL.kind,
            "metadata": {"name": "m"},
            "spec": {"source": {"uri": SMOLLM2_URI}},
        },
    )
    code, _, err = run(capsys, "ask", "m", "Where?", "-n", namespace, "--kubeconfig", control_plane.kubeconfig)
    assert code == 1
    assert "found 404" in err
    assert "m-model" in err


def test_collections_of_an_index_that_is_there_are_not_purged(
    control_plane: ControlPlane, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {"embedding": {"url": "http://e.example/v1", "model": "m", "revision": "1"}, "sources": []}
    source = {"name": "docs", "configMap": {"name": "docs"}}
    body = {
        "apiVersion": "nimblet.dev/v1alpha1",
        "kind": "RetrievalIndex",
        "metadata": {"name": "handbook", "namespace": namespace},
        "spec": {**spec, "sources": [source]},
    }
    path = f"/apis/nimblet.dev/v1alpha1/namespaces/{namespace}/retrievalindexes"
    made: Any = control_plane.api.create(path, body)
    uid, url = made["metadata"]["uid"], "http://127.0.0.1:1"
    argv = ("index", "purge", "--uid", uid, "--url", url, "-n", namespace, "--yes")
    code, out, err = run(capsys, *argv, "--kubeconfig", control_plane.kubeconfig)
    assert (code, out) == (1, "")
    assert "RetrievalIndex handbook" in err
    assert "delete it first" in err
    # once it is gone, the server is asked
    control_plane.api.delete(f"{path}/handbook")
    code, _, err = run(capsys, *argv, "--kubeconfig", control_plane.kubeconfig)
    assert code == 1
    assert "expected a Qdrant server at http://127.0.0.1:1" in err
