# SPDX-License-Identifier: Apache-2.0
"""A model server as the operator sets it up, beside the same program started by hand with its own defaults.

Both get the memory that was computed for the model, in a cgroup of their own, and an open-loop load by the code of
`nimblet bench`, in turns. The server that has no turn is idle. Needs root and the memory controller.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from nimblet.cli.ask import direct_endpoint
from nimblet.cli.bench import Rounds, measure, summary
from nimblet.cli.load import plot, report
from nimblet.cli.load.arrivals import Load
from nimblet.cli.load.figures import Sample
from nimblet.cli.load.stream import Target
from nimblet.plan.sizing import size_model
from nimblet.quantity import bytes_of
from tests.bench.localserver import API_KEY, LocalServer, run_server
from tests.bench.matrix import soaks
from tests.bench.sizing import Case, server_args
from tests.bench.soak import Group, memory_group

RATES: Final = (0.2, 0.5, 1.0)
"""Requests a second: a machine of two cores has leisure at the first and not at the last."""
SECONDS: Final = 60.0
ROUNDS: Final = 2
HAND_MEMORY: Final = 1.0
"""The aim is told for equal memory; more shows what of the gain is the other server's death."""
PROMPT_WORDS: Final = 60
MAX_TOKENS: Final = 48
TIMEOUT_SECONDS: Final = 300.0
OURS, BY_HAND = "operator", "by hand"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One server in its group."""

    server: LocalServer
    group: Group


def main(
    *, binary: Path, seconds: float = SECONDS, picture: Path | None = None, hand_memory: float = HAND_MEMORY
) -> int:
    """Take the figures and print them; 1 where our own server failed a request or was killed.

    Each rate meets servers that are started anew: one that was killed stays dead for its rate alone.
    `hand_memory` is what the server started by hand gets, as a multiple of the memory computed for ours.
    """
    case, failed = soaks()[0], False
    limit = bytes_of(size_model(case.header(), case.demand).memory)
    limits = {OURS: limit, BY_HAND: int(limit * hand_memory)}
    shown = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in limits.items())
    print(f"{case.name}: {shown}; {ROUNDS} rounds of {seconds:g} s a rate")
    for rate in RATES:
        with TemporaryDirectory(prefix="nimblet-load-") as folder, ExitStack() as stack:
            sides = {
                name: stack.enter_context(
                    _side(case, args, binary=binary, folder=Path(folder) / name, limit=limits[name])
                )
                for name, args in ((OURS, _ours(case)), (BY_HAND, _by_hand(case)))
            }
            samples = asyncio.run(_loaded(sides, rate=rate, seconds=seconds))
            kills = {name: side.group.kills() for name, side in sides.items()}
            peaks = {name: side.group.highest() / 2**20 for name, side in sides.items()}
        load = _rounds(rate, seconds)
        found = {name: summary(runs, load) for name, runs in samples.items()}
        print(f"\n{rate:g} requests a second\n{report.text(found)}")
        for name, peak in peaks.items():
            print(f"{name}: {peak:.0f} MiB at most, {kills[name]} kills", flush=True)
        failed = failed or bool(found[OURS].errors) or kills[OURS] > 0
        if picture is not None:
            flat = {name: [sample for run in runs for sample in run] for name, runs in samples.items()}
            plot.draw(flat, picture.with_stem(f"{picture.stem}-{rate:g}"))
    return int(failed)


async def _loaded(sides: dict[str, Side], *, rate: float, seconds: float) -> dict[str, list[list[Sample]]]:
    targets = {
        name: Target(
            endpoint=direct_endpoint(side.server.url, api_key=API_KEY),
            model="smollm2",
            max_tokens=MAX_TOKENS,
            timeout_seconds=TIMEOUT_SECONDS,
            in_flight=256,
        )
        for name, side in sides.items()
    }
    return await measure(
        targets, _rounds(rate, seconds), told=lambda line: print(line, file=sys.stderr, flush=True)
    )


def _rounds(rate: float, seconds: float) -> Rounds:
    load = Load(rate=rate, seconds=seconds, prompt_words=PROMPT_WORDS, max_tokens=MAX_TOKENS)
    return Rounds(load=load, count=ROUNDS, seed=1)


@contextmanager
def _side(case: Case, args: Sequence[str], *, binary: Path, folder: Path, limit: int) -> Iterator[Side]:
    folder.mkdir()
    with memory_group() as group:
        group.limit(limit)
        confine = [sys.executable, "-m", "tests.bench.soak", str(group.folder)]
        with run_server(binary, args, model=case.model, folder=folder, before=confine) as server:
            yield Side(server=server, group=group)


def _ours(case: Case) -> list[str]:
    return server_args(case, size_model(case.header(), case.demand))


def _by_hand(case: Case) -> list[str]:
    """Return what someone types who reads the first lines of the server's help."""
    return ["--model", str(case.model), "--host", "", "--port", "", "--api-key-file", ""]
