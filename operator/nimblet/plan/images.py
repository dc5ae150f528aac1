# SPDX-License-Identifier: Apache-2.0
"""Which images a model's pods run: the settings', or as long as its spec stays those they have (ADR 6). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from nimblet.api.compactmodel import CompactModel
from nimblet.hardware import CPU_CLASSES, HardwareProfile
from nimblet.plan.facts import ModelFacts
from nimblet.plan.source import spec_hash
from nimblet.plan.workload import restart_of
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images chosen for the current spec. The server's depends on the runtime, which is known later."""

    loader: str
    wanted_loader: str
    """What the admin's settings name by now."""
    kept_server: str = ""
    """The image that the pods have; "" where their spec is not the current one."""
    kept_runtime: str = ""
    """The runtime of that image."""
    kept_profile: str = ""
    """The hardware profile that it is for."""

    @property
    def kept(self) -> bool:
        """They are those of the pods, as is where the weights come from."""
        return bool(self.kept_server)

    def newer(self, server: str) -> bool:
        """Tell whether the admin's settings name others by now; `server` is theirs for the runtime."""
        return self.kept and (self.kept_server, self.loader) != (server, self.wanted_loader)


def choose_images(model: CompactModel, facts: ModelFacts, settings: Settings) -> Images:
    """Keep the images the pods have as long as the spec stays: an upgrade of the operator restarts no model."""
    wanted = settings.images.loader
    before = model.status.resolved
    if facts.deployment is None or before is None or before.spec_hash != spec_hash_of(model, facts):
        return Images(loader=wanted, wanted_loader=wanted)
    if not facts.deployment.runs(before.image, before.loader_image):
        return Images(loader=wanted, wanted_loader=wanted)
    return Images(
        loader=before.loader_image,
        wanted_loader=wanted,
        kept_server=before.image,
        kept_runtime=before.runtime,
        kept_profile=before.profile,
    )


def runtime_images(settings: Settings, profile: HardwareProfile) -> Mapping[str, str]:
    """Return the servers' images for a profile, by the runtime's name; a runtime without one is left out."""
    images = settings.images
    on_cpu = {"LlamaCpp": images.llamacpp, "VLLM": images.vllm, "TGI": images.tgi}
    return {**(on_cpu if profile.class_ in CPU_CLASSES else {}), **profile.images}


def spec_hash_of(model: CompactModel, facts: ModelFacts) -> str:
    """Return the hash of the spec and the restart that the images are chosen for."""
    return spec_hash(model.spec, restarted_at=restart_of(model.restarted_at, facts))
