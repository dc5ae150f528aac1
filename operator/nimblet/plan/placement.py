# SPDX-License-Identifier: Apache-2.0
"""Which hardware profile, and whether any node could ever hold one replica. Pure; uses nodes' totals."""

from collections.abc import Iterable
from dataclasses import dataclass

from nimblet.api.compactmodel import CompactModelSpec, SizingStatus
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
    usable = [node for node in nodes if node.schedulable]
    return Placement(profile="cpu", why=why, shortage=_shortage(sizing, usable))


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
