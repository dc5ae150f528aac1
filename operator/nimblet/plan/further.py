# SPDX-License-Identifier: Apache-2.0
"""The sources that a model has beside its own: its adapters' and its drafting model's. Pure.

To the stage that resolves a source, each is the model with another source and integrity in place of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from nimblet.api.compactmodel import CompactModel
from nimblet.api.integrity import Integrity
from nimblet.api.modelsource import ModelSource
from nimblet.manifests.loader import LoaderPod
from nimblet.plan.artifact import Artifact
from nimblet.plan.facts import ModelFacts
from nimblet.plan.integrity import Trust, method_of
from nimblet.plan.references import weights_key_problem
from nimblet.plan.resolve import Resolution, blocked, plan_resolution, secret_problem
from nimblet.plan.stage import Problem, Progress, StageOutcome, earliest
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Further:
    """A source beside the model's own; `artifact` is set once it is known."""

    view: CompactModel
    """The model as the stages of a source see this one."""
    loader: LoaderPod
    trust: Trust | Problem
    artifact: Artifact | None = None

    @property
    def prefix(self) -> str:
        """Whose a message is, before the message."""
        return "Drafting model: " if self.loader.draft else f"Adapter {self.loader.adapter}: "

    @property
    def trusted(self) -> bool:
        """Tell whether all is there that its integrity names."""
        return not isinstance(self.trust, Problem)

    @property
    def vouched(self) -> bool:
        """Tell whether the spec says who vouches for its bytes, and these were found so."""
        method = method_of(self.view.spec.integrity)
        return self.artifact is not None and bool(method) and self.artifact.method == method


def view_of(model: CompactModel, source: ModelSource, integrity: Integrity | None) -> CompactModel:
    """Return the model as the stages of a source see another one of it."""
    own = {"source": source, "integrity": integrity, "cache": None, "adapters": None}
    return model.model_copy(update={"spec": model.spec.model_copy(update=own)})


def resolve_further(further: Further, facts: ModelFacts, settings: Settings, *, now: datetime) -> Resolution:
    """Return how the source stands."""
    if isinstance(further.trust, Problem):
        return blocked(further.view, further.trust, now=now)
    resolver = replace(further.loader, image=settings.images.loader)
    return plan_resolution(further.view, own_facts(further, facts), settings, loader=resolver, now=now)


def held_further(further: Further, facts: ModelFacts) -> Problem | None:
    """Return why new pods could not mount a Secret of the source, or that of its key."""
    own = own_facts(further, facts)
    return secret_problem(further.view, own) or weights_key_problem(further.view, own)


def said_of(prefix: str, state: Problem | Progress | None) -> Problem | Progress | None:
    """Return the state with whose it is before it; what a retry repeats has it already."""
    if state is None or state.message.startswith(prefix):
        return state
    return replace(state, message=prefix + state.message)


def together(outcomes: Sequence[StageOutcome], state: Problem | Progress | None) -> StageOutcome:
    """Return the stages of several sources as one, which stands at `state`."""
    return StageOutcome(
        children=tuple(child for one in outcomes for child in one.children),
        deletions=tuple(ref for one in outcomes for ref in one.deletions),
        state=state,
        requeue_after=earliest(*(one.requeue_after for one in outcomes)),
    )


def own_facts(further: Further, facts: ModelFacts) -> ModelFacts:
    """Return the facts as the stages of a source see those of this one."""
    source, known = further.view.spec.source, facts.adapter_secrets
    ref, encryption = source.credentials_secret_ref, source.encryption
    key = encryption.key_secret_ref if encryption is not None else None
    return replace(
        facts,
        secret=known.get(ref.name) if ref is not None else None,
        weights_key=known.get(key.name) if key is not None else None,
        jobs=tuple(job for job in facts.jobs if job.source_hash == further.loader.source_hash),
    )
