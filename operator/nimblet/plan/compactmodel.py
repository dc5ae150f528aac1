# SPDX-License-Identifier: Apache-2.0
"""The plan of a CompactModel: resolve, size, place, run, judge. Pure; the operator, the CLI and tests call it.

Stages run in this order and the first that stops leaves the later children as they are: a broken edit never
touches the Deployment that serves.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from nimblet import labels, names
from nimblet.api.compactmodel import (
    CompactModel,
    CompactModelStatus,
    ResolvedStatus,
    SizingStatus,
)
from nimblet.conditions import ConditionType, Reason
from nimblet.manifests.common import Manifest, Part, pod_selector
from nimblet.manifests.loader import LoaderPod
from nimblet.manifests.template import revision_of
from nimblet.merging import merge
from nimblet.plan.artifact import Artifact
from nimblet.plan.artifactstatus import artifact_status, with_conditions
from nimblet.plan.cache import CachePlan, leftovers, plan_cache
from nimblet.plan.facts import ChildRef, ModelFacts
from nimblet.plan.guarded import CLAIMS, confined, hold, judge_proof, policy_status, policy_verdicts
from nimblet.plan.images import Images, choose_images, spec_hash_of
from nimblet.plan.integrity import Trust, known_trust, method_of, trust_of
from nimblet.plan.keys import KeyPlan, plan_keys
from nimblet.plan.modelhardware import Known, equipped, hardware_status, place_model, with_hint
from nimblet.plan.modelserver import model_problem, servers_on
from nimblet.plan.overhead import tell_overhead
from nimblet.plan.placement import Placement
from nimblet.plan.references import reference_problem, weights_key_problem
from nimblet.plan.resolve import Resolution, blocked, plan_resolution, secret_poll, secret_problem
from nimblet.plan.result import Plan
from nimblet.plan.rollout import Expectation, Rollout, judge_rollout
from nimblet.plan.runtime.choice import Choice
from nimblet.plan.runtime.interface import image_version
from nimblet.plan.source import (
    claim_of,
    optional_keys,
    required_keys,
    resolve_seconds,
    scheme_of,
    source_hash,
    source_text,
)
from nimblet.plan.stage import Problem, Progress, earliest, problem
from nimblet.plan.task import PROOF
from nimblet.plan.tee import Bindable, Guard, plan_guard
from nimblet.plan.teefacts import RuntimeClassFacts
from nimblet.plan.transport import Transport, plan_transport
from nimblet.plan.verdicts import Judgement, model_verdicts, was_true
from nimblet.plan.weights import weights_image
from nimblet.plan.workload import (
    Server,
    context_length,
    demand,
    plan_common,
    plan_deployment,
    pod_options,
    pointless_budget,
    unstoppable,
    wanted_replicas,
)
from nimblet.settings import Settings

POLLED: Final = frozenset({Reason.SECRET_MISSING, Reason.SECRET_NOT_USABLE, Reason.CONFIG_MAP_MISSING})
"""What users put right outside of the spec, and nothing tells us of."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What sizing and rendering decided; without `deployment` the stage stopped at `state`."""

    weights: str | None = None
    choice: Choice | None = None
    newer_images: bool = False
    sizing: SizingStatus | None = None
    placement: Placement | None = None
    deployment: Manifest | None = None
    state: Problem | None = None


