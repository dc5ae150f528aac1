# SPDX-License-Identifier: Apache-2.0
"""What can't be run is refused with a reason of its own and its next step, before any pod of a server exists."""

from dataclasses import replace

import pytest

from nimblet.conditions import Reason
from nimblet.nextstep import NEXT_STEP
from nimblet.plan.facts import ModelFacts
from tests.builders import (
    SMOLLM2,
    a_model,
    artifact_text,
    base_facts,
    child,
    failed_job,
    kinds,
    plan_of,
    served,
    serving_facts,
    stored,
)
from tests.conditions import message, shown


@pytest.mark.parametrize(
    "reason",
    [
        Reason.GATED_REPOSITORY,
        Reason.ACCESS_DENIED,
        Reason.TOKEN_INVALID,
        Reason.FILE_NOT_FOUND,
        Reason.QUANTIZATION_AMBIGUOUS,
        Reason.QUANTIZATION_NOT_FOUND,
        Reason.UNSUPPORTED_FORMAT,
        Reason.UNSAFE_FORMAT,
        Reason.TOO_MANY_FILES,
    ],
)
def test_what_the_resolver_refuses_makes_no_server(reason: Reason) -> None:
    model = a_model()
    plan = plan_of(model, ModelFacts(jobs=(failed_job(model, reason.value),)))
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Resolved") == ("False", reason.value)
    assert shown(plan, "Ready") == ("False", reason.value)
    assert shown(plan, "Stalled") == ("True", reason.value)
    assert reason in NEXT_STEP


def test_context_over_the_models_maximum_makes_no_server() -> None:
    model = a_model(runtime={"contextLength": 100_000})
    plan = plan_of(model, base_facts(model))
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Ready") == ("False", "ContextTooLong")
    assert "made for 8192 tokens" in message(plan, "Ready")


def test_format_is_told_before_the_context() -> None:
    """A context that fits would not help where nothing loads the files."""
    text = artifact_text(
        format="Safetensors", files=[{"path": "model.safetensors", "size": 9, "sha256": "ab" * 32}]
    )
    model = a_model(runtime={"name": "LlamaCpp", "contextLength": 100_000})
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, text),)))
    assert shown(plan, "Ready") == ("False", "FormatMismatch")


LARGE = artifact_text(header={**SMOLLM2, "parameters": 15_000_000_001})


def test_a_model_that_is_not_compact_makes_no_server() -> None:
    model = a_model()
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, LARGE),)))
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Ready") == ("False", "ModelTooLarge")
    assert "15.0 billion parameters, and a compact one has 15 billion at most" in message(plan, "Ready")


def test_a_model_that_is_not_compact_is_served_where_that_is_wanted() -> None:
    model = a_model(allowLarge=True)
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, LARGE),)))
    assert "Deployment" in kinds(plan)


def test_a_model_of_the_largest_compact_size_is_served() -> None:
    model = a_model()
    text = artifact_text(header={**SMOLLM2, "parameters": 15_000_000_000})
    assert "Deployment" in kinds(plan_of(model, base_facts(model, artifacts=(stored(model, text),))))


def test_pods_of_an_operator_that_knew_no_limit_stay() -> None:
    model = served(a_model())
    facts = serving_facts(model)
    plan = plan_of(model, replace(facts, artifacts=(stored(model, LARGE),)))
    told = shown(plan, "Serving"), shown(plan, "Ready")
    assert told[0] == ("True", "Answering")
    assert told[1] != ("False", "ModelTooLarge")
    assert child(plan.children, "Deployment")
