# SPDX-License-Identifier: Apache-2.0
"""The plan of a CompactModel: resolve, size, place, run, judge. Pure; the operator, the CLI and tests call it.

Stages run in this order and the first that stops leaves the later children as they are: a broken edit never
touches the Deployment that serves.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from nimblet import labels, names
from nimblet.api.adapter import AdapterStatus
from nimblet.api.compactmodel import CompactModel, CompactModelStatus, ResolvedStatus
from nimblet.conditions import ConditionType, Reason
from nimblet.manifests.common import Part, pod_selector
from nimblet.manifests.configuration import with_pull_secrets
from nimblet.manifests.template import revision_of
from nimblet.merging import merge
from nimblet.plan.adapters import Adapters, adapter_statuses, joined, others_facts, plan_adapters, unverified
from nimblet.plan.artifactstatus import artifact_status, with_conditions
from nimblet.plan.cache import leftovers, plan_cache
from nimblet.plan.draft import Draft, draft_status, drafted, plan_draft, unplanned_draft, unverified_draft
from nimblet.plan.facts import ChildRef, ModelFacts
from nimblet.plan.further import Further
from nimblet.plan.guarded import CLAIMS, Held, hold, judge_proof, policy_status, policy_verdicts
from nimblet.plan.images import choose_images, spec_hash_of
from nimblet.plan.integrity import known_trust, method_of, trust_of
from nimblet.plan.keys import plan_keys
from nimblet.plan.modelhardware import hardware_status
from nimblet.plan.modelloader import bindable, loader_pod
from nimblet.plan.modelrun import Basis, Run, cache_state, is_live, plan_run
from nimblet.plan.resolve import blocked, plan_resolution, secret_poll
from nimblet.plan.result import Plan
from nimblet.plan.rollout import Expectation, Rollout, judge_rollout
from nimblet.plan.runtime.interface import image_version
from nimblet.plan.stage import Problem, earliest, problem
from nimblet.plan.task import PROOF
from nimblet.plan.tee import plan_guard
from nimblet.plan.transport import Wanted, plan_transport
from nimblet.plan.verdicts import Judgement, kept_serving, model_verdicts, ready_since, served_at
from nimblet.plan.weights import weights_image
from nimblet.plan.workload import (
    context_length,
    plan_common,
    pointless_budget,
    unstoppable,
    wanted_replicas,
)
from nimblet.settings import Settings

POLLED: Final = frozenset({Reason.SECRET_MISSING, Reason.SECRET_NOT_USABLE, Reason.CONFIG_MAP_MISSING})
"""What users put right outside of the spec, and nothing tells us of."""


def plan_compactmodel(
    model: CompactModel, facts: ModelFacts, settings: Settings, now: datetime
) -> Plan[CompactModelStatus]:
    """Return the children, deletions and status of one model. Same arguments, same plan."""
    basis = _basis(model, facts, settings, now)
    run = plan_run(basis)
    rollout = judge_rollout(facts, _expectation(model, run), settings.timing, now=now)
    held = _held_plan(basis, run, rollout)
    polled = basis.guard.blocked is not None or (run.state is not None and run.state.reason in POLLED)
    return Plan(
        children=with_pull_secrets(held.children, settings.images.pull_secrets),
        deletions=held.deletions,
        status=_judged(basis, run, rollout, now=now),
        requeue_after=earliest(
            basis.resolution.outcome.requeue_after,
            basis.cache.outcome.requeue_after,
            rollout.requeue_after,
            basis.keys.requeue_after,
            basis.transport.requeue_after,
            basis.proof.requeue_after,
            secret_poll(model.status.conditions, now) if polled else None,
        ),
    )


def _basis(model: CompactModel, facts: ModelFacts, settings: Settings, now: datetime) -> Basis:
    """Return what stands before anything is sized."""
    images, access = choose_images(model, facts, settings), model.spec.access
    trust = trust_of(model, facts.trust)
    guard = plan_guard(bindable(model, settings, gate_image=images.loader), facts.tee, facts.nodes)
    loader = loader_pod(model, settings, known_trust(model, facts.trust), image=images.loader)
    resolver = replace(loader, image=settings.images.loader)
    adapters = plan_adapters(model, facts, settings, image=images.loader, now=now)
    draft = unplanned_draft(model, facts, settings, image=images.loader)
    if isinstance(trust, Problem):
        resolution = blocked(model, trust, now=now)
    else:
        hashes = adapters.hashes | ({draft.loader.source_hash} if draft is not None else set())
        own = others_facts(facts, hashes - {loader.source_hash})
        resolution = plan_resolution(model, own, settings, loader=resolver, now=now)
    draft = plan_draft(draft, facts, settings, own=resolution, own_hash=loader.source_hash, now=now)
    artifact, weights = resolution.artifact, None
    if guard.confinement is None:  # no confidential guest mounts an image
        weights = weights_image(model, artifact, facts, settings, kept=images.kept)
    return Basis(
        model=model,
        facts=facts,
        settings=settings,
        images=images,
        trusted=not isinstance(trust, Problem) and adapters.trusted and (draft is None or draft.trusted),
        guard=guard,
        proof=judge_proof(guard, facts.tee, now),
        keys=plan_keys(facts, wanted=access.key_version, grace_seconds=access.key_grace_seconds, now=now),
        loader=loader,
        resolution=drafted(joined(resolution, adapters), draft),
        adapters=adapters,
        draft=draft,
        cache=plan_cache(
            model, facts, settings, loader=resolver, artifact=artifact, further=_further(adapters, draft), now=now
        ),
        transport=plan_transport(
            Part(owner=model.name, namespace=model.namespace, component="tls"),
            Wanted(service=names.server(model.name), namespace=model.namespace),
            facts.transport,
            settings.tls,
            now,
        ),
        weights=weights,
    )


def _further(adapters: Adapters, draft: Draft | None) -> tuple[Further, ...]:
    """Return the sources beside the model's own."""
    return adapters.pieces if draft is None else (*adapters.pieces, draft)


