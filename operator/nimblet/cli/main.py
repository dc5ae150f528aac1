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

from nimblet import __version__, names
from nimblet.api.assistant import AssistantStatus
from nimblet.api.compactmodel import CompactModel
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.cli import ask as asking
from nimblet.cli import bench, encrypt, inputs, live, show, size, trust
from nimblet.cli import purge as purging
from nimblet.cli.bundle import Bundle, read_bundle
from nimblet.cli.errors import CommandError
from nimblet.cli.help import EXAMPLES, FACTS_FORMAT
from nimblet.cli.liveplan import Live
from nimblet.cli.offline import Offline
from nimblet.cli.planning import Circumstances, Planned, plan_bundle
from nimblet.cluster.login import read_login
from nimblet.cluster.resources import ASSISTANT, RETRIEVAL_INDEX, Resource
from nimblet.settings import Settings


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
    size.add_size(_command(commands, "size", "show the memory and CPU of a model, with the arithmetic"))
    _add_status(
        _command(
            commands, "status", "show the conditions of a model, an index or an Assistant, and the next steps"
        )
    )
    _add_ask(_command(commands, "ask", "put one question to a served model"))
    _add_live(
        _command(commands, "bench", "put a load on a served model and show its latencies and throughput"),
        bench.add_bench,
        _run_bench,
    )
    _add_live(
        _command(commands, "digest", "print the digests that spec.integrity takes"), trust.add_digest, _run_digest
    )
    _add_live(_command(commands, "sign", "sign a model by OpenSSF model-signing v1"), trust.add_sign, _run_sign)
    encrypt.add_encrypt(_command(commands, "encrypt", "encrypt a model's files, and tell what is in them to sign"))
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
    command.add_argument(
        "--facts",
        type=Path,
        action="append",
        metavar="FILE",
        help="plan offline against this facts file; give it once for each of several that add up",
    )
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
    _add_ca(command)
    command.add_argument("--max-tokens", type=int, default=128, metavar="N", help="default: 128")
    command.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default: 60")
    command.set_defaults(run=_run_ask)


def _add_live(
    command: argparse.ArgumentParser, add: Callable[[argparse.ArgumentParser], None], run: Command
) -> None:
    add(command)
    _add_kubeconfig(command)
    command.set_defaults(run=run)


def _add_ca(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="with --url https://…: the authorities that its certificate is verified by, as ca.crt of the Secret "
        "<service>-tls has them; at an address of this machine it must name the Service",
    )


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
        offline = Offline(given=inputs.read_facts(arguments.facts), settings=settings, policies=bundle.policies)
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
            Live(client=client, settings=settings, policies=bundle.policies),
            _under(arguments, world, settings),
        )


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
    if arguments.ca is not None and arguments.url is None:
        raise CommandError(
            "expected --url with --ca, found none; the API server's own authority is the kubeconfig's"
        )
    place = _Place(url=arguments.url, ca=arguments.ca)
    if arguments.assistant:
        return asyncio.run(_ask_assistant(_target(arguments, world), question, place))
    return asyncio.run(_ask(_target(arguments, world), question, place))


def _run_bench(arguments: argparse.Namespace, world: World) -> str:
    return asyncio.run(_bench(arguments, _target(arguments, world)))


async def _bench(arguments: argparse.Namespace, target: live.Target) -> str:
    if arguments.key_file is None:
        endpoint, model = await _served(target, _Place(url=arguments.url))
        return await bench.run(arguments, endpoint, model=model.spec.served_model_name or model.name)
    if arguments.url is None:
        raise CommandError("expected --url with --key-file, found none; without both the cluster is asked")
    endpoint = asking.direct_endpoint(arguments.url, api_key=inputs.read_key(arguments.key_file))
    return await bench.run(arguments, endpoint, model=arguments.name)


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


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where to ask, where the user says so, and whom to trust there."""

    url: str | None
    ca: Path | None = None

    def endpoint(self, target: live.Target, *, service: str, api_key: str) -> asking.Endpoint:
        """Return it as the endpoint of a Service of a target's namespace."""
        named = f"{service}.{target.namespace}.svc"
        trust = asking.Trust(ca=self.ca, service=named) if self.ca is not None else None
        return asking.direct_endpoint(self.url or "", api_key=api_key, trust=trust)


async def _ask_assistant(target: live.Target, question: asking.Question, place: _Place) -> str:
    if place.url is None:
        raise CommandError(
            f"expected --url for an Assistant, found none; run `kubectl port-forward -n {target.namespace} "
            f"service/{names.gateway(target.name)} 8080` and give --url http://127.0.0.1:8080, or https and --ca "
            "where its status.endpoint says https"
        )
    async with live.reading(target.kubeconfig) as client:
        key = await asking.read_api_key(client, target, name=names.gateway_key(target.name))
    endpoint = place.endpoint(target, service=names.gateway(target.name), api_key=key)
    return await asking.ask(endpoint, replace(question, model=target.name))


async def _ask(target: live.Target, question: asking.Question, place: _Place) -> str:
    endpoint, model = await _served(target, place)
    labels = (model.status.artifact.labels or ()) if model.status.artifact is not None else ()
    return await asking.ask(endpoint, replace(question, task=model.spec.task, labels=tuple(labels)))


async def _served(target: live.Target, place: _Place) -> tuple[asking.Endpoint, CompactModel]:
    """Return where a model of the cluster is asked, with its key, and the model."""
    async with live.reading(target.kubeconfig) as client:
        key = await asking.read_api_key(client, target, name=names.api_key(target.name))
        model = await live.read_live_model(client, target)
        if place.url is not None:
            return place.endpoint(target, service=names.server(target.name), api_key=key), model
        asking.check_proxied(target, model.status)
        login, https = await read_login(target.kubeconfig), model.status.endpoint.startswith("https:")
        return asking.proxied_endpoint(login, target, api_key=key, https=https), model


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
