# SPDX-License-Identifier: Apache-2.0
"""What plans may know of a node: its labels, totals and lasting taints."""

from dataclasses import dataclass
from typing import Final

from nimblet import quantity
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.observed import Node
from nimblet.cluster.trim import Object, is_device
from nimblet.plan.facts import NodeFacts, TaintFacts

CONDITION_TAINTS: Final = "node.kubernetes.io/"
"""Taints of passing conditions (not-ready, disk-pressure): a plan looks at what a node is, not how it feels."""
AWAY_TAINTS: Final = frozenset({"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"})
"""What the node controller puts on a node whose kubelet does not report, or says that it is not ready."""
REPELLING: Final = frozenset({"NoSchedule", "NoExecute"})


@dataclass(kw_only=True)
class NodeMemory:
    """The nodes' facts, parsed once for all resources until a node changes."""

    revision: int | None = None
    facts: tuple[NodeFacts, ...] = ()

    def of(self, mirror: Mirror) -> tuple[NodeFacts, ...]:
        """Return the facts of all nodes, sorted by name."""
        revision = mirror.revision("Node")
        if revision != self.revision:
            found = (node_facts(body) for body in mirror.of_kind("Node"))
            self.revision, self.facts = revision, tuple(sorted(found, key=lambda node: node.name))
        return self.facts


def node_facts(body: Object) -> NodeFacts:
    """Return a node's labels, totals and lasting taints that keep pods away, and whether it takes new pods."""
    node = Node.model_validate(body)
    lasting = [
        TaintFacts(key=taint.key, value=taint.value, effect=taint.effect)
        for taint in node.spec.taints
        if taint.effect in REPELLING and not taint.key.startswith(CONDITION_TAINTS)
    ]
    return NodeFacts(
        name=node.metadata.name,
        labels=dict(node.metadata.labels),
        memory_bytes=quantity.bytes_of(node.status.allocatable.get("memory", "0")),
        cpu_millicores=quantity.millicores_of(node.status.allocatable.get("cpu", "0")),
        schedulable=not node.spec.unschedulable,
        resources={
            name: quantity.bytes_of(amount)
            for name, amount in sorted(node.status.allocatable.items())
            if is_device(name)
        },
        taints=tuple(sorted(lasting, key=str)),
        reachable=not any(taint.key in AWAY_TAINTS for taint in node.spec.taints),
    )