def plan_compactmodel(
    model: CompactModel, facts: ModelFacts, settings: Settings, now: datetime
) -> Plan[CompactModelStatus]:
    """Return the children, deletions and status of one model. Same arguments, same plan."""
    images = choose_images(model, facts, settings)
    trust = trust_of(model, facts.trust)
    guard = plan_guard(_bindable(model, settings, gate_image=images.loader), facts.tee, facts.nodes)
    proof = judge_proof(guard, facts.tee, now)
    loader = _loader_pod(model, settings, known_trust(model, facts.trust), image=images.loader)
    access = model.spec.access
    keys = plan_keys(facts, wanted=access.key_version, grace_seconds=access.key_grace_seconds, now=now)
    resolver = replace(loader, image=settings.images.loader)
    if isinstance(trust, Problem):
        resolution = blocked(model, trust, now=now)
    else:
        resolution = plan_resolution(model, facts, settings, loader=resolver, now=now)
    weights = (
        weights_image(model, resolution.artifact, facts, settings, kept=images.kept)
        if guard.confinement is None
        else None  # no confidential guest mounts an image
    )
    cache = plan_cache(model, facts, settings, loader=resolver, artifact=resolution.artifact, now=now)
    transport = plan_transport(
        Part(owner=model.name, namespace=model.namespace, component="tls"),
        names.server(model.name),
        facts.transport,
        settings.tls,
        now,
    )
    run = _plan_run(
        model,
        facts,
        settings,
        loader=loader,
        artifact=resolution.artifact,
        images=images,
        cache=cache,
        weights=weights,
        keys=keys,
        guard=guard,
        transport=transport,
    )
    held = _held_back(model, facts, run)
    if held is not None:
        run = replace(run, deployment=None, state=held)
    expected = Expectation(
        revision=revision_of(run.deployment),
        replicas=wanted_replicas(model),
        served_before=was_true(model.status.conditions, ConditionType.SERVING),
        ready_before=was_true(model.status.conditions, ConditionType.READY)
        and model.status.observed_generation == model.generation,
        proof=PROOF[model.spec.task],
    )
    rollout = judge_rollout(facts, expected, settings.timing, now=now)
    judgement = Judgement(
        policy=guard.blocked or proof.flaw,
        resolution=resolution.outcome.state,
        artifact=resolution.artifact,
        run=run.state,
        cache=_cache_state(cache, facts, run),
        shortage=run.placement.shortage if run.placement is not None else "",
        rollout=rollout,
        write_failures=facts.write_failures,
        newer_images=run.newer_images,
        proof=PROOF[model.spec.task],
        keys=keys.state or proof.pending,
        suspended=model.spec.suspend,
        method=method_of(model.spec.integrity),
    )
    children = [
        *plan_common(model, facts, settings, keys=keys, image=weights, transport=transport),
        *resolution.outcome.children,
        *cache.outcome.children,
    ]
    filled = cache.filled or _is_live(facts, run)
    applied = run.deployment if filled and (transport.ready or model.spec.suspend) else None
    if applied is not None:
        children.append(applied)
    status = _status(model, facts, resolution=resolution, run=run, rollout=rollout, images=images, cache=cache)
    status = status.model_copy(
        update={"endpoint": transport.url(names.server(model.name), model.namespace, path="/v1")}
    )
    verdicts = (
        *model_verdicts(judgement),
        *policy_verdicts(guard, facts.tee, proof, encrypted=transport.encrypted),
    )
    conditions = merge(model.status.conditions, verdicts, generation=model.generation, now=now)
    claims = [CLAIMS] if model.spec.cache is not None else []
    policy = policy_status(guard, proof, encrypted=transport.encrypted, uncovered=claims)
    held_plan = hold(
        guard,
        facts.tee,
        children=children,
        deletions=(
            *resolution.outcome.deletions,
            *cache.outcome.deletions,
            *_superseded(model, facts, None if isinstance(trust, Problem) else loader, rollout),
            *(unstoppable(facts, suspended=model.spec.suspend) if applied is None else ()),
        ),
    )
    return Plan(
        children=held_plan.children,
        deletions=held_plan.deletions,
        status=with_conditions(status.model_copy(update={"policy": policy}), conditions),
        requeue_after=earliest(
            resolution.outcome.requeue_after,
            cache.outcome.requeue_after,
            rollout.requeue_after,
            keys.requeue_after,
            transport.requeue_after,
            proof.requeue_after,
            secret_poll(model.status.conditions, now)
            if guard.blocked is not None or (run.state is not None and run.state.reason in POLLED)
            else None,
        ),
    )


