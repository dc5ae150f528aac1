# SPDX-License-Identifier: Apache-2.0
"""Plans of a model on nodes of a test's own, and what stands in them."""

from dataclasses import replace
from typing import Any

from nimblet import labels
from nimblet.api.compactmodel import CompactModel, CompactModelStatus, ResolvedStatus
from nimblet.api.hardware import HardwareStatus
from nimblet.plan.facts import ModelFacts, NodeFacts
from nimblet.plan.result import Plan
from nimblet.settings import Settings
from tests.builders import a_deployment, a_pod, base_facts, child, plan_of, stored
from tests.hardwarepools import SETTINGS, Machine, a_node_of

BUSY: dict[str, Any] = {"runtime": {"parallel": 8}}
LARGE: dict[str, Any] = {"runtime": {"parallel": 64}}


def facts_on(model: CompactModel, *nodes: NodeFacts, settings: Settings = SETTINGS, **more: Any) -> ModelFacts:
    return base_facts(model, artifacts=(stored(model, settings=settings),), nodes=nodes, **more)


def on(
    model: CompactModel, *nodes: NodeFacts, settings: Settings = SETTINGS, **more: Any
) -> Plan[CompactModelStatus]:
    return plan_of(model, facts_on(model, *nodes, settings=settings, **more), settings=settings)


def node(machine: Machine, **changes: Any) -> NodeFacts:
    return replace(a_node_of(machine, name="n"), **changes)


def own(**profiles: object) -> Settings:
    return Settings.model_validate({"hardware": {"profiles": profiles}})


def resolved(plan: Plan[CompactModelStatus]) -> ResolvedStatus:
    found = plan.status.resolved
    assert found is not None, f"nothing was resolved: {plan.status.conditions}"
    return found


def hardware_of(plan: Plan[CompactModelStatus]) -> HardwareStatus:
    found = resolved(plan).hardware
    assert found is not None, f"no hardware was chosen: {plan.status.conditions}"
    return found


def choice(plan: Plan[CompactModelStatus]) -> tuple[str, str]:
    return resolved(plan).profile, hardware_of(plan).resource


def others(plan: Plan[CompactModelStatus]) -> dict[str, str]:
    """Return why each profile was not chosen, by profile and device."""
    return {f"{it.profile} {it.resource}".strip(): it.why for it in hardware_of(plan).alternatives}


def pod_of(plan: Plan[CompactModelStatus]) -> dict[str, Any]:
    return dict(child(plan.children, "Deployment")["spec"]["template"]["spec"])


def revision(plan: Plan[CompactModelStatus]) -> str:
    return str(child(plan.children, "Deployment")["metadata"]["labels"][labels.REVISION])


def running(model: CompactModel, plan: Plan[CompactModelStatus], *nodes: NodeFacts) -> ModelFacts:
    """Return facts where a pod of the plan's Deployment has a node."""
    made = revision(plan)
    return facts_on(model, *nodes, deployment=a_deployment(made), pods=(a_pod(made),))


def after(model: CompactModel, plan: Plan[CompactModelStatus]) -> CompactModel:
    return model.model_copy(update={"status": plan.status})
