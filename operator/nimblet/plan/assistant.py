# SPDX-License-Identifier: Apache-2.0
"""The plan of an Assistant: judge what it names, write the gateway's configuration, run it, judge its pods. Pure.

An edit that names what is not there, or what does not serve yet, leaves the gateway that serves as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from nimblet import labels, names
from nimblet.api.assistant import Assistant, AssistantStatus, UsedIndexStatus
from nimblet.api.common import ConditionStatus
from nimblet.conditions import Reason, Verdict
from nimblet.manifests.common import Manifest
from nimblet.manifests.configuration import (
    API_KEY,
    api_key_manifest,
    service_account_manifest,
    with_pull_secrets,
)
from nimblet.manifests.gateway import (
    GENERATED,
    Gateway,
    gateway_config_manifest,
    gateway_manifest,
    gateway_part,
    gateway_policy_manifest,
)
from nimblet.manifests.network import (
    HTTP_PORT,
    disruption_budget_manifest,
    namespaces_rule,
    service_manifest,
)
from nimblet.manifests.template import revision_of
from nimblet.merging import merge
from nimblet.plan.assistantconfig import GatewayConfig, plan_config
from nimblet.plan.assistantfacts import AssistantFacts
from nimblet.plan.assistantreferences import References, fallback_note, judge_references, used_names
from nimblet.plan.attest import Proof
from nimblet.plan.facts import FIRST_KEY, ChildRef
from nimblet.plan.guarded import Held, confined, hold, judge_proof, policy_status, policy_verdicts
from nimblet.plan.keys import KeyPlan, plan_keys
from nimblet.plan.ownserver import OwnImage, bindable_of, choose_image
from nimblet.plan.resolve import secret_poll
from nimblet.plan.result import Plan
from nimblet.plan.rollout import Expectation, Rollout, judge_rollout
from nimblet.plan.stage import Problem, Progress, earliest, problem
from nimblet.plan.tee import Guard, plan_guard
from nimblet.plan.transport import Transport, Wanted, plan_transport
from nimblet.plan.verdicts import (
    kept_serving,
    passing_verdicts,
    ready_since,
    ready_verdict,
    served_at,
    serving_verdict,
    write_problem,
)
from nimblet.plan.workload import (
    BUDGET_FROM_REPLICAS,
    callers_of,
    key_annotations,
    pointless_budget,
    restart_of,
    unstoppable,
)
from nimblet.settings import Settings

DEFAULT_CPU: Final = "100m"
DEFAULT_MEMORY: Final = "256Mi"
NAMED: Final = "What the spec names: models and indexes are bound by policies of their own."
WORDS: Final[Mapping[str, Reason]] = {"IndexEmpty": Reason.INDEX_EMPTY}
"""Reasons of the gateway's own that are ours too; every other is told within SelfTestFailed."""
POLLED: Final = frozenset({Reason.SECRET_MISSING, Reason.SECRET_NOT_USABLE})
"""What users put right outside of the spec, and nothing tells us of."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What was rendered; nothing while the spec's referents do not allow it."""

    config: GatewayConfig | None = None
    deployment: Manifest | None = None
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Basis:
    """What stands before anything is rendered."""

    assistant: Assistant
    facts: AssistantFacts
    settings: Settings
    references: References
    keys: KeyPlan
    image: OwnImage
    guard: Guard
    proof: Proof
    transport: Transport


