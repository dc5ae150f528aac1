# SPDX-License-Identifier: Apache-2.0
"""Whether the nodes could hold one replica on a profile's hardware, and what is missing if not. Pure.

Totals count, not what is free: the scheduler knows that better, and its own message is told. What a node does not
tell, such as a device's memory without a label, counts for nobody and against nobody.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nimblet.api.compactmodel import CompactModelSpec, SizingStatus
from nimblet.api.hardware import MAX_DEVICES, NodeLabelStatus
from nimblet.api.scheduling import Scheduling, Toleration
from nimblet.conditions import Reason
from nimblet.hardware import (
    CPU_CLASSES,
    SHARED_STRATEGIES,
    SHARING_LABEL,
    SLICED_RESOURCE,
    Device,
    HardwareProfile,
)
from nimblet.plan.eligible import is_chosen, untolerated
from nimblet.plan.facts import NodeFacts
from nimblet.plan.sizing import MAX_MILLICORES
from nimblet.quantity import MEBIBYTE, bytes_of, human_bytes, millicores, millicores_of

ONE_CORE: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a model asks of nodes."""

    spec: CompactModelSpec
    nodes: Sequence[NodeFacts]
    size: Callable[[HardwareProfile, int], SizingStatus]
    """Size of a whole pod on a profile with so many devices."""
    flaw: Callable[[HardwareProfile], str]
    """Why no runtime serves the model on a profile; "" where one does."""
    uneven: Callable[[HardwareProfile, int], str] = lambda _profile, _devices: ""
    """Why so many devices can't share the model; "" where they can. Of the spec's own count `flaw` tells."""
    less: Callable[[HardwareProfile, int, int], str] = lambda _profile, _devices, _each_bytes: ""
    """What would fit so many devices of so much memory, as a sentence; "" where nothing would."""
    passed_through: str = ""
    """Resource of the confidential place, where such devices are the only ones."""

    @property
    def count(self) -> int:
        """Devices of a replica."""
        return self.spec.hardware.count or 1


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A profile, and of its devices one kind, held against the nodes."""

    profile: HardwareProfile
    resource: str = ""
    sharing: str = ""
    count: int = 0
    reason: Reason | None = None
    """Why no pod may be made at all."""
    found: str = ""
    """What is missing, in words: with a reason, or a shortage that a new node would end."""
    memory_bytes: int = 0
    """Memory of the smallest devices that do, or of the largest where none does; 0 where it is not told."""
    node_labels: tuple[NodeLabelStatus, ...] = ()
    slow: bool = False
    """More cores would be needed for the speed that sizing aims at than one server uses."""

    @property
    def fits(self) -> bool:
        """Tell whether some node could hold a replica."""
        return not self.found

    @property
    def on_cpu(self) -> bool:
        """Tell whether it has no device."""
        return self.profile.class_ in CPU_CLASSES


def candidates(wanted: Wanted, profile: HardwareProfile) -> tuple[Candidate, ...]:
    """Return the ways to run on a profile, at least one: where none is there it says what is missing."""
    if flaw := wanted.flaw(profile):
        return (Candidate(profile=profile, reason=Reason.RUNTIME_UNSUITABLE, found=flaw),)
    if profile.class_ in CPU_CLASSES:
        return (_on_cpu(wanted, profile),)
    devices = _devices(wanted, profile)
    if not devices:
        sharing = str(wanted.spec.hardware.sharing).lower()
        told = f"its devices do not come {sharing}"
        return (Candidate(profile=profile, reason=Reason.HARDWARE_MISSING, found=told),)
    offered = sorted({name for node in wanted.nodes for name, total in node.resources.items() if total})
    kinds = [(device, name) for device in devices for name in offered if device.matches(name)]
    found = [item for device, name in kinds if (item := _on_device(wanted, profile, device, name)) is not None]
    if found:
        return tuple(found)
    return (_missing(wanted, profile, devices),)


def _devices(wanted: Wanted, profile: HardwareProfile) -> tuple[Device, ...]:
    """Return the kinds of devices that may be taken; shared ones only where they are asked for."""
    if wanted.passed_through and profile.class_ == "nvidia":
        return (Device(resource=wanted.passed_through),)
    sharing = wanted.spec.hardware.sharing
    if sharing is not None:
        return tuple(device for device in profile.devices if device.sharing == sharing)
    allowed = {"Whole"} if wanted.count > 1 else {"Whole", "Partition"}
    own = tuple(device for device in profile.devices if device.sharing in allowed)
    return own or profile.devices


def _missing(wanted: Wanted, profile: HardwareProfile, devices: Sequence[Device]) -> Candidate:
    named = " or ".join(f"{device.resource} ({device.sharing.lower()})" for device in devices)
    return Candidate(
        profile=profile,
        # the one that a pod would ask for, where its node is still to come
        resource=devices[0].resource,
        sharing=devices[0].sharing,
        count=wanted.count,
        reason=None if profile.on_demand else Reason.HARDWARE_MISSING,
        found=f"no node offers {named} ({_looked_at(wanted.nodes)})",
    )


def _on_cpu(wanted: Wanted, profile: HardwareProfile) -> Candidate:
    sizing = wanted.size(profile, 0)
    slow = millicores_of(sizing.cpu) >= MAX_MILLICORES and wanted.spec.resources.cpu is None
    usable, excluded = _usable(wanted, profile, wanted.nodes, resource="")
    base = Candidate(profile=profile, slow=slow)
    if profile.labels and not any(_has(node, profile.labels) for node in wanted.nodes):
        text = ", ".join(f"{key}={value}" for key, value in sorted(profile.labels.items()))
        reason = None if profile.on_demand else Reason.HARDWARE_MISSING
        return replace(base, reason=reason, found=f"no node has {text} ({_looked_at(wanted.nodes)})")
    if excluded and profile.labels and not profile.on_demand:
        return replace(base, reason=Reason.HARDWARE_MISSING, found=excluded)
    return replace(base, found=excluded or shortage(sizing, usable, whole_cores=profile.whole_cores))


def _on_device(wanted: Wanted, profile: HardwareProfile, device: Device, resource: str) -> Candidate | None:
    """Return how a kind of device does; None where nodes offer it in another way of sharing than this one."""
    nodes = [node for node in wanted.nodes if node.resources.get(resource) and _shares(device, node, resource)]
    if not nodes:
        return None
    count = wanted.count
    base = Candidate(profile=profile, resource=resource, sharing=device.sharing, count=count)
    usable, excluded = _usable(wanted, profile, nodes, resource=resource)
    if not usable:
        return replace(base, reason=Reason.HARDWARE_MISSING, found=f"{resource}: {excluded}")
    most = max(node.resources[resource] for node in usable)
    if most < count:
        found = f"it asks for {count} {resource} on one node, and no node has more than {most}"
        return replace(base, reason=Reason.TOO_MANY_DEVICES, found=found)
    if device.sharing != "Whole" and count > 1:
        found = f"it asks for {count} {resource}, and a server uses one {device.sharing.lower()} device"
        return replace(base, reason=Reason.TOO_MANY_DEVICES, found=found)
    return _sized(wanted, base, device, [node for node in usable if node.resources[resource] >= count])


def _sized(wanted: Wanted, base: Candidate, device: Device, nodes: Sequence[NodeFacts]) -> Candidate:
    """Hold the sizes against the nodes: memory of the devices, then of the container."""
    profile, resource = base.profile, base.resource
    sizing = wanted.size(profile, base.count)
    needed = -(-(sizing.device_memory_bytes or 0) // base.count)
    key = device.memory_label.format(resource=resource)
    known = {node.name: _memory(node, key) or profile.device_memory_bytes for node in nodes}
    large = [node for node in nodes if not known[node.name] or known[node.name] >= needed]
    if not large:
        largest = max(known.values())
        found = (
            f"it needs {human_bytes(needed)} on each of {base.count} {resource}, and the largest has "
            f"{human_bytes(largest)}{_more_would_do(wanted, base, nodes, largest=largest)}"
            f"{wanted.less(profile, base.count, largest)}"
        )
        return replace(base, reason=Reason.DEVICE_TOO_SMALL, found=found, memory_bytes=largest)
    told = [known[node.name] for node in large if known[node.name]]
    labels_ = (*_memory_label(nodes, large, key=key, needed=needed), *_sharing_label(device, large, resource))
    pages = {f"hugepages-{size}": amount * base.count for size, amount in profile.hugepages.items()}
    paged = [node for node in large if all(node.resources.get(name, 0) >= total for name, total in pages.items())]
    short = shortage(sizing, paged, whole_cores=profile.whole_cores)
    if not paged:
        asked = ", ".join(f"{human_bytes(total)} of {name}" for name, total in sorted(pages.items()))
        short = f"No node with {resource} has {asked}."
    return replace(base, found=short, memory_bytes=min(told, default=0), node_labels=labels_)


def _more_would_do(wanted: Wanted, base: Candidate, nodes: Sequence[NodeFacts], *, largest: int) -> str:
    """Return how many whole devices would hold it, where a node has as many."""
    most = max(node.resources[base.resource] for node in nodes) if base.sharing == "Whole" else 0
    for count in range(base.count + 1, min(most, MAX_DEVICES) + 1):
        if wanted.uneven(base.profile, count):
            continue
        if (wanted.size(base.profile, count).device_memory_bytes or 0) <= count * largest:
            return f"; hardware.count {count} would do"
    return ""


def _memory_label(
    nodes: Sequence[NodeFacts], large: Sequence[NodeFacts], *, key: str, needed: int
) -> tuple[NodeLabelStatus, ...]:
    """Return what keeps pods off nodes whose devices are too small; nothing where labels do not tell."""
    values = {node.labels[key] for node in large if key in node.labels}
    if not key or not needed or not values or any(key not in node.labels for node in nodes):
        return ()
    if all(value.isdecimal() for value in values):
        floor = -(-needed // MEBIBYTE) - 1
        return (NodeLabelStatus(key=key, operator="Gt", values=[str(floor)]),)
    return (NodeLabelStatus(key=key, operator="In", values=sorted(values)[:16]),)


def _sharing_label(device: Device, nodes: Sequence[NodeFacts], resource: str) -> tuple[NodeLabelStatus, ...]:
    """Return what keeps whole and shared devices apart where both go by one name."""
    if resource != SLICED_RESOURCE or not any(SHARING_LABEL in node.labels for node in nodes):
        return ()
    operator = "In" if device.sharing == "Shared" else "NotIn"
    return (NodeLabelStatus(key=SHARING_LABEL, operator=operator, values=list(SHARED_STRATEGIES)),)


def _shares(device: Device, node: NodeFacts, resource: str) -> bool:
    """Tell whether a node offers the resource in this way: slices of time may go by the name of whole devices."""
    if resource != SLICED_RESOURCE:
        return True
    return (node.labels.get(SHARING_LABEL) in SHARED_STRATEGIES) == (device.sharing == "Shared")


def _memory(node: NodeFacts, key: str) -> int:
    """Return a device's memory by its label: MiB, or a number with a unit (`192G`, which stands for GiB)."""
    text = node.labels.get(key, "") if key else ""
    if text.isdecimal():
        return int(text) * MEBIBYTE
    try:
        return bytes_of(f"{text}i" if text.endswith(("M", "G", "T")) else text)
    except ValueError:
        return 0


