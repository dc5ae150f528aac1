# SPDX-License-Identifier: Apache-2.0
"""Status as text, and that no output shows a Secret's value."""

from nimblet.api.compactmodel import CompactModelStatus
from nimblet.cli.planning import Planned
from nimblet.cli.show import HIDDEN, assistant_text, index_text, plan_text, plans_yaml, status_text
from tests.assistants import an_assistant, planned, serving
from tests.builders import API_KEY, a_model, base_facts, plan_of, serving_facts
from tests.indexes import an_index, built, index_plan


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
    shown = plans_yaml([Planned(kind="CompactModel", namespace="team", name="smollm2", plan=plan)])
    assert "kind: Secret" in shown
    assert HIDDEN in shown
    assert API_KEY not in shown + plan_text(plan)


def test_status_of_an_index_tells_what_serves() -> None:
    index, facts = built(an_index())
    text = index_text("handbook", "team", index_plan(index, facts).status)
    assert "RetrievalIndex team/handbook" in text
    assert "Serves: g000001" in text
    assert "Holds: 2 documents, 12 passages" in text
    assert "Generations: g000001" in text
    assert "Secret handbook-search-key" in text
    assert "Ready: True (Ready)" in text


def test_status_of_an_assistant_tells_what_it_answers_from() -> None:
    assistant = an_assistant()
    text = assistant_text("help", "team", planned(assistant, serving(assistant)).status)
    assert "Assistant team/help" in text
    assert "Pods: 1 of 1 answer, 1 up to date" in text
    assert "Index: handbook at g000001, 40 passages" in text
    assert "Ready: True (Ready)" in text
