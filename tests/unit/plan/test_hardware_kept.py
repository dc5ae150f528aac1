# SPDX-License-Identifier: Apache-2.0
"""A choice of hardware stays: labels that vanish, better nodes and upgrades move nothing."""

from dataclasses import replace

import pytest

from nimblet.plan.images import spec_hash_of
from tests.builders import a_deployment, a_model, edited, kinds, plan_of, stored
from tests.conditions import message, shown
from tests.hardwarepools import I915, PLAIN, SETTINGS, WHOLE, XEON
from tests.unit.plan.hardwareplans import (
    BUSY,
    LARGE,
    after,
    choice,
    facts_on,
    hardware_of,
    node,
    on,
    resolved,
    revision,
    running,
)


@pytest.mark.parametrize("hardware", [{"profile": "nvidia"}, {}], ids=["named", "auto"])
def test_labels_and_devices_that_vanish_move_nothing(hardware: dict[str, object]) -> None:
    model = a_model(hardware=hardware, **LARGE)
    first = on(model, node(WHOLE))
    placed = plan_of(after(model, first), running(model, first, node(WHOLE)), settings=SETTINGS)
    assert hardware_of(placed).kept
    bare = node(PLAIN)
    flapped = plan_of(after(model, placed), running(model, first, bare), settings=SETTINGS)
    assert revision(flapped) == revision(first)
    assert flapped.status == placed.status
    # the pod is gone, too, and its successor waits: it is told, and still asks for the same
    gone = facts_on(model, bare, deployment=a_deployment(revision(first)), pods=())
    waits = plan_of(after(model, flapped), gone, settings=SETTINGS)
    assert revision(waits) == revision(first)
    assert "No node offers nvidia.com/gpu" in message(waits, "Placed")


def test_xeon_labels_that_vanish_move_nothing_and_better_nodes_tempt_nobody() -> None:
    model = a_model(**BUSY)
    first = on(model, node(XEON))
    placed = plan_of(after(model, first), running(model, first, node(XEON)), settings=SETTINGS)
    for nodes in ((node(PLAIN),), (node(PLAIN), node(XEON), node(WHOLE))):
        plan = plan_of(after(model, placed), running(model, first, *nodes), settings=SETTINGS)
        assert (choice(plan), revision(plan)) == (("xeon", ""), revision(first))
    changed = edited(after(model, placed), runtime={"parallel": 6})
    anew = plan_of(changed, running(changed, first, node(PLAIN)), settings=SETTINGS)
    assert choice(anew) == ("cpu", "")


def test_a_restart_scaling_and_suspending_decide_nothing_anew() -> None:
    model = a_model(**BUSY)
    first = on(model, node(XEON))
    placed = after(model, plan_of(after(model, first), running(model, first, node(XEON)), settings=SETTINGS))
    restarted = placed.model_copy(update={"restarted_at": "now"})
    scaled = placed.model_copy(update={"spec": placed.spec.model_copy(update={"replicas": 3}), "generation": 2})
    paused = placed.model_copy(update={"spec": placed.spec.model_copy(update={"suspend": True}), "generation": 2})
    for it in (restarted, scaled, paused):
        assert choice(plan_of(it, running(it, first, node(PLAIN)), settings=SETTINGS)) == ("xeon", "")


def test_an_upgrade_moves_no_model_that_was_placed_before_there_were_profiles() -> None:
    model = a_model(**BUSY)
    first = on(model, node(PLAIN))
    before = resolved(first).model_copy(update={"hardware": None})
    facts = running(model, first, node(XEON), node(WHOLE))
    stored_ = model.model_copy(
        update={
            "status": first.status.model_copy(
                update={"resolved": before.model_copy(update={"spec_hash": spec_hash_of(model, facts)})}
            )
        }
    )
    plan = plan_of(stored_, facts, settings=SETTINGS)
    assert choice(plan) == ("cpu", "")
    assert revision(plan) == revision(first)


def test_a_profile_that_is_taken_away_stops_nothing() -> None:
    model = a_model(hardware={"profile": "shelf"})
    first = on(model, node(I915))
    placed = after(model, plan_of(after(model, first), running(model, first, node(I915)), settings=SETTINGS))
    plan = plan_of(placed, replace(running(model, first, node(I915)), artifacts=(stored(model),)))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Stalled") == ("True", "ProfileUnknown")
    assert "The older spec serves on" in message(plan, "Ready")
    assert "Deployment" not in kinds(plan)
