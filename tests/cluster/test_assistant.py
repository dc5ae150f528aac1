# SPDX-License-Identifier: Apache-2.0
"""Assistants under the whole operator: they follow what they name, and what their gateway tells of itself."""

import json
from typing import Any

import pytest
import yaml

from nimblet import labels
from nimblet.cli.main import main
from tests.cluster.operator_support import Launcher, View, eventually
from tests.cluster.settling import ready, resyncs, settled, started
from tests.cluster.stub_server import GATEWAY_STATUS, RETRIEVER_STATUS, Stub

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

QUICK = 15
"""Seconds within which a recorded failure must show."""


@pytest.fixture
def assistants(view: View) -> View:
    """The namespace's Assistants."""
    return view.of("Assistant")


def shows(view: View, name: str, type_: str, status: str, reason: str) -> None:
    """Wait until a condition says this, as long as a recorded failure may take to show."""
    eventually(
        lambda: view.condition(name, type_) == (status, reason), seconds=QUICK, what=f"{type_}={status} {reason}"
    )


def rests(view: View, name: str) -> None:
    """Wait until a resource tells that it rests, once its pods are gone: what follows it can't know sooner."""
    eventually(lambda: view.condition(name, "Serving") == ("False", "Suspended"), what=f"{name} at rest")


def gateways(view: View) -> dict[str, Any]:
    return {name: pod for name, pod in view.children("Pod").items() if "-gateway-" in name}


def test_an_assistant_follows_its_model(launcher: Launcher, view: View, assistants: View, stub: Stub) -> None:
    # Given an Assistant whose model is not there yet
    process = started(launcher)
    assistants.create("help")
    shows(assistants, "help", "Ready", "False", "ModelMissing")
    assert "help-gateway" not in view.children("Deployment")
    # When the model comes and serves
    view.create("small")
    ready(assistants, "help")
    # Then the gateway was asked by a key of its own, and nothing is written from then on
    assert assistants.condition("help", "Serving") == ("True", "Answering")
    assert set(view.children("Secret")) == {"small-key", "help-gateway-key"}
    assert len(stub.keys) == 2
    before = settled(process, view)
    resyncs(process, 2)
    assert view.versions() == before
    # When the model stops, so does the Assistant, and it comes back with it
    view.edit("small", suspend=True)
    rests(view, "small")
    shows(assistants, "help", "Serving", "False", "ModelNotServing")
    assert assistants.condition("help", "Ready") == ("False", "ModelNotServing")
    view.edit("small", suspend=False)
    ready(assistants, "help")


def build(view: View, stub: Stub, *, chunks: int) -> View:
    """Make an index of a ConfigMap, whose first build leaves so many passages; return the namespace's indexes."""
    indexes = view.of("RetrievalIndex")
    config = {"name": "handbook", "namespace": view.namespace, "labels": {labels.USE: "true"}}
    path = f"/api/v1/namespaces/{view.namespace}/configmaps"
    view.api.create(path, {"metadata": config, "data": {"a.md": "The office opens at nine."}})
    indexes.create("handbook")
    eventually(lambda: any("-build-" in name for name in view.children("Job")), what="the first build")
    made = {"name": "g000001", "embedding": "e", "documents": 1, "chunks": chunks, "bytes": 1, "sealed": True}
    stub.retriever = {**RETRIEVER_STATUS, "serving": "g000001", "generations": [{**made, "gate": None}]}
    return indexes


def test_an_assistant_follows_its_index(launcher: Launcher, view: View, assistants: View, stub: Stub) -> None:
    started(launcher)
    view.create("small")
    assistants.create("help", grounding="Required", indexRefs=[{"name": "handbook"}])
    shows(assistants, "help", "Ready", "False", "IndexMissing")
    indexes = build(view, stub, chunks=7)
    ready(assistants, "help")
    assert assistants.model("help")["status"]["indexes"] == [
        {"name": "handbook", "generation": "g000001", "documents": 1, "chunks": 7}
    ]
    indexes.edit("handbook", suspend=True)
    rests(indexes, "handbook")
    shows(assistants, "help", "Serving", "False", "IndexNotServing")
    indexes.edit("handbook", suspend=False)
    ready(assistants, "help")


