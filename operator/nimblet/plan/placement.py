# SPDX-License-Identifier: Apache-2.0
"""Which hardware a model's pods get, decided once for a spec and kept. Pure; uses nodes' totals.

`auto` takes the least that holds the model at the speed that sizing aims at: the CPU, then the devices with the
least memory that do, then a CPU that is slower. Once pods of a choice have had a node it stays until the spec
changes, whatever labels and resources nodes show: what is told of a kept choice is a shortage, never a refusal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nimblet.api.compactmodel import SizingStatus
from nimblet.api.hardware import MAX_ALTERNATIVES, Alternative, HardwareStatus, NodeLabelStatus
from nimblet.api.scheduling import NodeRequirement
from nimblet.conditions import Reason
from nimblet.hardware import CPU_CLASSES, HardwareProfile
from nimblet.manifests.hardware import Equipment
from nimblet.plan.candidates import ONE_CORE, Candidate, Wanted, candidates, tolerations_of
from nimblet.plan.stage import Problem, problem
from nimblet.quantity import human_bytes, mebibytes, millicores_of

AUTO: Final = "auto"
CPU: Final = "cpu"
NAMED: Final = 6
"""Profiles named in a refusal."""
FORBIDDING: Final = frozenset({"baseline", "restricted"})
"""Levels of Pod Security that refuse host namespaces and capabilities."""
REFUSALS: Final = frozenset(
    {
        Reason.PROFILE_UNKNOWN,
        Reason.HARDWARE_MISSING,
        Reason.TOO_MANY_DEVICES,
        Reason.DEVICE_TOO_SMALL,
        Reason.HARDWARE_FORBIDDEN,
        Reason.RUNTIME_UNSUITABLE,
    }
)
"""What keeps pods from being made for want of hardware; the first four and the last may heal by a node."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An earlier choice that stands."""

    profile: str
    hardware: HardwareStatus


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where pods run, as policies and the namespace have it."""

    runtime_class: str = ""
    """RuntimeClass of the TEEPolicy's place: it stands over the profile's."""
    pod_security: str = ""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The profile, what of it the pods get, and what is short or refused."""

    profile: str
    hardware: HardwareStatus
    sizing: SizingStatus
    equipment: Equipment
    shortage: str = ""
    note: str = ""
    """What of the profile gave way to a policy."""

    @property
    def offloaded(self) -> bool:
        """Tell whether the server has a device."""
        return self.hardware.hardware_class not in CPU_CLASSES

    @property
    def why(self) -> str:
        """Why it is this one, and what of it is not as the profile has it."""
        planned = "planned, and not run on such hardware by the project" if self.hardware.proof else ""
        return "; ".join(text for text in (self.hardware.why, self.note, planned) if text)


def plan_placement(
    wanted: Wanted, profiles: Mapping[str, HardwareProfile], *, kept: Kept | None, place: Place, decided_for: str
) -> Placement | Problem:
    """Return the placement, or why there can be none."""
    named = kept.profile if kept is not None else wanted.spec.hardware.profile
    if named != AUTO and named not in profiles:
        found = f"hardware.profile {named} is none of {', '.join(profiles)}."
        return problem(Reason.PROFILE_UNKNOWN, found)
    if kept is not None:
        chosen = _as_kept(wanted, profiles[named], kept.hardware)
        return _placed(wanted, chosen, place, kept.hardware)
    if named != AUTO:
        ranked = sorted(candidates(wanted, profiles[named]), key=_least)
        why = "named in hardware.profile"
    else:
        ranked = _by_auto(wanted, profiles)
        if ranked[0].reason is not None:
            return _none_fits(ranked)
        why = f"auto: {_why(ranked[0])}"
    chosen = ranked[0]
    status = HardwareStatus(
        why=why,
        hardware_class=chosen.profile.class_,
        resource=chosen.resource,
        count=chosen.count,
        sharing=chosen.sharing,
        node_labels=list(chosen.node_labels),
        needs=list(chosen.profile.needs),
        alternatives=[_alternative(wanted, item, chosen) for item in ranked[1 : MAX_ALTERNATIVES + 1]],
        proof="" if chosen.profile.class_ in CPU_CLASSES else "Planned",
        decided_for=decided_for,
    )
    return _placed(wanted, chosen, place, status)


def _none_fits(ranked: Sequence[Candidate]) -> Problem:
    """Return the refusal of `auto`: the reason that says most, and what each profile lacks."""
    told = "; ".join(f"{item.profile.name}: {item.found.rstrip('.')}" for item in ranked[:NAMED])
    return problem(ranked[0].reason or Reason.HARDWARE_MISSING, f"No profile holds the model: {told}.")


def _by_auto(wanted: Wanted, profiles: Mapping[str, HardwareProfile]) -> list[Candidate]:
    """Return all candidates, the one that is taken first; where none fits, the CPU waits for a node."""
    asks_device = wanted.spec.hardware.count is not None or wanted.spec.hardware.sharing is not None
    found: list[Candidate] = []
    for profile in profiles.values():
        if not profile.by_auto:
            continue
        for item in candidates(wanted, profile):
            told = "hardware.count and sharing ask for a device" if item.on_cpu and asks_device else ""
            wasteful = f"it takes whole cores, and one does for {wanted.size(profile, 0).cpu}"
            if not told and item.fits and profile.whole_cores and not _fills_cores(wanted, profile):
                told = wasteful
            found.append(replace(item, found=told, reason=Reason.HARDWARE_MISSING) if told else item)
    ranked = sorted(found, key=lambda item: _rank(wanted, item))
    if not ranked[0].fits and not asks_device:
        waiting = [item for item in ranked if item.profile.name == CPU and item.reason is None]
        ranked = [*waiting, *(item for item in ranked if item not in waiting)]
    return ranked


