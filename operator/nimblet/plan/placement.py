# SPDX-License-Identifier: Apache-2.0
"""Which hardware profile, and whether any node could ever hold one replica. Pure; uses nodes' totals."""

from collections.abc import Iterable
from dataclasses import dataclass

from nimblet.api.compactmodel import CompactModelSpec, SizingStatus
from nimblet.plan.eligible import is_chosen, untolerated
from nimblet.plan.facts import NodeFacts
from nimblet.quantity import bytes_of, human_bytes, millicores, millicores_of


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The profile and, when no node fits, what is short."""

    profile: str
    why: str
    shortage: str = ""


def plan_placement(spec: CompactModelSpec, sizing: SizingStatus, nodes: Iterable[NodeFacts]) -> Placement:
    """Return the profile (cpu is the one there is) and the shortage against the largest schedulable node.

    A shortage does not keep the Deployment from being made: a node may be added; the scheduler's own message
    is reported beside it.
    """
    named = spec.hardware.profile
    why = "named in hardware.profile" if named != "auto" else "auto: cpu is the profile for llama.cpp on CPU nodes"
    known = [node for node in nodes if node.schedulable]
    usable = usable_nodes(spec, known)
    if known and not usable:
        return Placement(profile="cpu", why=why, shortage=_unwanted(spec, known))
    return Placement(profile="cpu", why=why, shortage=_shortage(sizing, usable))


def usable_nodes(spec: CompactModelSpec, nodes: Iterable[NodeFacts]) -> list[NodeFacts]:
    """Return the nodes that are not cordoned, that scheduling chooses and whose taints it tolerates."""
    scheduling = spec.scheduling
    return [
        node
        for node in nodes
        if node.schedulable and is_chosen(scheduling, node) and not untolerated(scheduling, node)
    ]


def _unwanted(spec: CompactModelSpec, nodes: list[NodeFacts]) -> str:
    """Say which half of scheduling leaves no node."""
    scheduling = spec.scheduling
    chosen = [node for node in nodes if is_chosen(scheduling, node)]
    if not chosen:
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(scheduling.node_selector.items()))
        named = f"nodeSelector {wanted}" if wanted else "affinity.nodeAffinity"
        return f"No node is chosen by scheduling: none of {len(nodes)} has what {named} asks for."
    first = min(chosen, key=lambda node: node.name)
    taints = ", ".join(str(taint) for taint in untolerated(scheduling, first)[:3])
    return f"No node is tolerated by scheduling.tolerations: {first.name} has the taint {taints}."


def _shortage(sizing: SizingStatus, nodes: list[NodeFacts]) -> str:
    memory, cpu = bytes_of(sizing.memory), millicores_of(sizing.cpu)
    if not nodes:
        return "The cluster shows no schedulable node."
    if any(node.memory_bytes >= memory and node.cpu_millicores >= cpu for node in nodes):
        return ""
    largest = max(nodes, key=lambda node: (node.memory_bytes, node.cpu_millicores, node.name))
    most_cpu = max(node.cpu_millicores for node in nodes)
    short = []
    if largest.memory_bytes < memory:
        short.append(f"memory {human_bytes(memory)} (the largest node has {human_bytes(largest.memory_bytes)})")
    if most_cpu < cpu:
        short.append(f"CPU {millicores(cpu)} (the largest node has {millicores(most_cpu)})")
    if not short:
        short.append(f"memory {human_bytes(memory)} and CPU {millicores(cpu)} on the same node")
    return f"No node is large enough: it needs {' and '.join(short)}."
