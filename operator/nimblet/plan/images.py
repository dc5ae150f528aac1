# SPDX-License-Identifier: Apache-2.0
"""Which images a model's pods run: the settings', or as long as its spec stays those they have (ADR 6). Pure."""

from dataclasses import dataclass

from nimblet.api.compactmodel import CompactModel
from nimblet.hardware import CPU_CLASSES, LLAMACPP, HardwareProfile
from nimblet.plan.facts import ModelFacts
from nimblet.plan.source import spec_hash
from nimblet.plan.workload import restart_of
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images chosen for the current spec; `newer` when the admin's settings name others by now."""

    server: str
    """Image that pods of this spec have; empty where it is the settings' that counts."""
    loader: str
    newer: bool
    kept: bool = False
    """They are those of the pods, as is where the weights come from."""


def choose_images(model: CompactModel, facts: ModelFacts, settings: Settings) -> Images:
    """Keep the images the pods have as long as the spec stays: an upgrade of the operator restarts no model."""
    wanted = Images(server="", loader=settings.images.loader, newer=False)
    before = model.status.resolved
    if facts.deployment is None or before is None or before.spec_hash != spec_hash_of(model, facts):
        return wanted
    profile = settings.hardware.known.get(before.profile)
    server = server_image(settings, profile) if profile is not None else before.image
    newer = (before.image, before.loader_image) != (server, wanted.loader)
    return Images(server=before.image, loader=before.loader_image, newer=newer, kept=True)


def server_image(settings: Settings, profile: HardwareProfile) -> str:
    """Return the settings' image of llama.cpp for a profile; "" where there is none."""
    otherwise = settings.images.llamacpp if profile.class_ in CPU_CLASSES else ""
    return profile.images.get(LLAMACPP, otherwise)


def spec_hash_of(model: CompactModel, facts: ModelFacts) -> str:
    """Return the hash of the spec and the restart that the images are chosen for."""
    return spec_hash(model.spec, restarted_at=restart_of(model.restarted_at, facts))
