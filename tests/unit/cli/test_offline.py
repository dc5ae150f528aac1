# SPDX-License-Identifier: Apache-2.0
"""`nimblet plan` and `nimblet size` without a cluster: the same functions as the operator, and clear errors."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from nimblet.cli.main import main, parser
from tests.builders import a_model, artifact_text, base_facts, plan_of

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "samples" / "compactmodel-smollm2.yaml"
FACTS = ROOT / "samples" / "facts-smollm2.yaml"


def run(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    code = main([str(part) for part in argv])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def manifest(**spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "nimblet.dev/v1alpha1",
        "kind": "CompactModel",
        "metadata": {"name": "smollm2"},
        "spec": {"source": {"uri": "hf://org/model"}, **spec},
    }


def test_plan_without_facts_of_the_source_resolves_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "plan", "-f", SAMPLE, "--facts", write(tmp_path / "facts.yaml", {"nodes": []}))
    assert code == 0
    assert "Job/smollm2-resolve-" in out
    assert "Deployment" not in out
    assert "Resolved: Unknown (Resolving)" in out


def test_plan_shows_children_arithmetic_and_conditions(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", "-f", SAMPLE, "--facts", FACTS)
    assert code == 0
    assert "Deployment/smollm2-model" in out
    assert "x 3 kv heads x (30 layers x 2048 tokens) x 2 bytes (f16) x 2 slots = 90Mi" in out
    assert "cpu 450m, 1 thread(s)" in out
    assert "Resolved: True (Resolved)" in out


def test_plan_tells_of_a_flag_that_the_server_may_not_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = ROOT / "samples" / "compactmodel-extra-args.yaml"
    _, out, _ = run(capsys, "plan", "-f", sample, "--facts", FACTS)
    assert "Deployment/steady-model" in out
    wrong = write(tmp_path / "wrong.yaml", sample.read_text(encoding="utf-8").replace("--temp=0.2", "--props"))
    _, out, _ = run(capsys, "plan", "-f", wrong, "--facts", FACTS)
    assert "Deployment" not in out
    assert "Ready: False (ExtraArgsRefused)" in out
    assert "--props is not among the flags that LlamaCpp may be given" in out


def test_plan_of_a_cache_shows_the_claim_first_and_the_server_once_it_is_filled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = ROOT / "samples" / "compactmodel-cache.yaml"
    facts = yaml.safe_load(FACTS.read_text(encoding="utf-8"))
    _, empty, _ = run(capsys, "plan", "-f", sample, "--facts", write(tmp_path / "facts.yaml", facts))
    assert "PersistentVolumeClaim/cached-cache" in empty
    assert "Deployment" not in empty
    filled = write(tmp_path / "filled.yaml", {**facts, "cacheFilled": True})
    _, out, _ = run(capsys, "plan", "-f", sample, "--facts", filled)
    assert "Deployment/cached-model" in out


def test_plan_names_a_shortage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = yaml.safe_load(FACTS.read_text(encoding="utf-8"))
    facts["nodes"] = [{"name": "small", "memory": "128Mi", "cpu": "2"}]
    _, out, _ = run(capsys, "plan", "-f", SAMPLE, "--facts", write(tmp_path / "facts.yaml", facts))
    assert "(the largest node has 128Mi)" in out


def test_plan_shows_the_hardware_and_what_was_not_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = yaml.safe_load(FACTS.read_text(encoding="utf-8"))
    gpu = {"name": "gpu-1", "memory": "64Gi", "cpu": "16", "resources": {"nvidia.com/gpu": "2"}}
    facts["nodes"].append({**gpu, "labels": {"nvidia.com/gpu.memory": "24576"}})
    path = tmp_path / "facts.yaml"
    path.write_text(yaml.safe_dump(facts), encoding="utf-8")
    model = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    model["spec"]["hardware"] = {"count": 1}
    sample = tmp_path / "model.yaml"
    sample.write_text(yaml.safe_dump(model), encoding="utf-8")
    code, out, _ = run(capsys, "plan", "-f", sample, "--facts", path)
    assert code == 0
    assert (
        "Hardware: nvidia, 1 x nvidia.com/gpu (auto: 1 nvidia.com/gpu of 24.00Gi is the least that holds it)"
        in out
    )
    assert "  not cpu: hardware.count and sharing ask for a device" in out
    assert "  on nodes with nvidia.com/gpu.memory Gt " in out


def test_plan_as_yaml_is_what_the_operator_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = a_model()
    spec = model.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    body = write(tmp_path / "model.yaml", {**manifest(), "spec": spec})
    facts = write(tmp_path / "facts.yaml", {"artifact": yaml.safe_load(artifact_text())})
    code, out, _ = run(capsys, "plan", "-f", body, "--facts", facts, "-n", "team", "-o", "yaml")
    *children, status = yaml.safe_load_all(out)
    assert code == 0
    expected = plan_of(model, base_facts(model, api_key="", nodes=()))
    wanted = {item["kind"]: item for item in expected.children if item["kind"] == "Deployment"}
    assert [item for item in children if item["kind"] == "Deployment"] == list(wanted.values())
    assert status["status"]["sizing"]["totalBytes"] > 0
    assert (status["kind"], status["metadata"]) == ("CompactModel", {"name": "smollm2", "namespace": "team"})


def test_size_prints_the_same_arithmetic_as_plan(capsys: pytest.CaptureFixture[str]) -> None:
    _, plan, _ = run(capsys, "plan", "-f", SAMPLE, "--facts", FACTS)
    code, size, _ = run(capsys, "size", "-f", SAMPLE, "--facts", FACTS)
    assert code == 0
    assert size.strip() in plan


def test_size_is_that_of_the_server_and_the_profile_which_the_plan_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = ROOT / "samples" / "catalog"
    facts = catalog / "facts" / "phi-4.json"
    gguf, safetensors = yaml.safe_load_all((catalog / "phi-4.yaml").read_text(encoding="utf-8"))
    for body, profile, nodes in (
        (safetensors, "auto", "cpu"),
        (safetensors, "amd", "amd"),
        (gguf, "nvidia", "nvidia"),
    ):
        named = {**body, "spec": {**body["spec"], "hardware": {"profile": profile}}}
        file = write(tmp_path / "model.yaml", named)
        pool = catalog / "nodes" / f"{nodes}.yaml"
        _, plan, _ = run(capsys, "plan", "-f", file, "--facts", facts, "--facts", pool)
        code, size, _ = run(capsys, "size", "-f", file, "--facts", facts)
        assert code == 0
        assert size.strip() in plan


def test_size_tells_what_no_server_does_and_which_profiles_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "model.yaml", manifest(hardware={"profile": "gaudi"}))
    code, _, err = run(capsys, "size", "-f", file, "--facts", FACTS)
    assert code == 1
    assert "smollm2 on gaudi: No runtime serves this model: LlamaCpp does not run on gaudi" in err
    file = write(tmp_path / "model.yaml", manifest(hardware={"profile": "abacus"}))
    _, _, err = run(capsys, "size", "-f", file, "--facts", FACTS)
    assert "to be one of cpu, xeon, nvidia, gaudi, intel-gpu, amd, found abacus" in err


def test_a_header_of_safetensors_is_not_sized_as_gguf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = yaml.safe_load((ROOT / "samples" / "catalog" / "facts" / "phi-4.json").read_text(encoding="utf-8"))
    path = write(tmp_path / "artifact.json", facts["artifacts"]["phi-4-safetensors"])
    code, _, err = run(capsys, "size", "--gguf-facts", path)
    assert code == 1
    assert "expected the header of a GGUF file, found that of safetensors; give its artifact with --facts" in err


def test_size_of_several_models_names_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = {**manifest(), "metadata": {"name": "second"}}
    file = write(tmp_path / "models.yaml", yaml.safe_dump_all([manifest(), second]))
    code, out, _ = run(capsys, "size", "-f", file, "--facts", FACTS)
    assert code == 0
    assert out.index("CompactModel smollm2") < out.index("CompactModel second")
    facts = write(tmp_path / "facts.yaml", {"artifacts": {"smollm2": yaml.safe_load(artifact_text())}})
    code, _, err = run(capsys, "size", "-f", file, "--facts", facts)
    assert code == 1
    assert "expected an artifact of second" in err


def test_size_counts_what_is_beside_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a model that another drafts for
    drafts = {"type": "Draft", "source": {"uri": "hf://org/draft"}}
    file = write(tmp_path / "model.yaml", manifest(runtime={"speculative": drafts}))
    found = yaml.safe_load(artifact_text())
    known = {"smollm2": found, "smollm2/runtime.speculative": found}
    facts = write(tmp_path / "facts.yaml", {"artifacts": known})
    # when its size is asked for, then it is that of the plan, drafting model and all
    _, plan, _ = run(capsys, "plan", "-f", file, "--facts", FACTS, "--facts", facts)
    code, size, _ = run(capsys, "size", "-f", file, "--facts", facts)
    assert code == 0
    assert "draft model:" in size
    assert size.strip() in plan
    # and facts that don't tell of it are not enough
    _, _, err = run(capsys, "size", "-f", file, "--facts", FACTS)
    assert "found no smollm2/runtime.speculative under `artifacts`" in err
    header = write(tmp_path / "artifact.json", artifact_text())
    _, _, err = run(capsys, "size", "-f", file, "--gguf-facts", header)
    assert "expected --facts FILE for smollm2" in err


def test_size_of_a_file_without_a_model_tells_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "size", "-f", ROOT / "samples" / "assistant.yaml", "--facts", FACTS)
    assert code == 1
    assert "only models have computed sizes" in err


def test_size_takes_header_facts_and_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "artifact.json", artifact_text())
    argv = ("size", "--gguf-facts", path, "--context", "8192", "--parallel", "4", "--kv-cache-type", "q8_0")
    code, out, _ = run(capsys, *argv, "-o", "yaml")
    assert code == 0
    assert yaml.safe_load(out)["kvCacheBytes"] == 2 * 30 * 3 * 64 * 8192 * 4 * 34 // 32


def test_size_takes_a_header_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "header.json", yaml.safe_load(artifact_text())["header"])
    assert run(capsys, "size", "--gguf-facts", path)[0] == 0


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (manifest(replicas="many"), "spec.replicas"),
        ({**manifest(), "apiVersion": "nimblet.dev/v1"}, "expected apiVersion nimblet.dev/v1alpha1"),
        ({"kind": "Pod"}, "expected a CompactModel, a RetrievalIndex or an Assistant"),
        ({**manifest(), "metadata": {"name": "n" * 41}}, "at most 40 characters, found 41"),
        ({**manifest(), "metadata": {}}, "expected metadata.name"),
        ("a: [", "expected YAML or JSON"),
    ],
)
def test_flawed_model_is_named(
    model: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "plan", "-f", write(tmp_path / "model.yaml", model), "--facts", FACTS)
    assert (code, out) == (1, "")
    assert said in err


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"node": []}, "node: Extra inputs are not permitted"),
        ({"nodes": [{"name": "n", "memory": "lots", "cpu": "2"}]}, "nodes.0.memory"),
        ({"artifact": {"version": 2}}, "artifact.version"),
    ],
)
def test_flawed_facts_are_named(
    facts: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "plan", "-f", SAMPLE, "--facts", write(tmp_path / "facts.yaml", facts))
    assert code == 1
    assert said in err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["size"], "expected --gguf-facts JSON, or -f CR with --facts FILE"),
        (["size", "--gguf-facts", "absent.json"], "expected a readable text file absent.json"),
        (["size", "--gguf-facts", str(SAMPLE)], "expected an artifact.json or its header"),
        (
            ["size", "-f", str(SAMPLE), "--facts", str(FACTS), "--context", "0"],
            "at least 1 for --context, found 0",
        ),
        (["plan", "-f", str(SAMPLE), "--facts", str(FACTS), "--settings", str(SAMPLE)], "the operator's settings"),
    ],
)
def test_wrong_arguments_tell_the_fix(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *argv)
    assert code == 1
    assert said in err


def test_settings_file_changes_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = write(tmp_path / "settings.yaml", {"images": {"llamacpp": "registry.example/server:1"}})
    argv = ("plan", "-f", SAMPLE, "--facts", FACTS, "-o", "yaml", "--settings", settings)
    assert "registry.example/server:1" in run(capsys, *argv)[1]


@pytest.mark.parametrize("command", ["plan", "size", "status", "ask"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    assert f"  nimblet {command} " in capsys.readouterr().out
