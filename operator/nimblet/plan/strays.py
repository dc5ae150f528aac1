# SPDX-License-Identifier: Apache-2.0
"""Which pods run on nodes that TEEPolicies do not admit, though their RuntimeClass is right. Pure.

A pod's own nodeSelector tells what it was placed by: the scheduler saw these labels on its node. So a policy
that asks for other labels than it did is told from a node whose labels vanished. The former is judged by the node
that the pod really runs on; the latter moves nobody, unless the policy evicts. What is not known counts against
the pod.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nimblet.plan.facts import NodeFacts
from nimblet.plan.places import Place
from nimblet.plan.teefacts import LivePod, LiveWorkload, RuntimeClassFacts


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What the policies admit: places, and the labels that each RuntimeClass adds."""

    places: tuple[Place, ...] = ()
    classes: Mapping[str, RuntimeClassFacts] = field(default_factory=dict)
    strict: bool = False
    """A Required policy evicts: a node without its labels is no place, whatever it was."""

    def strays(self, pods: Iterable[LivePod], nodes: Sequence[NodeFacts]) -> tuple[LivePod, ...]:
        """Return the pods whose RuntimeClass is admitted, and whose node is not."""
        known = {node.name: node for node in nodes}
        return tuple(pod for pod in pods if self._knows(pod) and not self._admits(pod, known.get(pod.node)))

    def _knows(self, pod: LivePod) -> bool:
        return any(pod.runtime_class in place.classes for place in self.places)

    def _admits(self, pod: LivePod, node: NodeFacts | None) -> bool:
        places = (place for place in self.places if pod.runtime_class in place.classes)
        class_ = self.classes.get(pod.runtime_class)
        return any(self._fits(pod, node, wanted_labels(place, class_)) for place in places)

    def _fits(self, pod: LivePod, node: NodeFacts | None, wanted: Mapping[str, str]) -> bool:
        chosen = has_labels(pod.node_selector, wanted)
        if node is None or (chosen and not self.strict):
            return chosen
        return has_labels(node.labels, wanted)


def wanted_labels(place: Place, class_: RuntimeClassFacts | None) -> Mapping[str, str]:
    """Return the labels that the pods choose nodes by: the place's, and those that its RuntimeClass adds."""
    return {**(class_.node_labels if class_ is not None else {}), **place.node_labels}


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tell whether all wanted labels are there."""
    return all(labels.get(key) == value for key, value in wanted.items())


def sheltering(workloads: Iterable[LiveWorkload], strays: Sequence[LivePod]) -> tuple[LiveWorkload, ...]:
    """Return the workloads that strays are of, and not of one that had its place before."""
    return tuple(item for item in workloads if any(_is_of(pod, item) for pod in strays))


def _is_of(pod: LivePod, workload: LiveWorkload) -> bool:
    if pod.component != workload.component:
        return False
    if pod.created_at is None or workload.created_at is None:
        return True
    return pod.created_at >= workload.created_at