def tolerations_of(profile: HardwareProfile, resource: str) -> tuple[Toleration, ...]:
    """Return the taints that pods of a profile stand: its own, and that named like its device."""
    own = (Toleration(key=resource, operator="Exists", effect="NoSchedule"),) if resource else ()
    return tuple({item.model_dump_json(): item for item in (*profile.tolerations, *own)}.values())


def usable_nodes(scheduling: Scheduling, nodes: Iterable[NodeFacts]) -> list[NodeFacts]:
    """Return the nodes that are not cordoned, that scheduling chooses and whose taints it tolerates."""
    return [
        node
        for node in nodes
        if node.schedulable and is_chosen(scheduling, node) and not untolerated(scheduling, node)
    ]


def _usable(
    wanted: Wanted, profile: HardwareProfile, nodes: Sequence[NodeFacts], *, resource: str
) -> tuple[list[NodeFacts], str]:
    """Return the nodes that pods may go to; where there is none but should be, why."""
    own = wanted.spec.scheduling
    tolerations = [*own.tolerations, *tolerations_of(profile, resource)]
    scheduling = own.model_copy(update={"tolerations": tolerations})
    known = [node for node in nodes if node.schedulable]
    usable = [node for node in usable_nodes(scheduling, known) if _has(node, profile.labels)]
    if usable:
        return usable, ""
    return [], _unwanted(scheduling, known) if known else "The cluster shows no schedulable node."


