# SPDX-License-Identifier: Apache-2.0
"""What is short on the nodes: told before and with the scheduler's own words, with what would fit."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet.api.compactmodel import CompactModel
from nimblet.plan.facts import FailureKind
from nimblet.quantity import bytes_of, human_bytes
from tests.builders import GIBIBYTE, a_model, a_node, base_facts, failing, kinds, plan_of, starting_facts
from tests.conditions import message, shown


def needed_memory(model: CompactModel) -> str:
    """Return the memory of one replica as the messages show it."""
    sizing = plan_of(model, base_facts(model)).status.sizing
    assert sizing is not None
    return human_bytes(bytes_of(sizing.memory))


def test_unschedulable_names_what_is_short_and_what_would_fit() -> None:
    facts = starting_facts(failing(FailureKind.UNSCHEDULABLE, "0/1 nodes are available: Insufficient memory."))
    fits = a_model(runtime={"contextLength": 1536})
    room = plan_of(fits, base_facts(fits)).status.sizing
    assert room is not None
    plan = plan_of(a_model(), replace(facts, nodes=(a_node(memory=room.total_bytes),)))
    assert shown(plan, "Placed") == ("False", "Unschedulable")
    said = message(plan, "Ready")
    assert "0/1 nodes are available: Insufficient memory." in said
    largest = human_bytes(room.total_bytes)
    assert f"it needs memory {needed_memory(a_model())} (the largest node has {largest})" in said
    assert "A contextLength of 1536 would fit." in said


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (a_node(cpu=400), "CPU 450m (the largest node has 400m)"),
        (a_node(schedulable=False), "no schedulable node"),
    ],
)
def test_shortage_is_told_before_the_scheduler_speaks(node: Any, said: str) -> None:
    model = a_model()
    plan = plan_of(model, base_facts(model, nodes=(node,)))
    assert shown(plan, "Placed") == ("Unknown", "Pending")
    assert said in message(plan, "Placed")
    assert "contextLength" not in message(plan, "Placed")
    assert "Deployment" in kinds(plan)


def test_memory_override_gets_no_hint_about_the_context() -> None:
    model = a_model(resources={"memory": "64Gi"})
    plan = plan_of(model, base_facts(model))
    assert "memory 64.00Gi (the largest node has 24.00Gi)" in message(plan, "Placed")
    assert "would fit" not in message(plan, "Placed")


def test_two_nodes_that_are_each_short_of_something() -> None:
    model = a_model()
    nodes = (a_node("a", memory=GIBIBYTE, cpu=100), a_node("b", memory=2**20))
    said = message(plan_of(model, base_facts(model, nodes=nodes)), "Placed")
    assert f"memory {needed_memory(model)} and CPU 450m on the same node" in said