def _expectation(model: CompactModel, run: Run) -> Expectation:
    conditions = model.status.conditions
    return Expectation(
        revision=revision_of(run.deployment),
        replicas=wanted_replicas(model),
        served_at=served_at(conditions),
        ready_since=ready_since(conditions, told=model.status.observed_generation, generation=model.generation),
        proof=PROOF[model.spec.task],
        words={Reason.ADAPTER_NOT_LOADED: Reason.ADAPTER_NOT_LOADED},
    )


def _held_plan(basis: Basis, run: Run, rollout: Rollout) -> Held:
    """Return children and deletions, as far as the policies allow them."""
    model, facts, transport = basis.model, basis.facts, basis.transport
    children = [
        *plan_common(model, facts, basis.settings, keys=basis.keys, image=basis.weights, transport=transport),
        *basis.resolution.outcome.children,
        *basis.cache.outcome.children,
    ]
    filled = basis.cache.filled or is_live(facts, run)
    applied = run.deployment if filled and (transport.ready or model.spec.suspend) else None
    if applied is not None:
        children.append(applied)
    return hold(
        basis.guard,
        facts.tee,
        children=children,
        deletions=(
            *basis.resolution.outcome.deletions,
            *basis.cache.outcome.deletions,
            *transport.deletions,
            *_superseded(basis, rollout),
            *(unstoppable(facts, suspended=model.spec.suspend) if applied is None else ()),
        ),
    )


