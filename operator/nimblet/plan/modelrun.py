# SPDX-License-Identifier: Apache-2.0
"""The part of a CompactModel's plan that sizes, places and renders its server. Pure."""

from dataclasses import dataclass, replace

from nimblet.api.compactmodel import CompactModel, SizingStatus
from nimblet.hardware import HardwareProfile
from nimblet.manifests.common import Manifest
from nimblet.manifests.loader import LoaderPod
from nimblet.manifests.template import revision_of
from nimblet.plan.adapters import Adapters, adapters_problem, held_secret
from nimblet.plan.artifact import Artifact
from nimblet.plan.attest import Proof
from nimblet.plan.cache import CachePlan
from nimblet.plan.draft import Draft, draft_problem, draft_secret_problem
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
from nimblet.plan.runtime.extraargs import extra_args_problem, told
from nimblet.plan.stage import Problem, Progress
from nimblet.plan.tee import Guard
from nimblet.plan.teefacts import RuntimeClassFacts
from nimblet.plan.transport import Transport
from nimblet.plan.workload import Served, Server, demand, plan_deployment, pod_options
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
    """Of the model's own source and its adapters'; the artifact is the model's own."""
    adapters: Adapters
    draft: Draft | None
    """The drafting model, where the spec names one."""
    cache: CachePlan
    transport: Transport
    weights: str | None
    """Image that the weights are mounted from, where they are."""

    @property
    def source_hashes(self) -> frozenset[str]:
        """Names of all sources of the spec."""
        draft = {self.draft.loader.source_hash} if self.draft is not None else set()
        return self.adapters.hashes | draft | {self.loader.source_hash}


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
    held = _held_back(basis, run)
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
    served = Served(
        model=model,
        artifact=placed.artifact,
        sizing=sizing,
        settings=settings,
        loader=basis.loader,
        server=Server(
            runtime=told(choice.runtime, model.spec.runtime.extra_args),
            image=choice.image,
            hardware=placed.profile.class_,
            devices=placement.hardware.count,
        ),
        options=pod_options(model, basis.facts, basis.keys),
        cache=basis.cache.mount,
        weights=basis.weights,
        adapters=basis.adapters,
        draft=basis.draft,
    )
    deployment = equipped(placement, plan_deployment(served))
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
    draft = basis.draft.artifact if basis.draft is not None else None
    if artifact is None or not basis.adapters.known or (basis.draft is not None and draft is None):
        return None
    missing = reference_problem(model, facts) if not model.spec.suspend else None
    refused = missing or model_problem(model, artifact, settings, kept=basis.images.kept)
    refused = refused or adapters_problem(model, artifact, basis.adapters)
    refused = refused or draft_problem(artifact, basis.draft, settings)
    if refused is not None:
        return refused
    known = Known(
        model=model,
        header=artifact.header,
        demand=demand(model, artifact.header, settings, adapters=basis.adapters.artifacts, draft=draft),
        servers=servers_on(model, artifact, settings, basis.images, adapters=basis.adapters.artifacts),
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
    unfit = basis.transport.refuses(choice.runtime.name) or extra_args_problem(model, choice)
    if unfit is not None:
        return unfit
    placement = with_hint(placement, known, profile, nodes, overhead_bytes=overhead.memory_bytes)
    return _Placed(artifact=artifact, profile=profile, choice=choice, placement=placement)


def _held_back(basis: Basis, run: Run) -> Problem | None:
    """Return why new pods could not mount a Secret of the source's; pods that have it already need it no more.

    A template alone has nothing: one that was written while the model was suspended was not looked at. With a
    cache the filler mounts it, and no pod of the server.
    """
    model, facts = basis.model, basis.facts
    revision = revision_of(run.deployment)
    current = facts.deployment.revision if facts.deployment is not None else None
    if revision is None or model.spec.suspend or model.spec.cache is not None:
        return None
    if revision == current and any(pod.revision == revision and not pod.ended for pod in facts.pods):
        return None
    own = secret_problem(model, facts) or weights_key_problem(model, facts)
    return own or held_secret(basis.adapters, facts) or draft_secret_problem(basis.draft, facts)


def is_live(facts: ModelFacts, run: Run) -> bool:
    return facts.deployment is not None and facts.deployment.revision == revision_of(run.deployment)


def cache_state(cache: CachePlan, facts: ModelFacts, run: Run) -> Problem | Progress | None:
    """Return how the cache stands; pods that use it have checked it, so a Job that looks again is no news."""
    state = cache.outcome.state
    return None if isinstance(state, Progress) and is_live(facts, run) else state
