# SPDX-License-Identifier: Apache-2.0
"""The model that drafts for another: resolved by the same stage, and held against the model before any pod. Pure.

llama.cpp starts without drafting where the vocabularies differ, and says so in its log alone; vLLM does not start.
Source: llama.cpp b11434, common/speculative.cpp (common_speculative_are_compatible); vLLM 0.32,
config/speculative.py.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from nimblet.api.compactmodel import CompactModel
from nimblet.api.speculative import DraftStatus
from nimblet.conditions import Reason
from nimblet.plan.artifact import Artifact, Header
from nimblet.plan.artifactstatus import key_place
from nimblet.plan.facts import ModelFacts
from nimblet.plan.further import Further, held_further, resolve_further, said_of, together
from nimblet.plan.integrity import known_trust, trust_of
from nimblet.plan.modelloader import loader_pod
from nimblet.plan.resolve import Resolution
from nimblet.plan.runtime.architectures import ARCHITECTURES
from nimblet.plan.speculative import draft_view
from nimblet.plan.stage import Problem, StageOutcome, problem
from nimblet.plan.task import suitable_tasks
from nimblet.settings import Settings

VOCABULARY_DIFFERENCE: Final = 128
"""Tokens that a vocabulary may have more than the other in llama.cpp: those at the end of padded ones."""


@dataclass(frozen=True, kw_only=True)
class Draft(Further):
    """The drafting model and its source."""

    outcome: StageOutcome = field(default_factory=StageOutcome)


def unplanned_draft(model: CompactModel, facts: ModelFacts, settings: Settings, *, image: str) -> Draft | None:
    """Return the drafting model before its source is looked at; None where the spec names none."""
    view = draft_view(model)
    if view is None:
        return None
    loader = loader_pod(view, settings, known_trust(view, facts.trust), image=image, draft=True)
    return Draft(view=view, loader=loader, trust=trust_of(view, facts.trust))


def plan_draft(
    draft: Draft | None, facts: ModelFacts, settings: Settings, *, own: Resolution, own_hash: str, now: datetime
) -> Draft | None:
    """Return how the source of the drafting model stands; one that is the model's own is resolved once."""
    if draft is None:
        return None
    if draft.loader.source_hash == own_hash:
        return replace(draft, artifact=own.artifact)
    found = resolve_further(draft, facts, settings, now=now)
    outcome = replace(found.outcome, state=said_of(draft.prefix, found.outcome.state))
    return replace(draft, outcome=outcome, artifact=found.artifact)


def drafted(resolution: Resolution, draft: Draft | None) -> Resolution:
    """Return the stage for the model and the drafting one together; a trouble of the model's own is told first."""
    if draft is None:
        return resolution
    own, other = resolution.outcome, draft.outcome
    state = own.state if isinstance(own.state, Problem) else other.state or own.state
    return replace(resolution, outcome=together((own, other), state))


def draft_secret_problem(draft: Draft | None, facts: ModelFacts) -> Problem | None:
    """Return why new pods could not mount the Secret of the drafting model's source."""
    if draft is None:
        return None
    flaw = held_further(draft, facts)
    return replace(flaw, message=draft.prefix + flaw.message) if flaw is not None else None


def draft_problem(base: Artifact, draft: Draft | None, settings: Settings) -> Problem | None:
    """Return the first thing that keeps a model from being drafted for by another."""
    if draft is None or draft.artifact is None:
        return None
    found, prefix = draft.artifact, draft.prefix
    if found.format != base.format:
        message = f"{prefix}it is in {found.format}, and the model in {base.format}: no server loads both."
        return problem(Reason.FORMAT_MISMATCH, message)
    architecture = found.header.architecture
    if found.format == "GGUF" and architecture not in ARCHITECTURES | set(settings.extra_architectures):
        message = f"{prefix}it is of the architecture {architecture}, which the pinned llama.cpp does not know."
        return problem(Reason.UNSUPPORTED_MODEL, message)
    flaw = _flaw(found.header, base.header, padded=found.format == "GGUF")
    return problem(Reason.DRAFT_MISMATCH, f"{prefix}{flaw}.") if flaw else None


def _flaw(own: Header, base: Header, *, padded: bool) -> str:
    """Return why one model can't draft for the other; "" where nothing tells against it."""
    if "Chat" not in suitable_tasks(own):
        return f"it makes no text ({own.architecture})"
    if own.parameters > base.parameters:
        return f"it has {own.parameters / 1e6:.0f}M parameters, and the model {base.parameters / 1e6:.0f}M"
    ours, theirs = own.vocab_size, base.vocab_size
    most = VOCABULARY_DIFFERENCE if padded else 0
    if ours is not None and theirs is not None and abs(ours - theirs) > most:
        return f"its vocabulary has {ours} tokens, and the model's {theirs}"
    if None not in (own.vocabulary, base.vocabulary) and own.vocabulary != base.vocabulary:
        return "the tokens of its vocabulary are others than the model's"
    return ""


def draft_status(draft: Draft | None, *, loaded: bool) -> DraftStatus | None:
    """Return what the status tells of the drafting model; None where there is none, or it is not known."""
    if draft is None or draft.artifact is None:
        return None
    artifact, first = draft.artifact, min(draft.artifact.files, key=lambda file: file.path)
    return DraftStatus(
        commit=artifact.commit,
        file=first.path,
        sha256=first.sha256 or "",
        parameters=artifact.header.parameters,
        digest_source=artifact.digest_source,
        method=artifact.method or None,
        signer=artifact.signer.name if artifact.signer is not None else None,
        key=key_place(draft.view, loaded=loaded),
    )


def unverified_draft(draft: Draft | None) -> str:
    """Return the drafting model's name in a sentence, where nobody vouches for its bytes in the spec."""
    return "" if draft is None or draft.vouched else "the drafting model"