def _fills_cores(wanted: Wanted, profile: HardwareProfile) -> bool:
    return millicores_of(wanted.size(profile, 0).cpu) >= ONE_CORE


def _rank(wanted: Wanted, item: Candidate) -> tuple[int, ...]:
    """Return how far down the list a candidate comes."""
    if not item.fits:
        return (4, *_least(item))
    if wanted.passed_through and item.resource == wanted.passed_through:
        return (0, *_least(item))  # the place passes its device to the server anyhow
    if item.on_cpu:
        return (3 if item.slow else 1, 0 if item.profile.whole_cores else 1)
    return (2, *_least(item))


def _least(item: Candidate) -> tuple[int, ...]:
    """Return the order within devices: those that fit, told memory before unknown, less before more.

    Of those that do not fit, the one that says most about why: of devices that are too small, the largest.
    """
    if not item.fits:
        order = (None, Reason.DEVICE_TOO_SMALL, Reason.TOO_MANY_DEVICES, Reason.HARDWARE_MISSING)
        return (1, order.index(item.reason) if item.reason in order else len(order), -item.memory_bytes)
    return (0, 0 if item.memory_bytes else 1, item.memory_bytes)


def _why(chosen: Candidate) -> str:
    if not chosen.fits:
        return f"{chosen.profile.name}, until a node fits"
    if chosen.on_cpu:
        slower = ", and no device does" if chosen.slow else ""
        return f"{chosen.profile.name} is the least that holds it{slower}"
    told = f" of {human_bytes(chosen.memory_bytes)}" if chosen.memory_bytes else ""
    return f"{chosen.count} {chosen.resource}{told} is the least that holds it"


def _alternative(wanted: Wanted, item: Candidate, chosen: Candidate) -> Alternative:
    if item.fits:
        why = "holds it, and is more than the model needs"
        if item.on_cpu and chosen.on_cpu:
            why = "holds it; whole cores serve a model better that fills them"
        if item.slow:
            why = f"holds it, slower than aimed at: {wanted.size(item.profile, 0).cpu} cores are the most used"
    else:
        why = item.found.rstrip(".")
    return Alternative(profile=item.profile.name, resource=item.resource, fits=item.fits, why=why[:300])


def _as_kept(wanted: Wanted, profile: HardwareProfile, before: HardwareStatus) -> Candidate:
    """Return an earlier choice; today's nodes only tell what is short."""
    today = [item for item in candidates(wanted, profile) if item.resource == before.resource]
    found = today[0].found if today else f"No node offers {before.resource}."
    return Candidate(
        profile=profile,
        resource=before.resource,
        sharing=before.sharing,
        count=before.count,
        found=found,
        node_labels=tuple(before.node_labels),
    )


def _placed(wanted: Wanted, chosen: Candidate, place: Place, status: HardwareStatus) -> Placement | Problem:
    profile = chosen.profile
    if chosen.reason is not None:
        return problem(chosen.reason, f"Profile {profile.name}: {chosen.found.rstrip('.')}.")
    if profile.needs and place.pod_security in FORBIDDING:
        needs = ", ".join(profile.needs)
        found = f"Profile {profile.name} needs {needs}, and the namespace enforces {place.pod_security}."
        return problem(Reason.HARDWARE_FORBIDDEN, found)
    if profile.host_ipc and place.runtime_class:
        found = f"Profile {profile.name} needs hostIPC, which no confidential guest shares with its node."
        return problem(Reason.HARDWARE_FORBIDDEN, found)
    note = ""
    if place.runtime_class and profile.runtime_class not in ("", place.runtime_class):
        note = f"the TEEPolicy's RuntimeClass {place.runtime_class} stands over {profile.runtime_class}"
    return Placement(
        profile=profile.name,
        hardware=status,
        sizing=wanted.size(profile, chosen.count),
        equipment=_equipment(wanted, chosen, place),
        shortage=f"{chosen.found[:1].upper()}{chosen.found[1:].rstrip('.')}." if chosen.found else "",
        note=note,
    )


def _equipment(wanted: Wanted, chosen: Candidate, place: Place) -> Equipment:
    profile = chosen.profile
    pages = {f"hugepages-{size}": mebibytes(amount * chosen.count) for size, amount in profile.hugepages.items()}
    device = {chosen.resource: str(chosen.count)} if chosen.resource else {}
    passed = bool(wanted.passed_through) and chosen.resource == wanted.passed_through
    return Equipment(
        resources={**device, **pages},
        required=(*_exactly(profile.labels), *(_requirement(item) for item in chosen.node_labels)),
        preferred=_exactly(profile.preferred_labels),
        # nodes of a confidential place have taints of their own, if any
        tolerations=() if passed else tolerations_of(profile, chosen.resource),
        runtime_class="" if place.runtime_class else profile.runtime_class,
        supplemental_groups=profile.supplemental_groups,
        shm_bytes=profile.shm_bytes,
        host_ipc=profile.host_ipc,
        capabilities=profile.capabilities,
        whole_cores=profile.whole_cores,
    )


def _exactly(labels_: Mapping[str, str]) -> tuple[NodeRequirement, ...]:
    return tuple(NodeRequirement(key=key, operator="In", values=[value]) for key, value in sorted(labels_.items()))


def _requirement(label: NodeLabelStatus) -> NodeRequirement:
    return NodeRequirement(key=label.key, operator=label.operator, values=label.values)
