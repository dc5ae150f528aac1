# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every sample has facts and sources, plans on every class, and is what docs/catalog.md says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nimblet.cli.inputs import read_facts, read_models
from nimblet.cli.main import main
from nimblet.conditions import Reason
from tests.catalog import samples, table
from tests.catalog.checked import SHAPES
from tests.catalog.entries import BY_NAME
from tests.catalog.facts import known_facts, names
from tests.golden.texts import COMMAND

pytestmark = pytest.mark.timeout(300)  # of which planning all takes most, once
NODES = samples.CATALOG / "nodes"
MISSION = {
    *(
        "llama-2-7b-chat",
        "llama-2-13b-chat",
        "llama-3.1-8b",
        "llama-3.2-3b",
        "llama-3.2-1b",
        "falcon-7b",
        "mpt-7b",
    ),
    *("orca-2-13b", "xgen-7b", "alpaca-7b", "koala-13b", "vicuna-7b", "mistral-7b", "mistral-nemo-12b", "phi-1.5"),
    *("phi-3-mini", "phi-4", "gemma-2-9b", "gemma-3-4b", "qwen2.5-7b", "qwen3-8b", "chatglm-6b", "granite-3.3-8b"),
    "clinical-camel-70b",
}
"""Those that the field asked for first; a catalogue without one of them has lost it."""


@pytest.fixture(scope="module")
def planned() -> dict[str, list[table.Outcome]]:
    return table.planned()


def of(planned: dict[str, list[table.Outcome]]) -> Iterator[table.Outcome]:
    return (item for found in planned.values() for item in found)


def test_files_are_those_that_the_records_give() -> None:
    for path, text in samples.generate():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} differs; run `{COMMAND}`"
    there = {path.stem for path in samples.CATALOG.glob("*.yaml")}
    assert there == set(BY_NAME)
    assert there >= MISSION


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_model_has_facts_a_licence_and_sources(name: str) -> None:
    entry = BY_NAME[name]
    models = read_models(samples.CATALOG / f"{name}.yaml", namespace=None)
    assert tuple(model.name for model in models) == names(entry)
    if entry.listing:
        return
    facts = read_facts([samples.CATALOG / "facts" / f"{name}.json"])
    assert set(facts.artifacts) == set(names(entry))
    assert all(facts.about[key] for key in ("licence", "gated", "shape", "parameters"))
    for model in models:
        assert facts.artifacts[model.name].uri == model.spec.source.uri


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_shape_is_as_others_tell_it(name: str) -> None:
    """Falcon and MPT leave out the feed-forward, four times the width; a GGUF file has Falcon's context."""
    told, entry = SHAPES[name], BY_NAME[name]
    found = known_facts(entry)
    heads = (found.head_count, found.head_count_kv, found.key_length)
    wide = found.feed_forward_length or 4 * found.embedding_length
    assert (found.embedding_length, found.block_count, *heads, wide) == told.sizes[:-1], told.source
    other = entry.gguf.other if entry.gguf is not None else {}
    same = (found.context_length or other.get("context_length")) == told.sizes[-1]
    assert same is not bool(told.differs), f"{told.source}: {told.sizes[-1]}, the record: {found.context_length}"


def test_most_of_what_the_field_asked_for_has_a_second_telling() -> None:
    """Without one: pickled models, which are not sized, and Vicuna 7B, which has Llama 2's shape."""
    assert MISSION - SHAPES.keys() == {"alpaca-7b", "chatglm-6b", "xgen-7b", "vicuna-7b"}


def test_every_model_meets_every_class(planned: dict[str, list[table.Outcome]]) -> None:
    """It fits with its sizes, or the plan says why not."""
    for item in of(planned):
        told = bool(item.message) and item.reason in {reason.value for reason in Reason}
        assert told or (item.memory_bytes > 0 and item.runtime), f"{item.model.name} on {item.column}: {item}"
        assert item.fits or item.message, f"{item.model.name} waits on {item.column} and does not say for what"


def test_what_is_refused_is_refused_for_its_own_reason(planned: dict[str, list[table.Outcome]]) -> None:
    reasons: dict[str, set[str]] = {}
    for item in of(planned):
        if item.reason:
            reasons.setdefault(item.reason, set()).add(item.model.name)
    assert reasons.keys() == {"UnsafeFormat", "ModelTooLarge", "RuntimeUnsuitable", "DeviceTooSmall"}
    assert reasons["UnsafeFormat"] == {"alpaca-7b", "xgen-7b", "chatglm-6b"}
    assert reasons["ModelTooLarge"] == {"clinical-camel-70b", "mixtral-8x7b", "gpt-oss-20b"}


def test_every_compact_model_runs_somewhere(planned: dict[str, list[table.Outcome]]) -> None:
    for name, found in planned.items():
        runs = [item for item in found if not item.reason and item.fits]
        refused = {item.reason for item in found} & {"UnsafeFormat", "ModelTooLarge"}
        assert bool(runs) is not bool(refused), f"{name} runs on {[item.column for item in runs]}"


def test_of_slices_that_are_too_small_the_largest_is_told(planned: dict[str, list[table.Outcome]]) -> None:
    found = [item for item in planned["qwen2.5-14b"] if item.column == "MIG" and item.reason == "DeviceTooSmall"]
    assert ["nvidia.com/mig-3g.40gb, and the largest has 39.50Gi" in item.message for item in found] == [True]


def test_the_large_ones_run_where_that_is_wanted() -> None:
    entry, place = BY_NAME["clinical-camel-70b"], table.places()
    gaudi = [item for item in table.outcomes(entry, place, allow_large=True) if item.column == "gaudi"]
    assert [(item.reason, "hardware.count 2 would do" in item.message) for item in gaudi] == [
        ("DeviceTooSmall", True)
    ]


def test_documented_table_is_the_plans(planned: dict[str, list[table.Outcome]]) -> None:
    path, text = table.document(planned)
    assert path.read_text(encoding="utf-8") == text, (
        f"{path.name} differs; run `{COMMAND}` and review the difference"
    )


def test_the_command_of_a_sample_works(capsys: pytest.CaptureFixture[str]) -> None:
    facts = samples.CATALOG / "facts" / "qwen3-8b.json"
    argv = ["plan", "-f", samples.CATALOG / "qwen3-8b.yaml", "--facts", facts, "--facts", NODES / "nvidia.yaml"]
    assert main([str(part) for part in argv]) == 0
    printed = capsys.readouterr().out
    assert "Deployment/qwen3-8b-model" in printed
    assert "nvidia.com/gpu" in printed


def test_facts_of_several_files_may_not_contradict_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    nodes: tuple[Path, ...] = (NODES / "cpu.yaml", NODES / "xeon.yaml")
    argv = [
        "plan",
        "-f",
        samples.CATALOG / "qwen3-8b.yaml",
        *(part for path in nodes for part in ("--facts", path)),
    ]
    assert main([str(part) for part in argv]) != 0
    assert "xeon.yaml: expected each part of the facts in one file, found nodes in two" in capsys.readouterr().err
