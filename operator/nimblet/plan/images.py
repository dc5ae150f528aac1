# SPDX-License-Identifier: Apache-2.0
"""Which images a model's pods run: the settings', or as long as its spec stays those they have (ADR 6). Pure."""

from dataclasses import dataclass

from nimblet.api.compactmodel import CompactModel
from nimblet.plan.facts import ModelFacts
from nimblet.plan.source import spec_hash
from nimblet.plan.workload import restart_of
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images chosen for the current spec; `newer` when the admin's settings name others by now."""

    server: str
    loader: str
    newer: bool
    kept: bool = False
    """They are those of the pods, as is where the weights come from."""


def choose_images(model: CompactModel, facts: ModelFacts, settings: Settings) -> Images:
    """Keep the images the pods have as long as the spec stays: an upgrade of the operator restarts no model."""
    wanted = Images(server=settings.images.llamacpp, loader=settings.images.loader, newer=False)
    before = model.status.resolved
    if facts.deployment is None or before is None or before.spec_hash != spec_hash_of(model, facts):
        return wanted
    newer = (before.image, before.loader_image) != (wanted.server, wanted.loader)
    return Images(server=before.image, loader=before.loader_image, newer=newer, kept=True)


def spec_hash_of(model: CompactModel, facts: ModelFacts) -> str:
    """Return the hash of the spec and the restart that the images are chosen for."""
    return spec_hash(model.spec, restarted_at=restart_of(model.restarted_at, facts))
