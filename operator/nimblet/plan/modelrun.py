# SPDX-License-Identifier: Apache-2.0
"""The part of a CompactModel's plan that sizes, places and renders its server. Pure."""

from dataclasses import dataclass, replace

from nimblet.api.compactmodel import CompactModel, SizingStatus
from nimblet.hardware import HardwareProfile
from nimblet.manifests.common import Manifest
from nimblet.manifests.loader import LoaderPod
from nimblet.manifests.template import revision_of
from nimblet.plan.artifact import Artifact
from nimblet.plan.attest import Proof
from nimblet.plan.cache import CachePlan
from nimblet.plan.facts import ModelFacts
from nimblet.plan.guarded import confined
from nimblet.plan.images import Images
from nimblet.plan.keys import KeyPlan
from nimblet.plan.modelhardware import Known, equipped, place_model, with_hint
from nimblet.plan.modelserver import model_problem, servers_on
from nimblet.plan.overhead import tell_overhead
from nimblet.plan.placement import Placement
from nimblet.plan.references import reference_problem, weights_key_problem
from nimblet.plan.resolve import Resolution, secret_problem
from nimblet.plan.runtime.choice import Choice
from nimblet.plan.stage import Problem, Progress
from nimblet.plan.tee import Guard
from nimblet.plan.teefacts import RuntimeClassFacts
from nimblet.plan.transport import Transport
from nimblet.plan.workload import Server, demand, plan_deployment, pod_options
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What the stages before decided."""

    model: CompactModel
    facts: ModelFacts
    settings: Settings
    images: Images
    trusted: bool
    """What the spec's integrity names is there."""
    guard: Guard
    proof: Proof
    keys: KeyPlan
    loader: LoaderPod
    resolution: Resolution
    cache: CachePlan
    transport: Transport
    weights: str | None
    """Image that the weights are mounted from, where they are."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What sizing and rendering decided; without `deployment` the stage stopped at `state`."""

    weights: str | None = None
    choice: Choice | None = None
    newer_images: bool = False
    sizing: SizingStatus | None = None
    placement: Placement | None = None
    deployment: Manifest | None = None
    state: Problem | None = None


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """Who serves which artifact on what kind of node."""

    artifact: Artifact
    profile: HardwareProfile
    choice: Choice
    placement: Placement


def plan_run(basis: Basis) -> Run:
    """Return what will run, or where that stopped."""
    run = _rendered(basis)
    held = _held_back(basis.model, basis.facts, run)
    return run if held is None else replace(run, deployment=None, state=held)


def _rendered(basis: Basis) -> Run:
    placed = _placed(basis)
    if not isinstance(placed, _Placed):
        return Run(state=placed)
    model, settings, guard, choice, placement = (
        basis.model,
        basis.settings,
        basis.guard,
        placed.choice,
        placed.placement,
    )
    sizing = placement.sizing
    deployment = plan_deployment(
        model,
        placed.artifact,
        sizing,
        settings,
        loader=basis.loader,
        server=Server(
            runtime=choice.runtime,
            image=choice.image,
            hardware=placed.profile.class_,
            devices=placement.hardware.count,
        ),
        options=pod_options(model, basis.facts, basis.keys),
        cache=basis.cache.mount,
        weights=basis.weights,
    )
    deployment = equipped(placement, deployment)
    return Run(
        weights=basis.weights,
        choice=choice,
        newer_images=choice.kept and basis.images.newer(choice.wanted),
        sizing=sizing if guard.overhead is None else tell_overhead(sizing, guard.overhead),
        placement=placement,
        deployment=confined(guard, basis.transport.pods(deployment, runtime=choice.runtime.name)),
    )


def _placed(basis: Basis) -> "_Placed | Problem | None":
    """Return server and node kind, why there are none, or None while the source is not resolved."""
    model, facts, settings, guard = basis.model, basis.facts, basis.settings, basis.guard
    artifact = basis.resolution.artifact
    if artifact is None:
        return None
    missing = reference_problem(model, facts) if not model.spec.suspend else None
    refused = missing or model_problem(model, artifact, settings)
    if refused is not None:
        return refused
    known = Known(
        model=model,
        header=artifact.header,
        demand=demand(model, artifact.header, settings),
        servers=servers_on(model, artifact, settings, basis.images),
    )
    nodes = guard.nodes(facts.nodes)
    placement = place_model(known, facts, settings, guard=guard, nodes=nodes)
    if isinstance(placement, Problem):
        return placement
    overhead = guard.overhead or RuntimeClassFacts(name="")
    profile = settings.hardware.known[placement.profile]
    choice = known.servers(profile)
    if isinstance(choice, Problem):
        return choice
    plain = basis.transport.refuses(choice.runtime.name)
    if plain is not None:
        return plain
    placement = with_hint(placement, known, profile, nodes, overhead_bytes=overhead.memory_bytes)
    return _Placed(artifact=artifact, profile=profile, choice=choice, placement=placement)


def _held_back(model: CompactModel, facts: ModelFacts, run: Run) -> Problem | None:
    """Return why new pods could not mount a Secret of the source's; pods that have it already need it no more.

    With a cache the filler mounts it, and no pod of the server.
    """
    revision = revision_of(run.deployment)
    current = facts.deployment.revision if facts.deployment is not None else None
    if revision is None or revision == current or model.spec.suspend or model.spec.cache is not None:
        return None
    return secret_problem(model, facts) or weights_key_problem(model, facts)


def is_live(facts: ModelFacts, run: Run) -> bool:
    return facts.deployment is not None and facts.deployment.revision == revision_of(run.deployment)


def cache_state(cache: CachePlan, facts: ModelFacts, run: Run) -> Problem | Progress | None:
    """Return how the cache stands; pods that use it have checked it, so a Job that looks again is no news."""
    state = cache.outcome.state
    return None if isinstance(state, Progress) and is_live(facts, run) else state
