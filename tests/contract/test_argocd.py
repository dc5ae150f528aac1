# SPDX-License-Identifier: Apache-2.0
"""What samples/argocd tells Argo CD: its health check in the Lua of Argo CD, over statuses of real plans."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import lua51

from nimblet.api.compactmodel import CompactModel, CompactModelStatus
from nimblet.conditions import Reason
from nimblet.crdgen.crd import KINDS
from nimblet.plan.facts import ModelFacts
from nimblet.plan.result import Plan
from tests.builders import a_model, a_node, plan_of, serving_facts

FOLDER = Path(__file__).parents[2] / "samples" / "argocd"
KEY = "resource.customizations.health.nimblet.dev_"
HEALTH: dict[str, str] = yaml.safe_load((FOLDER / "health.yaml").read_text(encoding="utf-8"))["data"]
GENERATION = 7


def judged(resource: dict[str, Any]) -> tuple[str, str]:
    """Return health and message of a CompactModel, by a Lua that has no more than Argo CD gives: no os, no io."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    lua.execute("os, io, require, package, debug = nil, nil, nil, nil, nil")
    lua.globals().obj = lua.table_from(resource, recursive=True)
    found = lua.execute(HEALTH[f"{KEY}CompactModel"])
    return found.status, found.message


def resource_of(model: CompactModel, plan: Plan[CompactModelStatus] | None, *, observed: int = GENERATION) -> Any:
    """Return the resource as Argo CD reads it, with what a plan would write."""
    spec = model.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    resource: dict[str, Any] = {"metadata": {"name": model.name, "generation": GENERATION}, "spec": spec}
    if plan is not None:
        status = plan.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        resource["status"] = {**status, "observedGeneration": observed}
    return resource


def test_every_kind_that_tells_conditions_has_the_health_check() -> None:
    kinds = {kind.definition.kind for kind in KINDS} - {"TEEPolicy"}
    assert set(HEALTH) == {f"{KEY}{kind}" for kind in kinds}
    assert len(set(HEALTH.values())) == 1


def test_a_model_is_healthy_only_while_it_is_ready_of_its_current_spec() -> None:
    model = a_model()
    plan = plan_of(model, serving_facts(model))
    assert judged(resource_of(model, plan))[0] == "Healthy"
    assert judged(resource_of(model, plan, observed=GENERATION - 1))[0] == "Progressing"
    assert judged(resource_of(model, None))[0] == "Progressing"


@pytest.mark.parametrize(
    ("fields", "health", "told"),
    [({}, "Progressing", Reason.RESOLVING), ({"suspend": True}, "Suspended", Reason.SUSPENDED)],
)
def test_what_is_under_way_or_suspended_is_no_failure(fields: dict[str, Any], health: str, told: Reason) -> None:
    model = a_model(**fields)
    found, message = judged(resource_of(model, plan_of(model, ModelFacts(nodes=(a_node(),), api_key="nk-1"))))
    assert (found, message.split(": ")[0]) == (health, told.value)


def test_what_can_not_work_is_degraded_and_says_why() -> None:
    model = a_model(hardware={"profile": "abacus"})
    found, message = judged(resource_of(model, plan_of(model, serving_facts(a_model()))))
    assert (found, message.split(": ")[0]) == ("Degraded", Reason.PROFILE_UNKNOWN.value)
    assert "hardware.profile abacus is none of" in message


def test_the_applications_are_applied_by_the_server() -> None:
    applications = list(yaml.safe_load_all((FOLDER / "applications.yaml").read_text(encoding="utf-8")))
    for application in applications:
        assert "ServerSideApply=true" in application["spec"]["syncPolicy"]["syncOptions"]
