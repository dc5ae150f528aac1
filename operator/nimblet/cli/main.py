# SPDX-License-Identifier: Apache-2.0
"""The command line `nimblet`. Parses arguments, calls, prints; decides nothing itself."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from nimblet import __version__, names
from nimblet.api.assistant import AssistantStatus
from nimblet.api.compactmodel import CompactModel, Task
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.cli import ask as asking
from nimblet.cli import inputs, live, show, trust
from nimblet.cli import purge as purging
from nimblet.cli.bundle import Bundle, read_bundle
from nimblet.cli.errors import CommandError
from nimblet.cli.help import EXAMPLES, FACTS_FORMAT
from nimblet.cli.liveplan import Live
from nimblet.cli.offline import Offline
from nimblet.cli.planning import Circumstances, Planned, plan_bundle
from nimblet.cluster.login import read_login
from nimblet.cluster.resources import ASSISTANT, COMPACT_MODEL, RETRIEVAL_INDEX, Resource
from nimblet.plan.artifact import Header
from nimblet.plan.sizing import KV_BYTES, Demand, size_model
from nimblet.plan.task import suitable_tasks
from nimblet.plan.workload import DEFAULT_CONTEXT, demand, prompt_cache
from nimblet.settings import Settings

DEFAULT_TASK: Final[Task] = "Chat"


@dataclass(frozen=True, kw_only=True)
class World:
    """What commands take from outside."""

    environment: Mapping[str, str]
    now: Callable[[], datetime]


Command = Callable[[argparse.Namespace, World], str]
"""A command: what it prints, or CommandError."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 not (the reason is on standard error), 2 wrong usage."""
    arguments = parser().parse_args(argv)
    world = World(environment=os.environ, now=lambda: datetime.now(UTC))
    command: Command = arguments.run
    try:
        print(command(arguments, world).rstrip("\n"))
    except CommandError as error:
        print(f"nimblet: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="nimblet",
        description="Plans, sizes, explains and asks compact models on Kubernetes.",
        epilog="\n  ".join(["examples:", *EXAMPLES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"nimblet {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    what = "show what the operator would make of models, indexes and Assistants"
    _add_plan(_command(commands, "plan", what))
    _add_size(_command(commands, "size", "show the memory and CPU of a model, with the arithmetic"))
    _add_status(
        _command(
            commands, "status", "show the conditions of a model, an index or an Assistant, and the next steps"
        )
    )
    _add_ask(_command(commands, "ask", "put one question to a served model"))
    _add_live(
        _command(commands, "digest", "print the digests that spec.integrity takes"), trust.add_digest, _run_digest
    )
    _add_live(_command(commands, "sign", "sign a model by OpenSSF model-signing v1"), trust.add_sign, _run_sign)
    index = _command(commands, "index", "look after what indexes keep elsewhere")
    purge = _command(
        index.add_subparsers(required=True, metavar="COMMAND"),
        "purge",
        "delete the collections that a deleted RetrievalIndex left on an External Qdrant server",
    )
    _add_live(purge, purging.add_purge, _run_purge)
    return top


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, help_text: str
) -> argparse.ArgumentParser:
    lines = [line for line in EXAMPLES if line.startswith(f"nimblet {name} ")]
    epilog = "\n  ".join(["examples:", *lines])
    if name in ("plan", "size"):
        epilog = f"{epilog}\n\n{FACTS_FORMAT}"
    return commands.add_parser(
        name,
        help=help_text,
        description=f"{help_text[0].upper()}{help_text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_plan(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-f",
        "--file",
        type=Path,
        action="append",
        required=True,
        metavar="CRS",
        help="file with CompactModels, RetrievalIndexes and Assistants, and with the ConfigMaps, Secrets and "
        "claims that these name; give it once for each file. What is named is looked for in the files first",
    )
    command.add_argument("--facts", type=Path, metavar="FILE", help="plan offline against this facts file")
    command.add_argument(
        "--assume-serving",
        action="store_true",
        help="plan as if every model and index that is named answered: shows what comes once they do",
    )
    command.add_argument("-n", "--namespace", help="namespace, where the file names none or another is meant")
    command.add_argument("-o", "--output", choices=("text", "yaml"), default="text", help="default: text")
    _add_settings(command)
    _add_kubeconfig(command)
    command.set_defaults(run=_run_plan)


def _add_size(command: argparse.ArgumentParser) -> None:
    command.add_argument("-f", "--file", type=Path, metavar="CR", help="file with CompactModels, with --facts")
    command.add_argument("--facts", type=Path, metavar="FILE", help="facts file that holds the artifact")
    command.add_argument("--gguf-facts", type=Path, metavar="JSON", help="artifact.json, or its header alone")
    command.add_argument("--context", type=int, metavar="TOKENS", help="tokens of context per parallel request")
    command.add_argument("--parallel", type=int, metavar="SLOTS", help="requests at the same time")
    command.add_argument("--kv-cache-type", choices=sorted(KV_BYTES), help="type of the key and value cache")
    command.add_argument("-o", "--output", choices=("text", "yaml"), default="text", help="default: text")
    command.add_argument("--settings", type=Path, metavar="FILE", help="the operator's settings; else defaults")
    command.set_defaults(run=_run_size)


def _add_status(command: argparse.ArgumentParser) -> None:
    _add_target(command)
    kinds = command.add_mutually_exclusive_group()
    kinds.add_argument("--assistant", action="store_true", help="NAME is an Assistant's")
    kinds.add_argument("--index", action="store_true", help="NAME is a RetrievalIndex's")
    command.set_defaults(run=_run_status)


def _add_ask(command: argparse.ArgumentParser) -> None:
    _add_target(command)
    command.add_argument("question", help="the text: a question, a query of task Rerank, what is to be classified")
    command.add_argument(
        "--document",
        action="append",
        default=[],
        metavar="TEXT",
        help="task Rerank: a document to put in order; give it once for each",
    )
    command.add_argument(
        "--url",
        help="ask there instead of through the API server's proxy: a port-forward's http://127.0.0.1:8080, say; "
        "needed where NetworkPolicies are enforced, since the API server is no permitted caller",
    )
    command.add_argument(
        "--assistant",
        action="store_true",
        help="NAME is an Assistant's: prints its citations too; needs --url, since the API server's proxy takes "
        "the header with the key for itself",
    )
    command.add_argument("--max-tokens", type=int, default=128, metavar="N", help="default: 128")
    command.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default: 60")
    command.set_defaults(run=_run_ask)


def _add_live(
    command: argparse.ArgumentParser, add: Callable[[argparse.ArgumentParser], None], run: Command
) -> None:
    add(command)
    _add_kubeconfig(command)
    command.set_defaults(run=run)


def _add_target(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", help="name of the CompactModel, unless an option says otherwise")
    command.add_argument("-n", "--namespace", default="default", help="default: default")
    _add_kubeconfig(command)


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--settings", type=Path, metavar="FILE", help="the operator's settings; else the cluster's, or defaults"
    )
    command.add_argument("--operator-namespace", default="nimblet-system", help="default: nimblet-system")


def _add_kubeconfig(command: argparse.ArgumentParser) -> None:
    command.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config")


def _kubeconfig(arguments: argparse.Namespace, world: World) -> Path | None:
    given: Path | None = arguments.kubeconfig
    if given is not None:
        return given
    named = world.environment.get("KUBECONFIG")
    usual = Path.home() / ".kube" / "config"
    return Path(named) if named else usual if usual.is_file() else None


def _run_plan(arguments: argparse.Namespace, world: World) -> str:
    bundle = read_bundle(arguments.file, namespace=arguments.namespace)
    if arguments.facts is not None:
        settings = inputs.read_settings(arguments.settings)
        offline = Offline(given=inputs.read_facts(arguments.facts), settings=settings)
        plans = asyncio.run(plan_bundle(bundle, offline, _under(arguments, world, settings)))
    else:
        plans = asyncio.run(_plan_live(arguments, world, bundle))
    return show.plans_yaml(plans) if arguments.output == "yaml" else show.plans_text(plans)


def _under(arguments: argparse.Namespace, world: World, settings: Settings) -> Circumstances:
    return Circumstances(settings=settings, now=world.now(), serving=arguments.assume_serving)


async def _plan_live(arguments: argparse.Namespace, world: World, bundle: Bundle) -> tuple[Planned, ...]:
    async with live.reading(_kubeconfig(arguments, world)) as client:
        settings = (
            inputs.read_settings(arguments.settings)
            if arguments.settings is not None
            else await live.read_live_settings(client, operator_namespace=arguments.operator_namespace)
        )
        return await plan_bundle(
            bundle,
            Live(client=client, operator_namespace=settings.access.operator_namespace),
            _under(arguments, world, settings),
        )


def _run_size(arguments: argparse.Namespace, world: World) -> str:
    del world
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
        return [(model.name, header, demand(model, header, settings)) for model in models]
    if arguments.file is None or arguments.facts is None:
        raise CommandError("expected --gguf-facts JSON, or -f CR with --facts FILE; see `nimblet size --help`")
    facts, found = inputs.read_facts(arguments.facts), []
    for model in inputs.read_models(arguments.file, namespace=None):
        artifact = inputs.artifact_of(facts, model)
        if artifact is None:
            raise CommandError(
                f"expected an artifact of {model.name} in {arguments.facts}, found none; add it as `artifact`, or "
                "under `artifacts` by that name, or give --gguf-facts"
            )
        found.append((model.name, artifact.header, demand(model, artifact.header, settings)))
    return found


def _target(arguments: argparse.Namespace, world: World) -> live.Target:
    return live.Target(
        name=arguments.name, namespace=arguments.namespace, kubeconfig=_kubeconfig(arguments, world)
    )


def _run_status(arguments: argparse.Namespace, world: World) -> str:
    target = _target(arguments, world)
    if arguments.assistant:
        return asyncio.run(_status_of(target, ASSISTANT, AssistantStatus, show.assistant_text))
    if arguments.index:
        return asyncio.run(_status_of(target, RETRIEVAL_INDEX, RetrievalIndexStatus, show.index_text))
    return asyncio.run(_status(target))


async def _status_of(
    target: live.Target, resource: Resource, status: type[live.S], text: Callable[[str, str, live.S], str]
) -> str:
    async with live.reading(target.kubeconfig) as client:
        found = await live.read_live_status(client, target, resource, status)
    return text(target.name, target.namespace, found)


async def _status(target: live.Target) -> str:
    model = await _model(target)
    return show.status_text(target.name, target.namespace, model.status)


def _run_ask(arguments: argparse.Namespace, world: World) -> str:
    question = asking.Question(
        text=arguments.question,
        max_tokens=arguments.max_tokens,
        timeout_seconds=arguments.timeout,
        documents=tuple(arguments.document),
    )
    if arguments.assistant:
        return asyncio.run(_ask_assistant(_target(arguments, world), question, url=arguments.url))
    return asyncio.run(_ask(_target(arguments, world), question, url=arguments.url))


def _run_digest(arguments: argparse.Namespace, world: World) -> str:
    return trust.run_digest(arguments, lambda: _resolved(arguments, world))


def _run_sign(arguments: argparse.Namespace, world: World) -> str:
    return trust.run_sign(arguments, lambda: _resolved(arguments, world))


def _resolved(arguments: argparse.Namespace, world: World) -> CompactModel:
    namespace = arguments.namespace or "default"
    target = live.Target(name=arguments.model, namespace=namespace, kubeconfig=_kubeconfig(arguments, world))
    return asyncio.run(_model(target))


async def _model(target: live.Target) -> CompactModel:
    async with live.reading(target.kubeconfig) as client:
        return await live.read_live_model(client, target)


async def _ask_assistant(target: live.Target, question: asking.Question, *, url: str | None) -> str:
    if url is None:
        raise CommandError(
            f"expected --url for an Assistant, found none; run `kubectl port-forward -n {target.namespace} "
            f"service/{names.gateway(target.name)} 8080` and give --url http://127.0.0.1:8080"
        )
    async with live.reading(target.kubeconfig) as client:
        key = await asking.read_api_key(client, target, name=names.gateway_key(target.name))
    endpoint = asking.direct_endpoint(url, api_key=key)
    return await asking.ask(endpoint, replace(question, model=target.name))


async def _ask(target: live.Target, question: asking.Question, *, url: str | None) -> str:
    async with live.reading(target.kubeconfig) as client:
        key = await asking.read_api_key(client, target, name=names.api_key(target.name))
        model = await live.read_live_model(client, target)
        if url is not None:
            endpoint = asking.direct_endpoint(url, api_key=key)
        else:
            login = await read_login(target.kubeconfig)
            https = model.status.endpoint.startswith("https:")
            endpoint = asking.proxied_endpoint(login, target, api_key=key, https=https)
    labels = (model.status.artifact.labels or ()) if model.status.artifact is not None else ()
    return await asking.ask(endpoint, replace(question, task=model.spec.task, labels=tuple(labels)))


def _run_purge(arguments: argparse.Namespace, world: World) -> str:
    return asyncio.run(_purge(arguments, _kubeconfig(arguments, world)))


async def _purge(arguments: argparse.Namespace, kubeconfig: Path | None) -> str:
    uid, namespace = purging.parse_uid(arguments.uid), arguments.namespace
    key = inputs.read_key(arguments.key_file) if arguments.key_file is not None else None
    async with live.reading(kubeconfig) as client:
        await purging.check_deleted(client, uid, namespace=namespace)
        if arguments.key_secret is not None:
            target = live.Target(name=arguments.key_secret, namespace=namespace, kubeconfig=kubeconfig)
            key = await asking.read_api_key(client, target, name=arguments.key_secret)
    return await purging.purge(purging.Server(url=arguments.url, key=key), uid, confirmed=arguments.yes)