def plan_assistant(
    assistant: Assistant, facts: AssistantFacts, settings: Settings, now: datetime
) -> Plan[AssistantStatus]:
    """Return the children, deletions and status of one Assistant. Same arguments, same plan."""
    basis = _basis(assistant, facts, settings, now)
    references, guard, transport = basis.references, basis.guard, basis.transport
    run = _guarded(basis, _rendered(basis))
    rollout = judge_rollout(
        _alive(assistant, facts, references),
        _expectation(assistant, run),
        settings.timing,
        now=now,
    )
    state = _overall(basis, rollout)
    policy = policy_verdicts(guard, facts.tee, basis.proof, encrypted=transport.encrypted)
    verdicts = (*_verdicts(basis, rollout, state), *policy)
    conditions = merge(assistant.status.conditions, verdicts, generation=assistant.generation, now=now)
    polled = guard.blocked is not None or (isinstance(state, Problem) and state.reason in POLLED)
    allowed = _allowed(basis, run, rollout)
    return Plan(
        children=with_pull_secrets(allowed.children, settings.images.pull_secrets),
        deletions=allowed.deletions,
        status=_status(basis, run, rollout).model_copy(update={"conditions": list(conditions)}),
        requeue_after=earliest(
            rollout.requeue_after if not references.dead else None,
            basis.keys.requeue_after,
            transport.requeue_after,
            basis.proof.requeue_after,
            secret_poll(assistant.status.conditions, now) if polled else None,
        ),
    )


def _basis(assistant: Assistant, facts: AssistantFacts, settings: Settings, now: datetime) -> _Basis:
    access = assistant.spec.access
    guard = plan_guard(bindable_of(assistant, settings), facts.tee, facts.nodes)
    return _Basis(
        assistant=assistant,
        facts=facts,
        settings=settings,
        references=judge_references(assistant, facts),
        keys=plan_keys(facts, wanted=access.key_version, grace_seconds=access.key_grace_seconds, now=now),
        image=choose_image(assistant, facts, wanted=settings.images.gateway),
        guard=guard,
        proof=judge_proof(guard, facts.tee, now),
        transport=plan_transport(
            gateway_part(assistant.name, assistant.namespace, "tls"),
            Wanted(service=names.gateway(assistant.name), namespace=assistant.namespace),
            facts.transport,
            settings.tls,
            now,
        ),
    )


def _allowed(basis: _Basis, run: _Run, rollout: Rollout) -> Held:
    """Return what is applied and what goes, as far as policies allow it."""
    assistant, facts, transport = basis.assistant, basis.facts, basis.transport
    certified = transport.ready or assistant.spec.suspend
    held = not certified or _is_held_back(assistant, facts, basis.references, run)
    return hold(
        basis.guard,
        facts.tee,
        children=(*_common(basis), *(() if held else _applied(assistant, run))),
        deletions=(
            *transport.deletions,
            *_superseded(facts, run, rollout),
            *pointless_budget(facts, replicas=assistant.spec.replicas),
            *(unstoppable(facts, suspended=assistant.spec.suspend) if run.deployment is None else ()),
        ),
    )


def _applied(assistant: Assistant, run: _Run) -> tuple[Manifest, ...]:
    """Return the gateway and its configuration, where both could be rendered."""
    if run.config is None or run.deployment is None:
        return ()
    part = gateway_part(assistant.name, assistant.namespace)
    return gateway_config_manifest(part, config_hash=run.config.hash, text=run.config.text), run.deployment


def _guarded(basis: _Basis, run: _Run) -> _Run:
    """Return what will be applied: with its certificate, in the place that policies ask for."""
    if run.deployment is None:
        return run
    deployment = confined(basis.guard, basis.transport.pods(run.deployment))
    return replace(run, deployment=deployment, revision=revision_of(deployment))


def plan_invalid_assistant(
    *, generation: int, status: AssistantStatus, errors: str, ready: bool, now: datetime
) -> Plan[AssistantStatus]:
    """Return the plan for a spec that does not parse: say so, touch nothing. `ready`: a pod is, by its probe."""
    flaw = problem(Reason.INVALID_SPEC, errors)
    verdicts = [
        ready_verdict(None, flaw, proof=proof_of("Required"), suspended=False),
        *passing_verdicts(flaw, newer_images=False),
    ]
    serving = kept_serving(status.conditions, ready=ready, generation=generation, now=now)
    merged = [*merge(status.conditions, verdicts, generation=generation, now=now), *serving]
    update = {"conditions": sorted(merged, key=lambda item: item.type), "observed_generation": generation}
    return Plan(children=(), deletions=(), status=status.model_copy(update=update))


