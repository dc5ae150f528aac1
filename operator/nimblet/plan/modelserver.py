# SPDX-License-Identifier: Apache-2.0
"""The model server of a resolved model: which runtime and image, and what keeps it from loading it. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import Reason
from nimblet.hardware import CPU_CLASSES, HardwareProfile
from nimblet.plan.artifact import Artifact
from nimblet.plan.devicesizing import split_problem
from nimblet.plan.format import format_problem
from nimblet.plan.images import Images, runtime_images
from nimblet.plan.runtime.choice import AUTO, RUNTIMES, Choice, choose_runtime, unknown
from nimblet.plan.runtime.interface import Wish
from nimblet.plan.stage import Problem, problem
from nimblet.plan.task import task_problem
from nimblet.plan.workload import wish_of
from nimblet.settings import Settings

COMPACT_PARAMETERS: Final = 15_000_000_000
"""Most parameters of a compact model, which is what this operator is for; `allowLarge` lets larger ones in."""
Servers = Callable[[HardwareProfile], Choice | Problem]
"""The server on a profile, or why there is none."""


def servers_on(
    model: CompactModel,
    artifact: Artifact,
    settings: Settings,
    images: Images,
    *,
    adapters: Sequence[Artifact] = (),
) -> Servers:
    """Return who serves the model on each profile.

    Pods that are there keep their server and its image as long as spec and profile stay, whatever Auto would
    choose by now.
    """
    wish = _wish(model, artifact, settings, adapters, kept=images.kept)
    count = model.spec.hardware.count or 1

    def _split(found: Choice, profile: HardwareProfile) -> str:
        """Return why the layers can't be split among the devices; llama.cpp splits between them instead."""
        engine = found.runtime.engine
        if profile.class_ in CPU_CLASSES or engine is None:
            return ""
        return split_problem(artifact.header, count, engine).rstrip(".")

    def on(profile: HardwareProfile) -> Choice | Problem:
        available = runtime_images(settings, profile)
        stays = images.kept_runtime in RUNTIMES and images.kept and images.kept_profile == profile.name
        kept = {images.kept_runtime: images.kept_server} if stays else {}
        found = choose_runtime(
            model.spec.runtime.name, replace(wish, hardware=profile.class_), {**available, **kept}
        )
        if isinstance(found, Problem):
            return found
        split = _split(found, profile)
        if split:
            return problem(Reason.RUNTIME_UNSUITABLE, f"{found.runtime.name}: {split}.")
        if stays and found.runtime.name != images.kept_runtime:
            why = f"{images.kept_runtime}: kept while the spec stays"
            found = replace(found, runtime=RUNTIMES[images.kept_runtime], image=images.kept_server, why=why)
        return replace(found, wanted=available.get(found.runtime.name, ""), kept=stays)

    return on


def _wish(
    model: CompactModel,
    artifact: Artifact,
    settings: Settings,
    adapters: Sequence[Artifact] = (),
    *,
    kept: bool,
) -> Wish:
    """Return what a server is wanted for; what pods of this spec run already needs nobody's word."""
    vouched = kept or artifact.header.architecture in settings.extra_architectures
    wish = wish_of(model, artifact, adapters)
    return replace(wish, architecture="") if vouched else wish


def model_problem(model: CompactModel, artifact: Artifact, settings: Settings, *, kept: bool) -> Problem | None:
    """Return what keeps any server, or the one that is named, from running the model: told before any pod.

    `kept`: pods of this spec are there, made by an operator that knew no limit of size.
    """
    header, path, named = artifact.header, artifact.files[0].path, model.spec.runtime.name
    unloadable = format_problem(named, artifact) if named != AUTO else None
    if unloadable is not None:
        return unloadable
    strangers = unknown(_wish(model, artifact, settings, kept=kept))
    if strangers:
        message = f"{path} is of the architecture {header.architecture}, which {strangers} not know."
        return problem(Reason.UNSUPPORTED_MODEL, message)
    if header.parameters > COMPACT_PARAMETERS and not model.spec.allow_large and not kept:
        billions = f"{header.parameters / 1e9:.1f} billion parameters"
        message = f"The model has {billions}, and a compact one has {COMPACT_PARAMETERS // 10**9} billion at most."
        return problem(Reason.MODEL_TOO_LARGE, message)
    wanted = model.spec.runtime.context_length
    if wanted is not None and header.context_length and wanted > header.context_length:
        message = f"runtime.contextLength is {wanted} but the model was made for {header.context_length} tokens."
        return problem(Reason.CONTEXT_TOO_LONG, message)
    if not header.block_count or not header.embedding_length:
        message = f"The header of {path} ({header.architecture}) describes no language model."
        return problem(Reason.UNSUPPORTED_MODEL, message)
    return task_problem(model.spec.task, header)