def _bindable(model: CompactModel, settings: Settings, *, gate_image: str) -> Bindable:
    before, encryption = model.status.policy, model.spec.source.encryption
    return Bindable(
        encrypted=encryption.place if encryption is not None else "",
        ref=model.spec.tee_policy_ref,
        signed=model.spec.integrity is not None and model.spec.integrity.signature is not None,
        before=before.technology if before is not None else "",
        gate_image=gate_image,
        pull_policy=settings.images.pull_policy,
    )


def _loader_pod(model: CompactModel, settings: Settings, trust: Trust, *, image: str) -> LoaderPod:
    source, scheme = model.spec.source, scheme_of(model.spec)
    ref, encryption = source.credentials_secret_ref, source.encryption
    key = encryption.key_secret_ref if encryption is not None else None
    return LoaderPod(
        weights_key=key.name if key is not None else None,
        owner=model.name,
        namespace=model.namespace,
        image=image,
        pull_policy=settings.images.pull_policy,
        source_json=source_text(model.spec, trust),
        source_hash=source_hash(model.spec, settings, trust),
        secret_name=ref.name if ref is not None else None,
        secret_keys=required_keys(scheme),
        optional_secret_keys=optional_keys(scheme),
        claim=claim_of(model.spec),
        identity_audience=settings.fetch.s3.audience if source.role_arn is not None else None,
        resolve_seconds=resolve_seconds(scheme),
        scheduling=model.spec.scheduling,
    )


def plan_invalid(
    *, generation: int, status: CompactModelStatus, errors: str, now: datetime
) -> Plan[CompactModelStatus]:
    """Return the plan for a spec that does not parse: say so and touch nothing."""
    judgement = Judgement(
        policy=None,
        resolution=problem(Reason.INVALID_SPEC, errors),
        artifact=None,
        run=None,
        cache=None,
        shortage="",
        rollout=None,
        write_failures=(),
        newer_images=False,
    )
    serving = [item for item in status.conditions if item.type == "Serving"]
    merged = merge(status.conditions, model_verdicts(judgement), generation=generation, now=now)
    kept = [item for item in merged if item.type != "Serving"] + serving
    update = {"conditions": sorted(kept, key=lambda item: item.type), "observed_generation": generation}
    return Plan(children=(), deletions=(), status=status.model_copy(update=update))


def _plan_run(
    model: CompactModel,
    facts: ModelFacts,
    settings: Settings,
    *,
    loader: LoaderPod,
    artifact: Artifact | None,
    images: Images,
    cache: CachePlan,
    weights: str | None,
    keys: KeyPlan,
    guard: Guard,
    transport: Transport,
) -> _Run:
    if artifact is None:
        return _Run()
    missing = reference_problem(model, facts) if not model.spec.suspend else None
    refused = missing or model_problem(model, artifact, settings)
    if refused is not None:
        return _Run(state=refused)
    known = Known(
        model=model,
        header=artifact.header,
        demand=demand(model, artifact.header, settings),
        servers=servers_on(model, artifact, settings, images),
    )
    nodes = guard.nodes(facts.nodes)
    placement = place_model(known, facts, settings, guard=guard, nodes=nodes)
    if isinstance(placement, Problem):
        return _Run(state=placement)
    overhead = guard.overhead or RuntimeClassFacts(name="")
    profile = settings.hardware.known[placement.profile]
    choice = known.servers(profile)
    if isinstance(choice, Problem):
        return _Run(state=choice)
    plain = transport.refuses(choice.runtime.name)
    if plain is not None:
        return _Run(state=plain)
    placement = with_hint(placement, known, profile, nodes, overhead_bytes=overhead.memory_bytes)
    sizing = placement.sizing
    options = pod_options(model, facts, keys)
    deployment = plan_deployment(
        model,
        artifact,
        sizing,
        settings,
        loader=loader,
        server=Server(
            runtime=choice.runtime,
            image=choice.image,
            hardware=profile.class_,
            devices=placement.hardware.count,
        ),
        options=options,
        cache=cache.mount,
        weights=weights,
    )
    deployment = equipped(placement, deployment)
    told = sizing if guard.overhead is None else tell_overhead(sizing, overhead)
    return _Run(
        weights=weights,
        choice=choice,
        newer_images=choice.kept and images.newer(choice.wanted),
        sizing=told,
        placement=placement,
        deployment=confined(guard, transport.pods(deployment, runtime=choice.runtime.name)),
    )


