# SPDX-License-Identifier: Apache-2.0
"""What an Assistant refers to, judged before anything is made of it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from nimblet.api.assistant import Assistant
from nimblet.conditions import Reason
from nimblet.names import content_hash
from nimblet.plan.assistantfacts import AssistantFacts, IndexReference
from nimblet.plan.modelfacts import ModelReference, not_serving, reference_flaw, unready
from nimblet.plan.references import secret_flaw
from nimblet.plan.stage import Problem, Progress, problem


@dataclass(frozen=True, kw_only=True)
class References:
    """How the referents stand. `flaw` keeps the spec from being rendered, `waiting` only from being Ready."""

    flaw: Problem | None
    waiting: Problem | Progress | None
    known: bool
    """Enough is known of each to write the gateway's configuration."""
    dead: bool
    """Whatever the gateway says of itself, nothing can be answered."""


def judge_references(assistant: Assistant, facts: AssistantFacts) -> References:
    """Return how everything stands that the spec names."""
    waits = list(_waits(assistant, facts))
    problems = [item for item in waits if isinstance(item, Problem)]
    return References(
        flaw=next(_flaws(assistant, facts), None),
        waiting=next(iter([*problems, *waits]), None),
        known=_known(assistant, facts),
        dead=not answerable(assistant, facts),
    )


def answerable(assistant: Assistant, facts: AssistantFacts) -> bool:
    """Tell whether a request could be answered at all, as far as the referents' own status tells."""
    models = (facts.model, facts.fallback)
    if not any(model is not None and model.serving for model in models):
        return False
    if facts.guard is not None and not facts.guard.serving:
        return False
    needs_index = assistant.spec.grounding == "Required"
    return not needs_index or any(index.serving and index.chunks for index in facts.indexes)


def used_names(assistant: Assistant) -> str:
    """Return a hash of the names that the gateway answers from: tells a pod of other ones from a later edit."""
    spec = assistant.spec
    fallback = spec.fallback.model_ref.name if spec.fallback is not None else ""
    guard = spec.guard_ref.name if spec.guard_ref is not None else ""
    model = spec.model_ref.name if spec.adapter is None else f"{spec.model_ref.name}/{spec.adapter}"
    return content_hash([model, fallback, guard, sorted(item.name for item in spec.index_refs)])


def fallback_note(facts: AssistantFacts) -> str:
    """Return what Ready adds where the fallback could not take over."""
    fallback = facts.fallback
    return (
        f" The fallback {fallback.name} is not Serving." if fallback is not None and not fallback.serving else ""
    )


def _flaws(assistant: Assistant, facts: AssistantFacts) -> Iterator[Problem]:
    spec, namespace = assistant.spec, assistant.namespace
    chats = [("modelRef", facts.model), ("fallback.modelRef", facts.fallback)]
    for field, model in chats:
        flaw = _model_flaw(model, field=field, namespace=namespace)
        if flaw is not None:
            yield flaw
    flaw = _adapter_flaw(assistant, facts.model)
    if flaw is not None:
        yield flaw
    if facts.guard is not None:
        flaw = reference_flaw(facts.guard, field="guardRef", tasks=("Chat", "Classify"), namespace=namespace)
        flaw = flaw or _guard_flaw(assistant, facts.guard)
        if flaw is not None:
            yield flaw
    for index in facts.indexes:
        if not index.found:
            found = f"RetrievalIndex {index.name}, named in indexRefs, is not in namespace {namespace}."
            yield problem(Reason.INDEX_MISSING, found)
    own = spec.api_keys_secret_ref
    if own is not None:
        flaw = secret_flaw(own.name, facts.own_keys, namespace=namespace, required=())
        if flaw is not None:
            yield flaw


def _model_flaw(model: ModelReference | None, *, field: str, namespace: str) -> Problem | None:
    return reference_flaw(model, field=field, tasks=("Chat",), namespace=namespace) if model is not None else None


def _adapter_flaw(assistant: Assistant, model: ModelReference | None) -> Problem | None:
    wanted = assistant.spec.adapter
    if wanted is None or model is None or not model.found or wanted in model.adapters:
        return None
    there = ", ".join(model.adapters) or "none"
    found = f"CompactModel {model.name}, named in modelRef, has no adapter {wanted}; it has: {there}."
    return problem(Reason.ADAPTER_MISSING, found)


def _guard_flaw(assistant: Assistant, guard: ModelReference) -> Problem | None:
    """Return how `blocked` does not fit the guard; its labels are known once its source is resolved."""
    ref = assistant.spec.guard_ref
    if ref is None:
        return None
    if guard.task == "Chat":
        found = f"guardRef.blocked is for a classifier, but CompactModel {guard.name} has the task Chat."
        return problem(Reason.INVALID_SPEC, found) if ref.blocked else None
    if not ref.blocked:
        found = f"CompactModel {guard.name} is a classifier: guardRef.blocked must name the labels that block."
        return problem(Reason.INVALID_SPEC, found)
    unknown = [label for label in ref.blocked if label not in guard.labels]
    if guard.labels and unknown:
        listed = ", ".join(guard.labels)
        found = f"guardRef.blocked names {unknown[0]}, but CompactModel {guard.name} has the labels {listed}."
        return problem(Reason.INVALID_SPEC, found)
    return None


def _waits(assistant: Assistant, facts: AssistantFacts) -> Iterator[Problem | Progress]:
    """Yield what is there and does not answer; a fallback is not missed while the model does."""
    for field, model in (("modelRef", facts.model), ("guardRef", facts.guard)):
        found = not_serving(model, field=field) if model is not None else None
        if found is not None:
            yield found
    for index in facts.indexes:
        found = _index_waits(index)
        if found is not None:
            yield found
    if not _known(assistant, facts):
        message = "Some of what the spec names has not been looked at yet."
        yield Progress(reason=Reason.PROGRESSING, message=message)


def _index_waits(index: IndexReference) -> Problem | Progress | None:
    if not index.serving:
        named = f"RetrievalIndex {index.name}, named in indexRefs,"
        return unready(named, index.reason, index.message, reason=Reason.INDEX_NOT_SERVING)
    if not index.chunks:
        return problem(Reason.INDEX_EMPTY, f"RetrievalIndex {index.name} holds no passage.")
    return None


def _known(assistant: Assistant, facts: AssistantFacts) -> bool:
    adapter = assistant.spec.adapter
    if adapter is not None and facts.model is not None and adapter not in facts.model.adapter_requests:
        return False
    models = [model for model in (facts.model, facts.fallback, facts.guard) if model is not None]
    return (
        facts.model is not None
        and all(model.context_length and model.key_secret and model.url for model in models)
        and all(model.labels for model in models if model.task == "Classify")
        and all(index.key_secret for index in facts.indexes)
    )
