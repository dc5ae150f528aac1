# SPDX-License-Identifier: Apache-2.0
"""Which format is taken, who loads it, and what happens where nobody does."""

import base64
import json
import zlib

import pytest

from nimblet.api.compactmodel import CompactModelSpec
from nimblet.conditions import Reason
from nimblet.plan.artifact import UNPACKED_BYTES, unpacked
from nimblet.plan.format import LOADS, format_problem, preferred_format
from nimblet.plan.integrity import Trust
from nimblet.plan.source import source_text
from nimblet.settings import Settings
from tests.builders import SETTINGS, a_model, a_spec, an_artifact, artifact_text, base_facts, plan_of, stored
from tests.conditions import message, shown

FILES = [{"path": "model.safetensors", "size": 9, "sha256": "ab" * 32}]
SAFETENSORS = artifact_text(format="Safetensors", files=FILES)


def spec_with(*, runtime: str = "Auto", profile: str = "auto", **source: object) -> CompactModelSpec:
    """Return a spec with names of runtimes and profiles that may be newer than this API."""
    spec = a_spec(source={"uri": "hf://org/repo", **source})
    return spec.model_copy(
        update={
            "runtime": spec.runtime.model_copy(update={"name": runtime}),
            "hardware": spec.hardware.model_copy(update={"profile": profile}),
        }
    )


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (spec_with(), "GGUF"),
        (spec_with(profile="cpu"), "GGUF"),
        (spec_with(profile="xeon"), "GGUF"),
        (spec_with(profile="nvidia"), "Safetensors"),
        (spec_with(profile="gaudi"), "Safetensors"),
        (spec_with(profile="nvidia", quantization="Q4_K_M"), "GGUF"),
        (spec_with(runtime="VLLM"), "Safetensors"),
        (spec_with(runtime="TGI", profile="cpu"), "Safetensors"),
        (spec_with(runtime="LlamaCpp", profile="nvidia"), "GGUF"),
    ],
)
def test_format_follows_runtime_then_class(spec: CompactModelSpec, wanted: str) -> None:
    assert preferred_format(spec, SETTINGS.hardware.known) == wanted
    asked = json.loads(source_text(spec, Trust(), SETTINGS))
    assert asked.get("prefer", "GGUF") == wanted


def test_a_profile_of_the_administrators_own_asks_for_what_its_class_loads() -> None:
    own = Settings.model_validate({"hardware": {"profiles": {"team-gpu": {"base": "nvidia"}}}})
    assert preferred_format(spec_with(profile="team-gpu"), own.hardware.known) == "Safetensors"
    assert preferred_format(spec_with(profile="team-gpu"), SETTINGS.hardware.known) == "GGUF"


@pytest.mark.parametrize("runtime", sorted(LOADS))
def test_each_runtime_refuses_what_it_does_not_load(runtime: str) -> None:
    gguf = format_problem(runtime, an_artifact())
    safe = format_problem(runtime, an_artifact(format="Safetensors", files=FILES))
    assert (gguf is None, safe is None) == (runtime == "LlamaCpp", runtime != "LlamaCpp")
    found = gguf or safe
    assert found is not None
    assert found.reason is Reason.FORMAT_MISMATCH
    assert runtime in found.message


def test_format_that_the_runtime_can_not_load_stops_before_any_pod() -> None:
    model = a_model(runtime={"name": "LlamaCpp"})
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, SAFETENSORS),)))
    assert not [child for child in plan.children if child["kind"] == "Deployment"]
    assert shown(plan, "Ready") == ("False", "FormatMismatch")
    assert "LlamaCpp loads GGUF alone" in message(plan, "Ready")


def packed(raw: bytes) -> str:
    return json.dumps({"version": 1, "packed": base64.b64encode(zlib.compress(raw)).decode()})


def test_packed_messages_are_bounded_and_others_stay() -> None:
    assert unpacked(packed(b'{"version":1}')) == '{"version":1}'
    assert unpacked(packed(b" " * UNPACKED_BYTES)) == " " * UNPACKED_BYTES
    assert unpacked(packed(b" " * (UNPACKED_BYTES + 1))) == ""
    assert unpacked(json.dumps({"version": 1, "packed": "not base64"})) == ""
    assert unpacked(json.dumps({"version": 1, "packed": "YWJj"})) == ""
    assert unpacked(packed(b"\xff")) == ""
    assert unpacked('{"version":1,"error":{}}') == '{"version":1,"error":{}}'
