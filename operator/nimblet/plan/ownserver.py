# SPDX-License-Identifier: Apache-2.0
"""What an index's retriever and an Assistant's gateway, servers of our own images, have in common. Pure."""

from dataclasses import dataclass

from nimblet.api.assistant import Assistant
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.plan.facts import WorkloadFacts
from nimblet.plan.source import spec_hash
from nimblet.plan.tee import Bindable
from nimblet.plan.workload import restart_of
from nimblet.settings import Settings

Owner = Assistant | RetrievalIndex


@dataclass(frozen=True, kw_only=True)
class OwnImage:
    """The image chosen for the current spec."""

    name: str
    spec_hash: str
    newer: bool
    """The admin's settings name another by now."""


def choose_image(owner: Owner, facts: WorkloadFacts, *, wanted: str) -> OwnImage:
    """Keep the image that the pods have as long as the spec stays: an upgrade of the operator restarts nobody."""
    hashed = spec_hash(owner.spec, restarted_at=restart_of(owner.restarted_at, facts))
    before = owner.status
    live = facts.deployment
    if live is None or not live.runs(before.image) or not before.image or before.spec_hash != hashed:
        return OwnImage(name=wanted, spec_hash=hashed, newer=False)
    return OwnImage(name=before.image, spec_hash=hashed, newer=before.image != wanted)


def bindable_of(owner: Owner, settings: Settings) -> Bindable:
    """Return what policies look at: it loads no weights of its own."""
    before = owner.status.policy
    return Bindable(
        ref=owner.spec.tee_policy_ref,
        before=before.technology if before is not None else "",
        gate_image=settings.images.loader,
        pull_policy=settings.images.pull_policy,
    )
