# SPDX-License-Identifier: Apache-2.0
"""`nimblet plan` of indexes and Assistants without a cluster: what the files name is looked for in them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from nimblet.cli.main import main
from tests.builders import MINILM, artifact_text

ROOT = Path(__file__).parents[3]
CHAT = {"source": {"uri": "hf://org/chat"}}
EMBEDDER = {"source": {"uri": "hf://org/embedder"}, "task": "Embedding"}
INDEX = {
    "embedding": {"modelRef": {"name": "embedder"}},
    "sources": [{"name": "docs", "configMap": {"name": "documents"}}],
}
ASSISTANT = {"modelRef": {"name": "chat"}, "indexRefs": [{"name": "handbook"}]}
ARTIFACTS = {
    "chat": yaml.safe_load(artifact_text()),
    "embedder": yaml.safe_load(artifact_text(header=MINILM)),
}
FACTS: dict[str, Any] = {"nodes": [{"name": "node-1", "memory": "8Gi", "cpu": "4"}], "artifacts": ARTIFACTS}


def of(kind: str, name: str, spec: object) -> dict[str, object]:
    return {"apiVersion": "nimblet.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def documents(*, usable: bool = True) -> dict[str, object]:
    head = {"name": "documents", "labels": {"nimblet.dev/use": "true"} if usable else {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": head, "data": {"a.md": "It opens at nine."}}


ALL = (
    of("Assistant", "help", ASSISTANT),
    of("RetrievalIndex", "handbook", INDEX),
    of("CompactModel", "chat", CHAT),
    of("CompactModel", "embedder", EMBEDDER),
    documents(),
)


@pytest.fixture
def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that plans documents against facts: exit code, output, errors."""

    def run(*found: object, facts: object = FACTS, flags: tuple[str, ...] = ()) -> tuple[int, str, str]:
        (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(found), encoding="utf-8")
        (tmp_path / "facts.yaml").write_text(yaml.safe_dump(facts), encoding="utf-8")
        argv = ["plan", "-f", str(tmp_path / "all.yaml"), "--facts", str(tmp_path / "facts.yaml"), *flags]
        code = main(argv)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def parts(out: str) -> dict[str, str]:
    """Return the text by resource."""
    kinds = ("CompactModel ", "RetrievalIndex ", "Assistant ")
    found: dict[str, str] = {}
    name = ""
    for line in out.splitlines():
        if line.startswith(kinds):
            name = line
        found[name] = f"{found.get(name, '')}{line}\n"
    return found


def test_what_a_file_names_is_found_in_it_whatever_its_order(planned: Any) -> None:
    code, out, _ = planned(*ALL)
    assert code == 0
    found = parts(out)
    assert list(found) == [
        "CompactModel default/chat",
        "CompactModel default/embedder",
        "RetrievalIndex default/handbook",
        "Assistant default/help",
    ]
    index, assistant = found["RetrievalIndex default/handbook"], found["Assistant default/help"]
    assert "PersistentVolumeClaim/handbook-index" in index
    assert "ModelMissing" not in index
    assert "Ready: Unknown" in index
    assert "StatefulSet/" not in index, "the model's files name the embedding once it is Ready"
    assert "Deployment/help-gateway" in assistant
    assert "Missing" not in assistant
    assert "Sizing" not in index + assistant


def test_assume_serving_shows_what_comes_next(planned: Any) -> None:
    _, out, _ = planned(*ALL, flags=("--assume-serving",))
    found = parts(out)
    assert "StatefulSet/handbook-retriever" in found["RetrievalIndex default/handbook"]
    assert "ConfigMap/handbook-retriever" in found["RetrievalIndex default/handbook"]
    assert "NotServing" not in found["Assistant default/help"]
    assert "Ready: Unknown (Progressing)" in found["Assistant default/help"]


def test_what_is_in_no_file_is_missing_and_the_next_step_told(planned: Any) -> None:
    code, out, _ = planned(ALL[0], flags=("--assume-serving",))
    assert code == 0
    assert "Stalled: True (ModelMissing)" in out
    assert "Create the CompactModel" in out
    assert "Deployment" not in out
    _, out, _ = planned(ALL[0], ALL[2])
    assert "Stalled: True (IndexMissing)" in out


def test_another_namespace_is_not_looked_into(planned: Any) -> None:
    elsewhere = {**ALL[2], "metadata": {"name": "chat", "namespace": "elsewhere"}}
    _, out, _ = planned(*ALL[:2], elsewhere, *ALL[3:])
    assert "Stalled: True (ModelMissing)" in parts(out)["Assistant default/help"]
    _, out, _ = planned(*ALL[:2], elsewhere, *ALL[3:], flags=("-n", "team"))
    assert "ModelMissing" not in parts(out)["Assistant team/help"]


def test_the_task_of_a_named_model_is_judged(planned: Any) -> None:
    wrong = of("RetrievalIndex", "handbook", {**INDEX, "embedding": {"modelRef": {"name": "chat"}}})
    _, out, _ = planned(wrong, *ALL[2:])
    assert "Stalled: True (ModelTaskDiffers)" in out


@pytest.mark.parametrize(
    ("config_map", "facts", "said"),
    [
        (documents(), {}, None),
        (documents(usable=False), {}, "ConfigMapNotUsable"),
        (None, {"configMaps": {"documents": ["a.md"]}}, None),
        (None, {}, "ConfigMapMissing"),
    ],
)
def test_documents_come_from_file_or_facts(
    config_map: object, facts: dict[str, object], said: str | None, planned: Any
) -> None:
    found = [item for item in (*ALL[1:4], config_map) if item is not None]
    code, out, _ = planned(*found, facts={**FACTS, **facts})
    assert code == 0
    assert ("ConfigMap" in out.split("RetrievalIndex default/handbook")[1]) == (said is not None)
    assert said is None or f"Resolved: False ({said})" in out