def _judged(basis: Basis, run: Run, rollout: Rollout, *, now: datetime) -> CompactModelStatus:
    """Return the status with its conditions."""
    model, facts, guard, proof = basis.model, basis.facts, basis.guard, basis.proof
    judgement = Judgement(
        policy=guard.blocked or proof.flaw,
        resolution=basis.resolution.outcome.state,
        artifact=basis.resolution.artifact,
        run=run.state,
        cache=cache_state(basis.cache, facts, run),
        shortage=run.placement.shortage if run.placement is not None else "",
        rollout=rollout,
        write_failures=facts.write_failures,
        newer_images=run.newer_images,
        proof=PROOF[model.spec.task],
        keys=basis.keys.state or proof.pending,
        transport=basis.transport.state,
        suspended=model.spec.suspend,
        method=method_of(model.spec.integrity),
        unverified_adapter=unverified(basis.adapters) or unverified_draft(basis.draft),
    )
    encrypted = basis.transport.encrypted
    verdicts = (*model_verdicts(judgement), *policy_verdicts(guard, facts.tee, proof, encrypted=encrypted))
    conditions = merge(model.status.conditions, verdicts, generation=model.generation, now=now)
    claims = [CLAIMS] if model.spec.cache is not None else []
    update = {
        "endpoint": basis.transport.url(names.server(model.name), model.namespace, path="/v1"),
        "policy": policy_status(guard, proof, encrypted=encrypted, uncovered=claims),
    }
    return with_conditions(_status(basis, run, rollout).model_copy(update=update), conditions)


def plan_invalid(
    *, generation: int, status: CompactModelStatus, errors: str, ready: bool, now: datetime
) -> Plan[CompactModelStatus]:
    """Return the plan for a spec that does not parse: touch nothing. `ready`: a pod is, by its probe."""
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
    serving = kept_serving(status.conditions, ready=ready, generation=generation, now=now)
    merged = merge(status.conditions, model_verdicts(judgement), generation=generation, now=now)
    kept = [item for item in merged if item.type != ConditionType.SERVING] + [*serving]
    update = {"conditions": sorted(kept, key=lambda item: item.type), "observed_generation": generation}
    return Plan(children=(), deletions=(), status=status.model_copy(update=update))


def _superseded(basis: Basis, rollout: Rollout) -> tuple[ChildRef, ...]:
    """Return artifacts no pod needs any more and a budget that one replica makes pointless.

    Artifacts go only when the rollout is complete: until then a pod of an older template may be made anew.
    While what the integrity names is not there it is not known which ones are needed.
    """
    model, facts, gone = basis.model, basis.facts, []
    if basis.trusted and rollout.state is None and not any(pod.terminating for pod in facts.pods):
        gone += [
            ChildRef(kind="ConfigMap", name=item.name, uid=item.uid)
            for item in facts.artifacts
            if item.source_hash not in basis.source_hashes
        ]
        gone += leftovers(model, facts)
    return (*gone, *pointless_budget(facts, replicas=model.spec.replicas))


def _status(basis: Basis, run: Run, rollout: Rollout) -> CompactModelStatus:
    """Return the status without conditions; what a stopped stage can't tell stays as it was."""
    model, facts, cache = basis.model, basis.facts, basis.cache
    before, artifact = model.status, basis.resolution.artifact
    resolved = before.resolved
    if run.placement is not None and run.choice is not None and artifact is not None:
        resolved = ResolvedStatus(
            runtime=run.choice.runtime.name,
            version=image_version(run.choice.image),
            image=run.choice.image,
            loader_image=basis.images.loader,
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
        adapters=_adapter_statuses(basis, run, rollout),
        draft=draft_status(basis.draft, loaded=rollout.loaded)
        or (before.draft if basis.draft is not None else None),
        cache=cache.status,
        key_secret=names.api_key(model.name),
        download_percent=cache.download_percent if rollout.download_percent is None else rollout.download_percent,
        replicas=rollout.current,
        ready_replicas=rollout.answering,
        updated_replicas=rollout.updated,
        selector=labels.selector_string(pod_selector(model.name, "model")),
    )


def _adapter_statuses(basis: Basis, run: Run, rollout: Rollout) -> list[AdapterStatus] | None:
    """Return what is told of the adapters; while pods of an older spec answer, how these are asked."""
    before = basis.model.status.adapters
    if not basis.adapters.pieces and not rollout.serving_old:
        return None
    if run.choice is None or (before and rollout.serving_old):
        return before
    return adapter_statuses(basis.adapters, runtime=run.choice.runtime.name, loaded=rollout.loaded)
