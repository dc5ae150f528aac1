# SPDX-License-Identifier: Apache-2.0
"""`nimblet size`: the arithmetic of a model's memory and CPU, without a cluster.

It is that of the plan: by the server and on the profile of the spec, on a CPU where the profile is `auto`.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nimblet.api.compactmodel import CompactModel, SizingStatus, Task
from nimblet.cli import inputs, show
from nimblet.cli.errors import CommandError
from nimblet.cli.factsfile import FactsFile
from nimblet.cluster.resources import COMPACT_MODEL
from nimblet.plan.artifact import Header
from nimblet.plan.images import Images
from nimblet.plan.modelhardware import Known, size_on
from nimblet.plan.modelserver import servers_on
from nimblet.plan.placement import AUTO, CPU
from nimblet.plan.sizing import KV_BYTES, Demand, size_model
from nimblet.plan.stage import Problem
from nimblet.plan.task import suitable_tasks
from nimblet.plan.workload import DEFAULT_CONTEXT, demand, prompt_cache
from nimblet.settings import Settings

DEFAULT_TASK: Final[Task] = "Chat"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the flags want otherwise than the spec has it."""

    context_length: int | None
    parallel: int | None
    kv_cache_type: str | None

    def of(self, base: Demand) -> Demand:
        """Return what is asked of a server."""
        return replace(base, **self._given)

    def spec_of(self, model: CompactModel) -> CompactModel:
        """Return the model with these in its spec."""
        runtime = model.spec.runtime.model_copy(update=self._given)
        return model.model_copy(update={"spec": model.spec.model_copy(update={"runtime": runtime})})

    @property
    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


def add_size(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `nimblet size`."""
    command.add_argument(
        "-f",
        "--file",
        type=Path,
        metavar="CR",
        help="file with CompactModels, with --facts: sized on "
        "spec.hardware.profile, and where that is auto on a CPU (`nimblet plan` chooses among nodes)",
    )
    command.add_argument(
        "--facts", type=Path, action="append", metavar="FILE", help="facts file that holds the artifact"
    )
    command.add_argument("--gguf-facts", type=Path, metavar="JSON", help="artifact.json, or its header alone")
    command.add_argument("--context", type=int, metavar="TOKENS", help="tokens of context per parallel request")
    command.add_argument("--parallel", type=int, metavar="SLOTS", help="requests at the same time")
    command.add_argument("--kv-cache-type", choices=sorted(KV_BYTES), help="type of the key and value cache")
    command.add_argument("-o", "--output", choices=("text", "yaml"), default="text", help="default: text")
    command.add_argument("--settings", type=Path, metavar="FILE", help="the operator's settings; else defaults")
    command.set_defaults(run=lambda arguments, _world: run_size(arguments))


def run_size(arguments: argparse.Namespace) -> str:
    """Return the sizing of what was named, as text or YAML."""
    settings = inputs.read_settings(arguments.settings)
    wanted = Wanted(
        context_length=_positive("--context", arguments.context),
        parallel=_positive("--parallel", arguments.parallel),
        kv_cache_type=arguments.kv_cache_type,
    )
    found = _sizes(arguments, settings, wanted)
    shown = show.sizing_yaml if arguments.output == "yaml" else show.sizing_text
    if len(found) == 1:
        return shown(found[0][1])
    mark = "--- # " if arguments.output == "yaml" else ""
    return "\n".join(f"{mark}{COMPACT_MODEL.kind} {name}\n{shown(sizing)}" for name, sizing in found)


def _positive(flag: str, given: int | None) -> int | None:
    if given is not None and given < 1:
        raise CommandError(f"expected a number of at least 1 for {flag}, found {given}")
    return given


def _sizes(arguments: argparse.Namespace, settings: Settings, wanted: Wanted) -> list[tuple[str, SizingStatus]]:
    """Return name and size of each model."""
    if arguments.gguf_facts is not None:
        return _of_header(arguments, settings, wanted)
    if arguments.file is None or arguments.facts is None:
        raise CommandError("expected --gguf-facts JSON, or -f CR with --facts FILE; see `nimblet size --help`")
    facts = inputs.read_facts(arguments.facts)
    named = " and ".join(str(path) for path in arguments.facts)
    models = inputs.read_models(arguments.file, namespace=None)
    return [(model.name, _of_model(wanted.spec_of(model), facts, settings, named)) for model in models]


def _of_header(
    arguments: argparse.Namespace, settings: Settings, wanted: Wanted
) -> list[tuple[str, SizingStatus]]:
    """Return the sizes under llama.cpp on a CPU, with or without a spec."""
    header: Header = inputs.read_header(arguments.gguf_facts)
    if header.model_type:
        raise CommandError(
            f"{arguments.gguf_facts}: expected the header of a GGUF file, found that of safetensors; "
            "give its artifact with --facts, and a CompactModel with -f"
        )
    context = min(DEFAULT_CONTEXT, header.context_length) or DEFAULT_CONTEXT
    task = next(iter(suitable_tasks(header)), DEFAULT_TASK)
    plain = Demand(
        context_length=context,
        parallel=2,
        kv_cache_type="f16",
        prompt_cache_mebibytes=prompt_cache(task, settings),
        task=task,
    )
    if arguments.file is None:
        return [("", size_model(header, wanted.of(plain)))]
    models = inputs.read_models(arguments.file, namespace=None)
    for model in models:
        if model.spec.further_sources:
            raise CommandError(
                f"expected --facts FILE for {model.name}, which has adapters or a drafting model: "
                "--gguf-facts tells nothing of their size"
            )
    return [(item.name, size_model(header, wanted.of(demand(item, header, settings)))) for item in models]


def _of_model(model: CompactModel, facts: FactsFile, settings: Settings, named: str) -> SizingStatus:
    """Return the size of a replica on the profile of the spec, by the server that the operator would choose."""
    artifact = inputs.artifact_of(facts, model)
    if artifact is None:
        raise CommandError(
            f"expected an artifact of {model.name} in {named}, found none; add it as `artifact`, or "
            "under `artifacts` by that name, or give --gguf-facts"
        )
    adapters, draft = inputs.beside_of(facts, model)
    hardware, profiles = model.spec.hardware, settings.hardware.known
    profile = profiles.get(CPU if hardware.profile == AUTO else hardware.profile)
    if profile is None:
        raise CommandError(
            f"expected hardware.profile of {model.name} to be one of {', '.join(profiles)}, "
            f"found {hardware.profile}; give --settings with the administrator's own"
        )
    images = Images(loader=settings.images.loader, wanted_loader=settings.images.loader)
    servers = servers_on(model, artifact, settings, images, adapters=adapters)
    server = servers(profile)
    if isinstance(server, Problem):
        raise CommandError(f"{model.name} on {profile.name}: {server.message}")
    asked = demand(model, artifact.header, settings, adapters=adapters, draft=draft)
    known = Known(model=model, header=artifact.header, demand=asked, servers=servers)
    return size_on(known, profile, hardware.count or 1)
