# SPDX-License-Identifier: Apache-2.0
"""Whether a node is one that `scheduling` allows: the scheduler's own rules on labels and taints. Pure.

Only what is certain counts: required node affinity, nodeSelector and taints. Preferences, and rules about other
pods, are the scheduler's to weigh.
"""

from nimblet.api.scheduling import NodeRequirement, Scheduling, Toleration
from nimblet.plan.facts import NodeFacts, TaintFacts


def is_chosen(scheduling: Scheduling, node: NodeFacts) -> bool:
    """Tell whether the node has the labels that nodeSelector and required node affinity ask for."""
    if any(node.labels.get(key) != value for key, value in scheduling.node_selector.items()):
        return False
    affinity = scheduling.affinity.node_affinity if scheduling.affinity is not None else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity is not None else None
    if required is None:
        return True
    return any(
        all(_holds(item, node.labels.get(item.key)) for item in term.match_expressions)
        for term in required.node_selector_terms
    )


def untolerated(scheduling: Scheduling, node: NodeFacts) -> list[TaintFacts]:
    """Return the node's lasting taints that no toleration covers."""
    return [taint for taint in node.taints if not any(_tolerates(item, taint) for item in scheduling.tolerations)]


def _holds(requirement: NodeRequirement, value: str | None) -> bool:
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return _exceeds(requirement, value)


def _exceeds(requirement: NodeRequirement, value: str | None) -> bool:
    bound = requirement.values[0]
    if value is None or not value.isdecimal() or not bound.isdecimal():
        return False  # as the scheduler does: what is no number matches nothing
    return int(value) > int(bound) if requirement.operator == "Gt" else int(value) < int(bound)


def _tolerates(toleration: Toleration, taint: TaintFacts) -> bool:
    if toleration.effect is not None and toleration.effect != taint.effect:
        return False
    if toleration.key is not None and toleration.key != taint.key:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == taint.value