def _rendered(basis: _Basis) -> _Run:
    assistant, settings, references, keys = basis.assistant, basis.settings, basis.references, basis.keys
    model = basis.facts.model
    if references.flaw is not None or not references.known or model is None:
        return _Run()
    spec = assistant.spec
    config = plan_config(assistant, basis.facts, model, settings)
    rotated = keys.accepted != FIRST_KEY
    restart = restart_of(assistant.restarted_at, basis.facts)
    own = spec.api_keys_secret_ref
    gateway = Gateway(
        owner=assistant.name,
        namespace=assistant.namespace,
        image=basis.image.name,
        pull_policy=settings.images.pull_policy,
        config_hash=config.hash,
        used=used_names(assistant),
        credentials=config.credentials,
        key_items={_entry(at): f"{GENERATED}-{at}" for at in keys.accepted} if rotated else {API_KEY: GENERATED},
        own_keys=own.name if own is not None else None,
        replicas=_wanted(assistant),
        cpu=spec.resources.cpu or DEFAULT_CPU,
        memory=spec.resources.memory or DEFAULT_MEMORY,
        drain_seconds=settings.timing.drain_seconds,
        scheduling=spec.scheduling,
        pod_labels={labels.KEY_VERSIONS: names.version_text(keys.accepted)} if rotated else {},
        annotations={labels.RESTARTED_AT: restart} if restart else {},
    )
    deployment = gateway_manifest(gateway)
    return _Run(config=config, deployment=deployment, revision=revision_of(deployment))


def _wanted(assistant: Assistant) -> int:
    return 0 if assistant.spec.suspend else assistant.spec.replicas


def _entry(version: int) -> str:
    """Return the entry of the key Secret with the key of one version: same name, same content, for ever."""
    return f"key-{version}"


def _expectation(assistant: Assistant, run: _Run) -> Expectation:
    stored = assistant.status.conditions
    return Expectation(
        revision=run.revision,
        replicas=_wanted(assistant),
        served_at=served_at(stored),
        ready_since=ready_since(
            stored, told=assistant.status.observed_generation, generation=assistant.generation
        ),
        proof=proof_of(assistant.spec.grounding),
        silence=Reason.SELF_TEST_FAILED,
        words=WORDS,
        polled=True,
    )


def proof_of(grounding: str) -> str:
    """Return what a gateway must have got to count as answering."""
    return "token" if grounding == "Off" else "passage and a token"


def _alive(assistant: Assistant, facts: AssistantFacts, references: References) -> AssistantFacts:
    """Return the facts without what pods said that answer from the same, dead referents: those decide alone."""
    if not references.dead:
        return facts
    used = used_names(assistant)
    pods = [replace(pod, observation=None) if pod.source_hash == used else pod for pod in facts.pods]
    return replace(facts, pods=tuple(pods))


def _is_held_back(assistant: Assistant, facts: AssistantFacts, references: References, run: _Run) -> bool:
    """Tell whether a gateway that serves from other referents must wait until the new ones serve."""
    live = facts.deployment
    if references.waiting is None or live is None or assistant.spec.suspend:
        return False
    return live.revision != run.revision and live.source_hash != used_names(assistant)


def _overall(basis: _Basis, rollout: Rollout) -> Problem | Progress | None:
    """Return what stands between the spec and serving it: what somebody must put right before what needs time."""
    refused = write_problem(basis.facts.write_failures)
    if refused is not None or basis.assistant.spec.suspend:
        return refused  # what else the spec lacks is told when it is resumed
    references, proof = basis.references, basis.proof
    found = (
        basis.guard.blocked or proof.flaw,
        references.flaw,
        references.waiting,
        basis.transport.state,
        rollout.state,
        basis.keys.state or proof.pending,
    )
    told = [item for item in found if item is not None]
    problems = [item for item in told if isinstance(item, Problem)]
    return next(iter([*problems, *told]), None)


