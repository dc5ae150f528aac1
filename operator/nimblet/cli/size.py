# SPDX-License-Identifier: Apache-2.0
"""`nimblet size`: the arithmetic of a model's memory and CPU, without a cluster."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from nimblet.api.compactmodel import Task
from nimblet.cli import inputs, show
from nimblet.cli.errors import CommandError
from nimblet.cluster.resources import COMPACT_MODEL
from nimblet.plan.artifact import Header
from nimblet.plan.sizing import KV_BYTES, Demand, size_model
from nimblet.plan.task import suitable_tasks
from nimblet.plan.workload import DEFAULT_CONTEXT, demand, prompt_cache
from nimblet.settings import Settings

DEFAULT_TASK: Final[Task] = "Chat"


def add_size(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `nimblet size`."""
    command.add_argument("-f", "--file", type=Path, metavar="CR", help="file with CompactModels, with --facts")
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
    found = _size_inputs(arguments, settings)
    shown = show.sizing_yaml if arguments.output == "yaml" else show.sizing_text
    parts = []
    for name, header, base in found:
        asked = replace(
            base,
            context_length=_positive("--context", arguments.context, base.context_length),
            parallel=_positive("--parallel", arguments.parallel, base.parallel),
            kv_cache_type=arguments.kv_cache_type or base.kv_cache_type,
        )
        parts.append((name, shown(size_model(header, asked))))
    if len(parts) == 1:
        return parts[0][1]
    mark = "--- # " if arguments.output == "yaml" else ""
    return "\n".join(f"{mark}{COMPACT_MODEL.kind} {name}\n{text}" for name, text in parts)


def _positive(flag: str, given: int | None, otherwise: int) -> int:
    if given is not None and given < 1:
        raise CommandError(f"expected a number of at least 1 for {flag}, found {given}")
    return given if given is not None else otherwise


def _size_inputs(arguments: argparse.Namespace, settings: Settings) -> list[tuple[str, Header, Demand]]:
    """Return name, header and demand of each model to size."""
    if arguments.gguf_facts is not None:
        header = inputs.read_header(arguments.gguf_facts)
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
            return [("", header, plain)]
        models = inputs.read_models(arguments.file, namespace=None)
        for model in models:
            if model.spec.further_sources:
                raise CommandError(
                    f"expected --facts FILE for {model.name}, which has adapters or a drafting model: "
                    "--gguf-facts tells nothing of their size"
                )
        return [(model.name, header, demand(model, header, settings)) for model in models]
    if arguments.file is None or arguments.facts is None:
        raise CommandError("expected --gguf-facts JSON, or -f CR with --facts FILE; see `nimblet size --help`")
    facts, found = inputs.read_facts(arguments.facts), []
    for model in inputs.read_models(arguments.file, namespace=None):
        artifact = inputs.artifact_of(facts, model)
        if artifact is None:
            named = " and ".join(str(path) for path in arguments.facts)
            raise CommandError(
                f"expected an artifact of {model.name} in {named}, found none; add it as `artifact`, or "
                "under `artifacts` by that name, or give --gguf-facts"
            )
        adapters, draft = inputs.beside_of(facts, model)
        asked = demand(model, artifact.header, settings, adapters=adapters, draft=draft)
        found.append((model.name, artifact.header, asked))
    return found
