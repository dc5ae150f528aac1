# SPDX-License-Identifier: Apache-2.0
"""`nimblet bench`: an open-loop load on a served model, beside another endpoint where one is named.

Two endpoints take turns, round by round, with the same requests: a machine that others use slows both.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

from nimblet.cli import inputs
from nimblet.cli.ask import Endpoint, direct_endpoint
from nimblet.cli.errors import CommandError
from nimblet.cli.load import plot, report
from nimblet.cli.load.arrivals import Load, arrivals
from nimblet.cli.load.figures import Figures, Sample, figures
from nimblet.cli.load.stream import Target, send

STEP: Final = 10
"""Progress is told every so many per cent."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """A load, how often it is repeated, and what its randomness starts from."""

    load: Load
    count: int
    seed: int


def add_bench(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `nimblet bench`."""
    command.add_argument("name", help="name of the CompactModel; with --key-file only the name in the requests")
    command.add_argument("-n", "--namespace", default="default", help="default: default")
    command.add_argument(
        "--url",
        help="send there instead of through the API server's proxy, which adds its own time: a port-forward's or "
        "a Service's http://HOST:PORT",
    )
    command.add_argument(
        "--key-file", type=Path, metavar="FILE", help="with --url: the key of an endpoint that no cluster knows"
    )
    command.add_argument("--against", metavar="URL", help="a second endpoint that takes turns with the first")
    command.add_argument("--against-key-file", type=Path, metavar="FILE", help="its key")
    command.add_argument("--rate", type=float, default=1.0, metavar="N", help="requests a second; default: 1")
    command.add_argument("--seconds", type=float, default=60.0, metavar="N", help="of each round; default: 60")
    command.add_argument("--rounds", type=int, default=1, metavar="N", help="default: 1")
    command.add_argument("--prompt-words", type=int, default=100, metavar="N", help="default: 100")
    command.add_argument("--max-tokens", type=int, default=64, metavar="N", help="of each answer; default: 64")
    command.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help="default: 120")
    command.add_argument("--in-flight", type=int, default=512, metavar="N", help="at most; default: 512")
    command.add_argument("--seed", type=int, default=1, metavar="N", help="of arrivals and prompts; default: 1")
    command.add_argument("--plot", type=Path, metavar="FILE", help="draw the distributions: .svg, .png or .pdf")
    command.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: text")


async def run(arguments: argparse.Namespace, endpoint: Endpoint, *, model: str) -> str:
    """Put the load on and return the figures; CommandError where nothing was answered."""
    rounds = _rounds(arguments)
    first = Target(
        endpoint=endpoint,
        model=model,
        max_tokens=rounds.load.max_tokens,
        timeout_seconds=arguments.timeout,
        in_flight=arguments.in_flight,
    )
    targets = {model: first}
    if arguments.against is not None:
        targets["against"] = replace(first, endpoint=_against(arguments))
    if arguments.plot is not None:
        plot.check(arguments.plot)  # what was measured for an hour must not be lost to a folder that is not there
    samples = await measure(targets, rounds, told=lambda line: print(line, file=sys.stderr, flush=True))
    found = {name: summary(runs, rounds) for name, runs in samples.items()}
    if not found[model].answered:
        errors = ", ".join(f"{count} x {error}" for error, count in found[model].errors) or "no request was due"
        raise CommandError(f"expected answers from {endpoint.base_url}, found none: {errors}; is it Serving?")
    if arguments.plot is not None:
        plot.draw(
            {name: [sample for one in runs for sample in one] for name, runs in samples.items()}, arguments.plot
        )
    return report.as_json(found) if arguments.output == "json" else report.text(found)


async def measure(
    targets: dict[str, Target], rounds: Rounds, *, told: Callable[[str], None]
) -> dict[str, list[list[Sample]]]:
    """Return the samples of each target, a list for each round; every second round begins with the last target."""
    samples: dict[str, list[list[Sample]]] = {name: [] for name in targets}
    for number in range(rounds.count):
        due = arrivals(rounds.load, Random(rounds.seed + number))  # noqa: S311 - a load, not a secret
        order = list(targets) if number % 2 == 0 else list(reversed(targets))
        for name in order:
            head = f"{name}, round {number + 1} of {rounds.count}"
            told(f"{head}: {len(due)} requests in {rounds.load.seconds:g} s")
            samples[name].append(await send(targets[name], due, told=_progress(head, len(due), told)))
    return samples


def summary(runs: list[list[Sample]], rounds: Rounds) -> Figures:
    """Return the figures of one target's runs."""
    return figures(runs, seconds=rounds.load.seconds)


def _progress(head: str, total: int, told: Callable[[str], None]) -> Callable[[int], None]:
    def step(ended: int) -> None:
        percent, before = ended * 100 // total, (ended - 1) * 100 // total
        if percent // STEP > before // STEP:
            told(f"{head}: {percent // STEP * STEP} % answered")

    return step


def _rounds(arguments: argparse.Namespace) -> Rounds:
    for flag in ("rate", "seconds", "rounds", "prompt_words", "max_tokens", "timeout", "in_flight"):
        given: float = getattr(arguments, flag)
        if not 0 < given < math.inf:
            raise CommandError(f"expected a number above 0 for --{flag.replace('_', '-')}, found {given:g}")
    load = Load(
        rate=arguments.rate,
        seconds=arguments.seconds,
        prompt_words=arguments.prompt_words,
        max_tokens=arguments.max_tokens,
    )
    return Rounds(load=load, count=arguments.rounds, seed=arguments.seed)


def _against(arguments: argparse.Namespace) -> Endpoint:
    if arguments.against_key_file is None:
        raise CommandError("expected --against-key-file with --against, found none; give the file with its key")
    return direct_endpoint(arguments.against, api_key=inputs.read_key(arguments.against_key_file))