def _unwanted(scheduling: Scheduling, nodes: Sequence[NodeFacts]) -> str:
    """Say which half of scheduling leaves no node."""
    chosen = [node for node in nodes if is_chosen(scheduling, node)]
    if not chosen:
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(scheduling.node_selector.items()))
        named = f"nodeSelector {wanted}" if wanted else "affinity.nodeAffinity"
        return f"No node is chosen by scheduling: none of {len(nodes)} has what {named} asks for."
    first = min(chosen, key=lambda node: node.name)
    taints = ", ".join(str(taint) for taint in untolerated(scheduling, first)[:3])
    if not taints:
        return f"No node that scheduling chooses is of the kind, such as {first.name}."
    return f"No node is tolerated by scheduling.tolerations: {first.name} has the taint {taints}."


def shortage(sizing: SizingStatus, nodes: Sequence[NodeFacts], *, whole_cores: bool = False) -> str:
    """Return what is short on the largest node; "" where one could hold a replica."""
    memory, cpu = bytes_of(sizing.memory), millicores_of(sizing.cpu)
    if whole_cores:
        cpu = -(-cpu // ONE_CORE) * ONE_CORE
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


def _has(node: NodeFacts, wanted: Mapping[str, str]) -> bool:
    return all(node.labels.get(key) == value for key, value in wanted.items())


def _looked_at(nodes: Sequence[NodeFacts]) -> str:
    return f"looked at {len(nodes)} node{'' if len(nodes) == 1 else 's'}"