def test_a_plan_of_what_runs_changes_nothing_and_one_of_an_edit_shows_it(
    launcher: Launcher, view: View, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    started(launcher)
    assistants = view.of("Assistant")
    view.create("small")
    assistants.create("help", grounding="Required", indexRefs=[{"name": "handbook"}])
    indexes = build(view, stub, chunks=7)
    ready(indexes, "handbook")
    ready(assistants, "help")
    file, settings = launcher.directory / "all.yaml", launcher.directory / "defaults.yaml"
    settings.write_text("{}", encoding="utf-8")
    stored = [view.model("small"), indexes.model("handbook"), assistants.model("help")]

    def planned(*changed: Any) -> dict[str, Any]:
        file.write_text(yaml.safe_dump_all([{**item, "status": {}} for item in changed]), encoding="utf-8")
        argv = ["plan", "-f", file, "--kubeconfig", launcher.kubeconfig, "--settings", settings, "-o", "yaml"]
        assert main([str(part) for part in argv]) == 0
        documents = list(yaml.safe_load_all(capsys.readouterr().out))
        return {f"{item['kind']}/{item['metadata']['name']}": item for item in documents}

    found = planned(*stored)
    for name in ("small", "handbook", "help"):
        kind = next(kind for kind in ("CompactModel", "RetrievalIndex", "Assistant") if f"{kind}/{name}" in found)
        conditions = {item["type"]: item["status"] for item in found[f"{kind}/{name}"]["status"]["conditions"]}
        assert (name, conditions["Ready"], conditions["Serving"]) == (name, "True", "True")
    running = {f"Deployment/{name}": item for name, item in view.children("Deployment").items()}
    assert {name for name in found if name.startswith("Deployment/")} == set(running)
    for name, live in running.items():
        rendered, head = found[name]["spec"]["template"]["metadata"], live["spec"]["template"]["metadata"]
        assert rendered["labels"][labels.REVISION] == head["labels"][labels.REVISION]
    assert not [name for name in found if name.startswith("Job/")], "nothing is built again"
    edited = json.loads(json.dumps(stored[2]))
    edited["spec"]["modelRef"] = {"name": "nobody"}
    told = planned(edited)["Assistant/help"]["status"]["conditions"]
    assert {item["type"]: (item["status"], item["reason"]) for item in told}["Stalled"] == ("True", "ModelMissing")


def test_a_bad_edit_leaves_the_gateway_serving_until_it_is_put_right(
    launcher: Launcher, view: View, assistants: View
) -> None:
    started(launcher)
    view.create("small")
    assistants.create("help")
    ready(assistants, "help")
    before = view.children("Deployment")["help-gateway"]["metadata"]["generation"]
    assistants.edit("help", modelRef={"name": "missing"})
    shows(assistants, "help", "Ready", "False", "UpdateFailed")
    assert assistants.condition("help", "Serving") == ("True", "Answering")
    assert assistants.condition("help", "Stalled") == ("True", "ModelMissing")
    assistants.edit("help", grounding="Required", indexRefs=[{"name": "handbook"}], modelRef={"name": "small"})
    shows(assistants, "help", "Stalled", "True", "IndexMissing")
    assert view.children("Deployment")["help-gateway"]["metadata"]["generation"] == before
    assistants.edit("help", grounding="Off", indexRefs=[])
    ready(assistants, "help")
    assert view.children("Deployment")["help-gateway"]["metadata"]["generation"] == before


def test_a_gateway_that_can_not_answer_is_told_in_its_own_words(
    launcher: Launcher, view: View, assistants: View, stub: Stub
) -> None:
    failed = {"ok": False, "reason": "ModelUnavailable", "message": "the model answered 401"}
    stub.gateway = {**GATEWAY_STATUS, "selfTest": failed}
    started(launcher)
    view.create("small")
    assistants.create("help")
    eventually(
        lambda: assistants.condition("help", "Ready") == ("False", "SelfTestFailed"), what="the failed test told"
    )
    conditions = assistants.model("help")["status"]["conditions"]
    message = next(item["message"] for item in conditions if item["type"] == "Ready")
    assert "ModelUnavailable: the model answered 401" in message
    stub.gateway = GATEWAY_STATUS
    ready(assistants, "help")


def test_scaling_keeps_the_running_gateway(launcher: Launcher, view: View, assistants: View) -> None:
    started(launcher)
    view.create("small")
    assistants.create("help")
    ready(assistants, "help")
    before = set(gateways(view))
    assistants.scale("help", 2)
    eventually(lambda: len(gateways(view)) == 2 and assistants.is_ready("help"), what="two gateways Ready")
    assert before < set(gateways(view))
    assert "help-gateway" in view.children("PodDisruptionBudget")
    seen = assistants.api.get(f"{assistants.models()}/help/scale")
    assert seen["status"] == {"replicas": 2, "selector": assistants.model("help")["status"]["selector"]}


def test_an_operator_killed_at_any_write_ends_the_same(launcher: Launcher, view: View, assistants: View) -> None:
    view.create("small")
    assistants.create("help")
    for writes in (3, 9, 17):
        process = launcher.start()
        eventually(lambda writes=writes: len(view.versions()) >= writes, what=f"{writes} objects")  # type: ignore[misc]
        process.kill()
    process = launcher.start()
    ready(view, "small")
    ready(assistants, "help")
    settled(process, view)
    assert set(view.children("Deployment")) == {"small-model", "help-gateway"}
    made = [name for name in view.children("ConfigMap") if name.startswith("help-")]
    assert len(made) == 1
