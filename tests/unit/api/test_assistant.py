# SPDX-License-Identifier: Apache-2.0
"""Local validity of an Assistant's spec."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from nimblet.api.assistant import AssistantSpec

SAMPLES = Path(__file__).parents[3] / "samples"
SMALL: dict[str, Any] = {"modelRef": {"name": "smollm2"}, "indexRefs": [{"name": "handbook"}]}


def test_smallest_spec_has_the_documented_defaults() -> None:
    spec = AssistantSpec.model_validate(SMALL)
    assert (spec.grounding, spec.replicas, spec.suspend) == ("Required", 1, False)
    assert (spec.retrieval.top_k, spec.retrieval.max_passages) == (10, 3)
    assert (spec.limits.concurrency, spec.limits.queue, spec.limits.requests_per_minute) == (8, 32, None)


@pytest.mark.parametrize("name", ["assistant.yaml", "assistant-features.yaml"])
def test_samples_parse(name: str) -> None:
    documents = yaml.safe_load_all((SAMPLES / name).read_text(encoding="utf-8"))
    specs = [item["spec"] for item in documents if item["kind"] == "Assistant"]
    assert [AssistantSpec.model_validate(spec).model_ref.name for spec in specs]


def test_grounding_off_needs_no_index() -> None:
    assert AssistantSpec.model_validate({"modelRef": {"name": "a"}, "grounding": "Off"}).index_refs == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"indexRefs": []}, "need an index"),
        ({"indexRefs": [], "grounding": "Preferred"}, "need an index"),
        ({"indexRefs": [{"name": "a"}, {"name": "a"}]}, "stand in indexRefs once"),
        ({"indexRefs": [{"name": "a", "namespace": "other"}]}, "Extra inputs"),
        ({"modelRef": {"name": "../a"}}, "pattern"),
        ({"fallback": {"modelRef": {"name": "smollm2"}}}, "another model"),
        ({"grounding": "Maybe"}, "Required"),
        ({"retrieval": {"topK": 2, "maxPassages": 3}}, "maxPassages can't exceed topK"),
        ({"limits": {"concurrency": 0}}, "greater than or equal to 1"),
        ({"guardRef": {"name": "g", "thresholdPercent": 100}}, "less than or equal to 99"),
        ({"systemPrompt": "a" * 8001}, "at most 8000"),
    ],
)
def test_wrong_spec_is_refused(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AssistantSpec.model_validate({**SMALL, **spec})