def _common(basis: _Basis) -> tuple[Manifest, ...]:
    """Return the children that any valid spec has, in the order configuration, identity, network."""
    assistant, settings, keys, transport = basis.assistant, basis.settings, basis.keys, basis.transport
    name, spec = assistant.name, assistant.spec
    part, traces = gateway_part(name, assistant.namespace), settings.tracing
    further = [namespaces_rule(traces.namespaces, traces.port)] if traces.endpoint and traces.namespaces else []
    children: list[Manifest] = [
        service_account_manifest(part, name=names.gateway(name)),
        gateway_policy_manifest(part, callers=callers_of(spec.access, settings), further=further),
        transport.service(service_manifest(part, name=names.gateway(name), port=HTTP_PORT)),
        *transport.children,
    ]
    if keys.api_key:
        secret = api_key_manifest(
            gateway_part(name, assistant.namespace, "key"),
            name=names.gateway_key(name),
            api_key=keys.api_key,
            entries={_entry(at): key for at, key in sorted(keys.mounted.items())},
            annotations=key_annotations(keys),
        )
        children.insert(0, secret)
    if spec.replicas >= BUDGET_FROM_REPLICAS:
        children.append(disruption_budget_manifest(part, name=names.gateway(name)))
    return tuple(children)


def _superseded(facts: AssistantFacts, run: _Run, rollout: Rollout) -> tuple[ChildRef, ...]:
    """Return configurations that no pod reads any more: only when the rollout is complete and nothing drains."""
    if run.config is None or rollout.state is not None or any(pod.terminating for pod in facts.pods):
        return ()
    return tuple(
        child
        for child in facts.children
        if child.kind == "ConfigMap" and child.labels.get(labels.CONFIG_HASH, run.config.hash) != run.config.hash
    )


def _verdicts(basis: _Basis, rollout: Rollout, state: Problem | Progress | None) -> tuple[Verdict, ...]:
    proof, suspended = proof_of(basis.assistant.spec.grounding), basis.assistant.spec.suspend
    ready = ready_verdict(rollout, state, proof=proof, suspended=suspended)
    if ready.status is ConditionStatus.TRUE:
        ready = replace(ready, message=ready.message + fallback_note(basis.facts))
    return (
        serving_verdict(rollout, state, proof=proof, suspended=suspended),
        ready,
        *passing_verdicts(state, newer_images=basis.image.newer),
    )


def _status(basis: _Basis, run: _Run, rollout: Rollout) -> AssistantStatus:
    """Return the status without conditions; what could not be rendered stays as it was told."""
    assistant, image, transport = basis.assistant, basis.image, basis.transport
    before, name = assistant.status, assistant.name
    named = [NAMED] if assistant.spec.tee_policy_ref is not None else []
    rendered = run.config is not None
    return AssistantStatus(
        observed_generation=assistant.generation,
        endpoint=transport.url(names.gateway(name), assistant.namespace, port=HTTP_PORT, path="/v1"),
        key_secret=names.gateway_key(name),
        configuration=run.config.hash if run.config is not None else before.configuration,
        indexes=[
            UsedIndexStatus(
                name=item.name, generation=item.generation, documents=item.documents, chunks=item.chunks
            )
            for item in basis.facts.indexes
        ],
        policy=policy_status(basis.guard, basis.proof, encrypted=transport.encrypted, uncovered=named),
        image=image.name if rendered else before.image,
        spec_hash=image.spec_hash if rendered else before.spec_hash,
        replicas=rollout.current,
        ready_replicas=rollout.answering,
        updated_replicas=rollout.updated,
        selector=labels.selector_string(gateway_part(name, assistant.namespace).selector),
    )