def _held_back(model: CompactModel, facts: ModelFacts, run: _Run) -> Problem | None:
    """Return why new pods could not mount a Secret of the source's; pods that have it already need it no more.

    With a cache the filler mounts it, and no pod of the server.
    """
    revision = revision_of(run.deployment)
    current = facts.deployment.revision if facts.deployment is not None else None
    if revision is None or revision == current or model.spec.suspend or model.spec.cache is not None:
        return None
    return secret_problem(model, facts) or weights_key_problem(model, facts)


def _is_live(facts: ModelFacts, run: _Run) -> bool:
    return facts.deployment is not None and facts.deployment.revision == revision_of(run.deployment)


def _cache_state(cache: CachePlan, facts: ModelFacts, run: _Run) -> Problem | Progress | None:
    """Return how the cache stands; pods that use it have checked it, so a Job that looks again is no news."""
    state = cache.outcome.state
    return None if isinstance(state, Progress) and _is_live(facts, run) else state


def _superseded(
    model: CompactModel, facts: ModelFacts, loader: LoaderPod | None, rollout: Rollout
) -> tuple[ChildRef, ...]:
    """Return artifacts no pod needs any more and a budget that one replica makes pointless.

    Artifacts go only when the rollout is complete: until then a pod of an older template may be made anew.
    Without a loader it is not known which one is needed.
    """
    gone = []
    if loader is not None and rollout.state is None and not any(pod.terminating for pod in facts.pods):
        gone += [
            ChildRef(kind="ConfigMap", name=item.name, uid=item.uid)
            for item in facts.artifacts
            if item.source_hash != loader.source_hash
        ]
        gone += leftovers(model, facts)
    return (*gone, *pointless_budget(facts, replicas=model.spec.replicas))


def _status(
    model: CompactModel,
    facts: ModelFacts,
    *,
    resolution: Resolution,
    run: _Run,
    rollout: Rollout,
    images: Images,
    cache: CachePlan,
) -> CompactModelStatus:
    """Return the status without conditions; what a stopped stage can't tell stays as it was."""
    before, artifact = model.status, resolution.artifact
    resolved = before.resolved
    if run.placement is not None and run.choice is not None and artifact is not None:
        resolved = ResolvedStatus(
            runtime=run.choice.runtime.name,
            version=image_version(run.choice.image),
            image=run.choice.image,
            loader_image=images.loader,
            weights_image=run.weights or "",
            spec_hash=spec_hash_of(model, facts),
            profile=run.placement.profile,
            hardware=hardware_status(run.placement, facts, run.deployment),
            context_length=context_length(model, artifact.header),
            why=f"{run.choice.why}; {run.placement.why}.",
        )
    return CompactModelStatus(
        observed_generation=model.generation,
        resolved=resolved,
        sizing=run.sizing or before.sizing,
        artifact=artifact_status(artifact, model, rollout) if artifact is not None else before.artifact,
        cache=cache.status,
        key_secret=names.api_key(model.name),
        download_percent=cache.download_percent if rollout.download_percent is None else rollout.download_percent,
        replicas=rollout.current,
        ready_replicas=rollout.answering,
        updated_replicas=rollout.updated,
        selector=labels.selector_string(pod_selector(model.name, "model")),
    )
