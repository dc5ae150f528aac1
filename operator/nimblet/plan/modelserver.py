# SPDX-License-Identifier: Apache-2.0
"""The model server of a resolved model: which runtime and image, and what keeps it from loading it. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import Reason
from nimblet.plan.artifact import Artifact
from nimblet.plan.format import format_problem
from nimblet.plan.images import Images
from nimblet.plan.runtime.architectures import ARCHITECTURES
from nimblet.plan.runtime.choice import AUTO, RUNTIMES, Choice, choose_runtime
from nimblet.plan.runtime.interface import HardwareClass
from nimblet.plan.stage import Problem, problem
from nimblet.plan.task import task_problem
from nimblet.plan.workload import wish_of
from nimblet.settings import Settings


def plan_runtime(
    model: CompactModel,
    artifact: Artifact,
    settings: Settings,
    *,
    images: Images,
    hardware: HardwareClass,
    available: Mapping[str, str],
) -> Choice | Problem:
    """Return the server, or what keeps any from running the model at all: told before any pod.

    `available`: the servers' images on the hardware. Pods that are there keep their server and its image as long
    as the spec stays, whatever Auto would choose by now.
    """
    named = model.spec.runtime.name
    unloadable = format_problem(named, artifact) if named != AUTO else None
    if unloadable is not None:
        return unloadable
    kept = {images.kept_runtime: images.kept_server} if images.kept else {}
    wish = replace(wish_of(model, artifact), hardware=hardware)
    choice = choose_runtime(named, wish, {**available, **kept})
    if isinstance(choice, Problem):
        return choice
    if images.kept and choice.runtime.name != images.kept_runtime:
        why = f"{images.kept_runtime}: kept while the spec stays"
        choice = Choice(runtime=RUNTIMES[images.kept_runtime], image=images.kept_server, why=why)
    return model_problem(model, artifact, settings, runtime=choice.runtime.name) or choice


def model_problem(model: CompactModel, artifact: Artifact, settings: Settings, *, runtime: str) -> Problem | None:
    """Return what of the model's own header keeps the server from loading it."""
    header, path = artifact.header, artifact.files[0].path
    known = header.architecture in ARCHITECTURES or header.architecture in settings.extra_architectures
    if runtime == "LlamaCpp" and not known:
        message = f"{path} is of the architecture {header.architecture}, which the pinned llama.cpp does not know."
        return problem(Reason.UNSUPPORTED_MODEL, message)
    wanted = model.spec.runtime.context_length
    if wanted is not None and header.context_length and wanted > header.context_length:
        message = f"runtime.contextLength is {wanted} but the model was made for {header.context_length} tokens."
        return problem(Reason.CONTEXT_TOO_LONG, message)
    if not header.block_count or not header.embedding_length:
        message = f"The header of {path} ({header.architecture}) describes no language model."
        return problem(Reason.UNSUPPORTED_MODEL, message)
    return task_problem(model.spec.task, header)
