# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench [sizing] [ready]`: take the figures and print them. Exit code 1 where a must is broken.

The must: sizing never predicts less than was measured (beyond 3 % of noise). The aims are printed, not enforced.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from e2e.cluster import cluster as clusters
from e2e.cluster.paths import cache_of
from e2e.cluster.progress import Progress
from e2e.images.llamaserver import ensure_llama_server
from e2e.models import MODELS, model_path
from e2e.support.stack import bring_up, start_cluster
from nimblet.plan.sizing import Demand
from tests.bench.ready import measure_ready, ready_table
from tests.bench.sizing import HIGHEST, LOWEST, Case, Result, at_contexts, measure, sizing_table

CONTEXTS = (1024, 4096)
RUNS = 3
DEMAND = Demand(context_length=CONTEXTS[0], parallel=2, kv_cache_type="f16", prompt_cache_mebibytes=64, cpu="2")
"""Two slots, as by default; two threads, so that the prompts take minutes and not an hour."""


def main(argv: Sequence[str]) -> int:
    """Run what was asked for; everything when nothing was named."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Figures, as ratios in one run.")
    parser.add_argument("what", nargs="*", choices=("ready", "sizing", []), help="default: both")
    parser.add_argument(
        "--cluster", default=clusters.DEFAULT_NAME, help="the cluster's name (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    wanted = arguments.what or ["ready", "sizing"]
    if "ready" in wanted:
        bench_ready(arguments.cluster)
    return bench_sizing() if "sizing" in wanted else 0


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


def bench_sizing() -> int:
    """Measure both models at two context sizes; 1 where a prediction is below what was measured."""
    cache = cache_of(os.environ)
    binary = ensure_llama_server(cache.root, log=cache.logs / "image-llamacpp.log")
    results: list[Result] = []
    for name in MODELS:
        for case in at_contexts(Case(name=name, model=model_path(name), demand=DEMAND), CONTEXTS):
            say(f"sizing: {name} at {case.demand.context_length} tokens x {DEMAND.parallel} …")
            results.append(measure(case, binary=binary))
    say(f"\nsizing, predicted / measured peak under load (aim {LOWEST} to {HIGHEST})\n{sizing_table(results)}")
    low = [result.case.name for result in results if result.ratio < LOWEST]
    high = [result.case.name for result in results if result.ratio > HIGHEST]
    if high:
        say(f"above the aim: {', '.join(high)}")
    if low:
        say(f"error: predicted less than needed for {', '.join(low)}; correct plan/sizing.py")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