@pytest.mark.parametrize(
    ("secret", "facts", "said"),
    [
        (
            {
                "metadata": {
                    "name": "store",
                    "labels": {"nimblet.dev/use": "true"},
                    "annotations": {"nimblet.dev/hosts": "huggingface.co"},
                },
                "stringData": {"api-key": "hidden-value"},
            },
            {},
            None,
        ),
        (None, {"secrets": {"store": {"keys": ["api-key"]}}}, None),
        (None, {}, "SecretMissing"),
    ],
)
def test_secrets_come_from_file_or_facts_and_are_not_shown(
    secret: dict[str, object] | None, facts: dict[str, object], said: str | None, planned: Any
) -> None:
    store = {"type": "External", "url": "https://huggingface.co/qdrant", "keySecretRef": {"name": "store"}}
    found = [of("RetrievalIndex", "handbook", {**INDEX, "store": store}), *ALL[2:]]
    if secret is not None:
        found.append({"apiVersion": "v1", "kind": "Secret", **secret})
    code, out, _ = planned(*found, facts={**FACTS, **facts}, flags=("--assume-serving", "-o", "yaml"))
    assert code == 0
    assert "hidden-value" not in out
    made = [item for item in yaml.safe_load_all(out) if item["metadata"]["name"] == "handbook-retriever"]
    assert any(item["kind"] == "Deployment" for item in made) == (said is None)
    assert said is None or said in out


def test_a_storage_class_that_is_not_there_is_told(planned: Any) -> None:
    wish = of("RetrievalIndex", "handbook", {**INDEX, "store": {"storageClassName": "fast"}})
    _, out, _ = planned(wish, *ALL[2:], facts={**FACTS, "storageClasses": ["standard"]})
    assert "There is no StorageClass fast; there is: standard." in out


def test_each_status_follows_its_children_in_yaml(planned: Any) -> None:
    _, out, _ = planned(*ALL, flags=("-o", "yaml", "--assume-serving"))
    statuses = [item for item in yaml.safe_load_all(out) if "status" in item]
    assert [item["kind"] for item in statuses] == ["CompactModel", "CompactModel", "RetrievalIndex", "Assistant"]
    assert statuses[-1]["metadata"] == {"name": "help", "namespace": "default"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((ALL[0], ALL[0]), "expected one Assistant default/help, found a second; rename it or leave one out"),
        ((of("Assistant", "help", {**ASSISTANT, "modelRef": "chat"}),), "spec.modelRef"),
        ((of("Assistant", "help", {"modelRef": {"name": "chat"}}),), "indexRefs"),
        ((of("RetrievalIndex", "", INDEX),), "expected metadata.name, found none; name the RetrievalIndex"),
        ((documents(),), "found ConfigMap; give a file with one"),
        ((), "found nothing; give a file with one"),
    ],
)
def test_flaws_are_named(found: tuple[object, ...], said: str, planned: Any) -> None:
    code, out, err = planned(*found)
    assert (code, out) == (1, "")
    assert said in err


@pytest.mark.parametrize("sample", sorted((ROOT / "samples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sample_is_planned(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = [item["kind"] for item in yaml.safe_load_all(sample.read_text(encoding="utf-8")) if "kind" in item]
    facts = ROOT / "samples" / "facts-smollm2.yaml"
    code = main(["plan", "-f", str(sample), "--facts", str(facts)])
    printed = capsys.readouterr()
    ours = {"CompactModel", "RetrievalIndex", "Assistant"} & set(kinds)
    assert (code == 0) == bool(ours), printed.err
    assert all(f"{kind} default/" in printed.out for kind in ours)


def test_a_policy_of_the_files_is_planned_with(planned: Any) -> None:
    # Given a policy that binds a namespace by its labels, and a node that nobody said is confidential
    policy = of(
        "TEEPolicy",
        "confidential",
        {
            "technologies": ["TDX"],
            "enforcement": "Required",
            "namespaceSelector": {"matchLabels": {"security": "confidential"}},
            "attestation": {"mode": "Simulated"},
        },
    )
    labelled = {**FACTS, "namespaceLabels": {"default": {"security": "confidential"}}}
    _, unbound, _ = planned(ALL[2], policy)
    assert "Deployment/chat-model" in unbound
    _, refused, _ = planned(ALL[2], policy, facts=labelled)
    assert "Deployment/chat-model" not in refused
    assert "PolicyEnforced: False" in refused
    # When the facts have the place it asks for, then the pod is made there
    tdx = {"feature.node.kubernetes.io/cpu-security.tdx.enabled": "true"}
    place = {
        "nodes": [{"name": "node-1", "memory": "16Gi", "cpu": "8", "labels": tdx}],
        "runtimeClasses": [{"name": "kata-qemu-tdx", "memory": "2Gi", "cpu": "1", "nodeLabels": {}}],
    }
    _, placed, _ = planned(ALL[2], policy, facts={**labelled, **place})
    assert "Deployment/chat-model" in placed
    assert "PolicyEnforced: True" in placed


def test_a_flawed_policy_is_told(planned: Any) -> None:
    code, _, errors = planned(ALL[2], of("TEEPolicy", "p", {"technologies": ["Magic"]}))
    assert code != 0
    assert "TEEPolicy p" in errors
    assert "technologies" in errors
