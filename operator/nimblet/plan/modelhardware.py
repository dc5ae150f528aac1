# SPDX-License-Identifier: Apache-2.0
"""The hardware of one CompactModel: what it asks for, the choice that stands, and how one comes to stay. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nimblet.api.compactmodel import CompactModel, SizingStatus
from nimblet.api.hardware import HardwareStatus
from nimblet.hardware import CPU_CLASSES, HardwareProfile
from nimblet.manifests.common import Manifest
from nimblet.manifests.hardware import equip
from nimblet.manifests.template import revision_of
from nimblet.nextstep import NEXT_STEP
from nimblet.plan.artifact import Header
from nimblet.plan.candidates import Wanted, usable_nodes
from nimblet.plan.devicesizing import split_problem
from nimblet.plan.enginesizing import size_engine
from nimblet.plan.facts import ModelFacts, NodeFacts
from nimblet.plan.images import spec_hash_of
from nimblet.plan.modelserver import Servers
from nimblet.plan.offload import size_offloaded
from nimblet.plan.overhead import with_overhead
from nimblet.plan.placement import AUTO, Kept, Place, Placement, plan_placement
from nimblet.plan.runtime.choice import Choice
from nimblet.plan.sizing import Demand, size_model, with_suggestion
from nimblet.plan.source import spec_hash
from nimblet.plan.stage import Problem
from nimblet.plan.suggestion import suggest
from nimblet.plan.tee import Guard
from nimblet.plan.teefacts import RuntimeClassFacts
from nimblet.quantity import bytes_of
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Known:
    """A model whose source is known."""

    model: CompactModel
    header: Header
    demand: Demand
    servers: Servers


def size_on(known: Known, profile: HardwareProfile, devices: int) -> SizingStatus:
    """Return the sizes of the container on a profile."""
    choice, on_cpu = known.servers(profile), profile.class_ in CPU_CLASSES
    engine = choice.runtime.engine if isinstance(choice, Choice) else None
    if engine is not None:
        return size_engine(known.header, known.demand, engine, devices=0 if on_cpu else max(devices, 1))
    if on_cpu:
        return size_model(known.header, known.demand)
    return size_offloaded(known.header, known.demand, devices=max(devices, 1))


def place_model(
    known: Known, facts: ModelFacts, settings: Settings, *, guard: Guard, nodes: Sequence[NodeFacts]
) -> Placement | Problem:
    """Return the placement; its sizing is the container's, while nodes are held against the whole pod's."""
    model, profiles = known.model, settings.hardware.known
    overhead = guard.overhead or RuntimeClassFacts(name="")
    confinement = guard.confinement
    wanted = Wanted(
        spec=model.spec,
        nodes=nodes,
        size=lambda profile, devices: with_overhead(size_on(known, profile, devices), overhead),
        flaw=lambda profile: _flaw(known.servers(profile)),
        uneven=lambda profile, devices: _uneven(known, profile, devices),
        less=lambda profile, devices, each: _less(known, profile, devices, each_bytes=each),
        passed_through=confinement.device if confinement is not None else "",
    )
    place = Place(
        runtime_class=confinement.server_class if confinement is not None else "",
        pod_security=facts.pod_security,
    )
    found = plan_placement(
        wanted, profiles, kept=_kept(model, facts), place=place, decided_for=_decided_for(model)
    )
    if isinstance(found, Problem):
        return found
    return replace(found, sizing=size_on(known, profiles[found.profile], found.hardware.count))


def with_hint(
    placement: Placement,
    known: Known,
    profile: HardwareProfile,
    nodes: Sequence[NodeFacts],
    *,
    overhead_bytes: int,
) -> Placement:
    """Return the placement; where memory is short on the CPU, with the context and the slots that would fit."""
    demand, sizing = known.demand, placement.sizing
    usable = [node.memory_bytes - overhead_bytes for node in usable_nodes(known.model.spec.scheduling, nodes)]
    if not placement.shortage or not usable or demand.memory is not None or placement.offloaded:
        return placement
    if bytes_of(sizing.memory) <= max(usable):
        return placement

    def total(tokens: int, slots: int) -> int:
        asked = replace(demand, context_length=tokens, parallel=slots)
        return size_on(replace(known, demand=asked), profile, 0).total_bytes

    fits = suggest(total, context_length=demand.context_length, parallel=demand.parallel, budget_bytes=max(usable))
    shortage = f"{placement.shortage}{fits.text}"
    return replace(placement, sizing=with_suggestion(sizing, fits), shortage=shortage)


def _uneven(known: Known, profile: HardwareProfile, devices: int) -> str:
    """Return why so many devices can't share the model; llama.cpp gives each whole layers, the others heads."""
    choice = known.servers(profile)
    engine = choice.runtime.engine if isinstance(choice, Choice) else None
    return split_problem(known.header, devices, engine).rstrip(".") if engine is not None else ""


def _less(known: Known, profile: HardwareProfile, devices: int, *, each_bytes: int) -> str:
    """Return what would fit devices of this memory: a shorter context, or fewer slots."""
    demand = known.demand

    def total(tokens: int, slots: int) -> int:
        asked = replace(known, demand=replace(demand, context_length=tokens, parallel=slots))
        return size_on(asked, profile, devices).device_memory_bytes or 0

    budget = each_bytes * devices
    fits = suggest(total, context_length=demand.context_length, parallel=demand.parallel, budget_bytes=budget)
    return f";{fits.text[0]}{fits.text[1].lower()}{fits.text[2:]}".rstrip(".") if fits.text else ""


def _flaw(found: Choice | Problem) -> str:
    """Return why nothing serves on a profile; "" where something does."""
    if isinstance(found, Choice):
        return ""
    return found.message.removesuffix(NEXT_STEP[found.reason]).rstrip(" .")


def _kept(model: CompactModel, facts: ModelFacts) -> Kept | None:
    """Return the choice that stands: pods of it had a node, and the spec is the same."""
    before = model.status.resolved
    if before is None or not before.profile:
        return None
    if before.hardware is not None:
        stands = before.hardware.kept and before.hardware.decided_for == _decided_for(model)
        return Kept(profile=before.profile, hardware=before.hardware) if stands else None
    if facts.deployment is None or before.spec_hash != spec_hash_of(model, facts):
        return None
    # placed by an operator that knew the CPU alone
    named = model.spec.hardware.profile != AUTO
    why = "named in hardware.profile" if named else "auto: cpu was the one there was"
    status = HardwareStatus(why=why, hardware_class="cpu", decided_for=_decided_for(model), kept=True)
    return Kept(profile=before.profile, hardware=status)


def _decided_for(model: CompactModel) -> str:
    """Return the hash of what a choice is made for: a restart is no reason to choose anew."""
    return spec_hash(model.spec, restarted_at="")


def equipped(placement: Placement, deployment: Manifest) -> Manifest:
    """Return the Deployment with what the choice gives its pods."""
    return equip(deployment, placement.equipment)


def hardware_status(placement: Placement, facts: ModelFacts, deployment: Manifest | None) -> HardwareStatus:
    """Return the record of the choice; it stays from the moment that a pod of it has a node."""
    status, revision = placement.hardware, revision_of(deployment)
    has_node = any(pod.node and pod.revision == revision for pod in facts.pods)
    return status.model_copy(update={"kept": True}) if has_node and not status.kept else status
