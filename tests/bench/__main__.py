# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench [sizing] [ready] [soak]`: the figures. Exit code 1 where a must is broken.

The musts: sizing never predicts less than was measured (beyond 3 % of noise), and no soak is killed.
The aims are printed, not enforced.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import cluster as clusters
from e2e.cluster.paths import cache_of
from e2e.cluster.progress import Progress
from e2e.images.llamaserver import ensure_llama_server
from e2e.support.stack import bring_up, start_cluster
from tests.bench.matrix import matrix, soaks
from tests.bench.ready import measure_ready, ready_table
from tests.bench.sizing import HIGHEST, LOWEST, measure, sizing_table
from tests.bench.soak import soak, soak_table

RUNS = 3
SOAK_SECONDS = 120.0


def main(argv: Sequence[str]) -> int:
    """Run what was asked for; ready and sizing when nothing was named."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Figures, as ratios in one run.")
    parser.add_argument("what", nargs="*", choices=("ready", "sizing", "soak", []), help="default: ready sizing")
    parser.add_argument(
        "--cluster", default=clusters.DEFAULT_NAME, help="the cluster's name (default: %(default)s)"
    )
    parser.add_argument("--only", default="", help="models whose name holds this, for sizing and soak")
    parser.add_argument("--seconds", type=float, default=SOAK_SECONDS, help="of each soak (default: %(default)s)")
    arguments = parser.parse_args(argv)
    wanted = arguments.what or ["ready", "sizing"]
    if "ready" in wanted:
        bench_ready(arguments.cluster)
    codes = [bench_sizing(arguments.only)] if "sizing" in wanted else []
    if "soak" in wanted:
        codes.append(bench_soak(arguments.only, arguments.seconds))
    return max(codes, default=0)


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def bench_ready(name: str) -> None:
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


def bench_sizing(only: str) -> int:
    """Measure the matrix; 1 where a prediction is below what was measured."""
    binary, results = _binary(), []
    for case in (case for case in matrix() if only in case.name):
        say(f"sizing: {case.name} {case.demand} …")
        results.append(measure(case, binary=binary))
    say(f"\nsizing, predicted / measured peak under load (aim {LOWEST} to {HIGHEST})\n{sizing_table(results)}")
    low = [result.case.name for result in results if result.ratio < LOWEST]
    high = [result.case.name for result in results if result.ratio > HIGHEST]
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
