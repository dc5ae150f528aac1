# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench [NAME ...]`: take the figures and print them. Exit code 1 where a must is broken.

The musts: sizing never predicts less than was measured (beyond 3 % of noise), and no soak is killed.
The aims are printed, not enforced.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from e2e.cluster import cluster as clusters
from e2e.cluster.paths import cache_of
from e2e.cluster.progress import Progress
from e2e.images.llamaserver import ensure_llama_server
from e2e.support.stack import bring_up, start_cluster
from nimblet.quantity import MEBIBYTE
from tests.bench import (
    answers,
    decrypt,
    gateway,
    idle,
    ingest,
    load,
    loader,
    retriever,
    scale,
    settled,
    shapes,
    speculative,
)
from tests.bench.matrix import matrix, soaks
from tests.bench.ready import measure_ready, ready_table
from tests.bench.sizing import HIGHEST, LOWEST, measure, sizing_table
from tests.bench.soak import soak, soak_table

RUNS = 3
SOAK_SECONDS = 120.0
BENCHES = {
    "ready": "warm apply to Ready on the disposable cluster, and where the time goes",
    "loader": "the loader's throughput against curl, and its memory",
    "decrypt": "the loader's decryption against the age library alone, and its memory",
    "retriever": "a search's latency against the engine called directly",
    "ingest": "indexer and retriever against the embedding server's own limit",
    "idle": f"what an operator costs beside {idle.COUNT} idle models",
    "settled": f"what an operator costs beside {settled.COUNT} settled indexes and as many Assistants",
    "scale": "many models at once: times, CPU, memory and requests, beside a bare client",
    "gateway": "what a gateway adds before the first token, and 200 streams at once",
    "load": "an open-loop load on a server as the operator sets it up, beside its own defaults at equal memory",
    "speculative": "tokens a second with and without guessing ahead: free chat, and answers that repeat",
    "sizing": "predicted against measured memory",
    "shapes": "predicted against the server's own buffers, for kinds of models without a small file",
    "answers": "grounded answers on the frozen corpus: right, refused, quoted, beside controls",
    "soak": "each model under load at its computed memory: no kill",
}
"""Name → what it measures, in the order in which they run."""
DEFAULT = ("ready", "sizing")


def main(argv: Sequence[str]) -> int:
    """Run what was asked for."""
    listed = "\n".join(f"  {name:<8} {text}" for name, text in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=f"Figures, as ratios in one run.\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="NAME",
        help=f"one or more of {', '.join(BENCHES)}; default: {' '.join(DEFAULT)}",
    )
    parser.add_argument(
        "--cluster", default=clusters.DEFAULT_NAME, help="ready: the cluster's name (default: %(default)s)"
    )
    parser.add_argument(
        "--count",
        type=int,
        help=f"scale: models at once (default: {scale.COUNT}); settled: indexes, and as many Assistants "
        f"(default: {settled.COUNT}); speculative: rounds (default: {speculative.ROUNDS})",
    )
    parser.add_argument(
        "--chunks",
        type=int,
        nargs="+",
        default=retriever.SIZES,
        help="retriever: sizes of the index (default: %(default)s)",
    )
    parser.add_argument(
        "--documents",
        type=int,
        default=ingest.DOCUMENTS,
        help="ingest: files of eight passages each (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        default="",
        help="models whose name holds this, for soak; for sizing also `LoRA`, `NGram` or `Draft`",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"of each soak (default: {SOAK_SECONDS:g}); of each round of load (default: {load.SECONDS:g})",
    )
    parser.add_argument(
        "--hand-memory",
        type=float,
        default=load.HAND_MEMORY,
        help="load: memory of the server started by hand, as a multiple of what ours gets (default: 1)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="load: draw the distributions, a file a rate")
    answers.add_options(parser)
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.what if name not in BENCHES]
    if unknown:
        parser.error(f"expected some of {', '.join(BENCHES)}; found {', '.join(unknown)}")
    wanted = arguments.what or DEFAULT
    codes = [_run(name, arguments) for name in BENCHES if name in wanted]
    return max(codes)


def _run(name: str, arguments: argparse.Namespace) -> int:
    runs: dict[str, Callable[[], int]] = {
        "ready": lambda: bench_ready(arguments.cluster),
        "loader": loader.main,
        "decrypt": decrypt.main,
        "retriever": lambda: _told(retriever.table([retriever.measure(size) for size in arguments.chunks])),
        "idle": idle.main,
        "settled": lambda: _told(settled.table(settled.measure(arguments.count or settled.COUNT))),
        "scale": lambda: _told(scale.table(scale.measure(arguments.count or scale.COUNT))),
        "gateway": gateway.main,
        "ingest": lambda: _told(ingest.table(ingest.run(arguments.documents))),
        "sizing": lambda: bench_sizing(arguments.only),
        "shapes": lambda: shapes.main(binary=_binary()),
        "answers": lambda: _told(answers.measure(answers.options_of(arguments), binary=_binary())),
        "load": lambda: load.main(
            binary=_binary(),
            seconds=arguments.seconds or load.SECONDS,
            picture=arguments.plot,
            hand_memory=arguments.hand_memory,
        ),
        "speculative": lambda: speculative.main(binary=_binary(), rounds=arguments.count or speculative.ROUNDS),
        "soak": lambda: bench_soak(arguments.only, arguments.seconds or SOAK_SECONDS),
    }
    return runs[name]()


def _told(text: str) -> int:
    say(text)
    return 0


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def bench_ready(name: str) -> int:
    """Time warm applies on a cluster; one that this call started is removed."""
    cache, progress = cache_of(os.environ), Progress()
    binary = ensure_llama_server(cache.root, log=cache.logs / "image-llamacpp.log")
    kube, started = start_cluster(name, progress=progress)
    try:
        bring_up(kube, progress=progress)
        timings, by_hand = measure_ready(kube, binary=binary, runs=RUNS)
    finally:
        if started:
            clusters.down(name, cache=cache, progress=progress)
    say(f"\nwarm apply to Ready, SmolLM2-135M, median of {RUNS} runs\n{ready_table(timings, by_hand)}")
    return 0


def bench_sizing(only: str) -> int:
    """Measure the matrix; 1 where a prediction is below what was measured."""
    binary, results = _binary(), []
    for case in (case for case in matrix() if only in case.title):
        say(f"sizing: {case.title} {case.demand} …")
        results.append(measure(case, binary=binary))
        say(f"  {results[-1].ratio:.3f}: measured {results[-1].measured_bytes / MEBIBYTE:.1f} MiB")
    say(f"\nsizing, predicted / measured peak under load (aim {LOWEST} to {HIGHEST})\n{sizing_table(results)}")
    low = [result.case.title for result in results if result.ratio < LOWEST]
    high = [result.case.title for result in results if result.ratio > HIGHEST]
    if high:
        say(f"above the aim: {', '.join(high)}")
    if low:
        say(f"error: predicted less than needed for {', '.join(low)}; correct plan/sizing.py")
    return 1 if low else 0


def bench_soak(only: str, seconds: float) -> int:
    """Hold each model at its limit; 1 where one was killed."""
    binary, seen = _binary(), []
    for case in (case for case in soaks() if only in case.name):
        say(f"soak: {case.name} for {seconds:.0f} s …")
        seen.append(soak(case, binary=binary, seconds=seconds))
    say(f"\nsoak at the computed memory, every slot busy\n{soak_table(seen)}")
    return 0 if all(item.survived for item in seen) else 1


def _binary() -> Path:
    cache = cache_of(os.environ)
    return ensure_llama_server(cache.root, log=cache.logs / "image-llamacpp.log")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
