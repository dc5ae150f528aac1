# SPDX-License-Identifier: Apache-2.0
"""Status as text, and that no output shows a Secret's value."""

from nimblet.api.compactmodel import CompactModelStatus
from nimblet.cli.show import HIDDEN, plan_text, plan_yaml, status_text
from tests.builders import API_KEY, a_model, base_facts, plan_of, serving_facts


def test_status_names_endpoint_model_and_every_condition() -> None:
    model = a_model()
    text = status_text("smollm2", "team", plan_of(model, serving_facts(model)).status)
    assert "Endpoint: http://smollm2-model.team.svc/v1 (key: Secret smollm2-key, entry api-key)" in text
    assert "Pods: 1 of 1 answer" in text
    assert "Ready: True (Ready)" in text
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" in text


def test_status_of_a_failure_ends_with_the_next_step() -> None:
    model = a_model(runtime={"contextLength": 9000})
    text = status_text("smollm2", "team", plan_of(model, base_facts(model)).status)
    assert "Stalled: True (ContextTooLong)" in text
    assert "Lower runtime.contextLength" in text


def test_status_that_nobody_wrote_yet() -> None:
    assert "the operator has not looked at it" in status_text("smollm2", "team", CompactModelStatus())


def test_secret_values_are_hidden() -> None:
    model = a_model()
    plan = plan_of(model, base_facts(model))
    shown = plan_yaml(plan)
    assert "kind: Secret" in shown
    assert HIDDEN in shown
    assert API_KEY not in shown + plan_text(plan)
