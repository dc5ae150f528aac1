# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench [NAME ...]`: take the figures and print them. Exit code 1 where a must is broken.

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
from tests.bench import idle, loader, scale
from tests.bench.ready import measure_ready, ready_table
from tests.bench.sizing import HIGHEST, LOWEST, Case, Result, at_contexts, measure, sizing_table

CONTEXTS = (1024, 4096)
RUNS = 3
DEMAND = Demand(context_length=CONTEXTS[0], parallel=2, kv_cache_type="f16", prompt_cache_mebibytes=64, cpu="2")
"""Two slots, as by default; two threads, so that the prompts take minutes and not an hour."""
BENCHES = {
    "ready": "warm apply to Ready on the disposable cluster, and where the time goes",
    "loader": "the loader's throughput against curl, and its memory",
    "idle": f"what an operator costs beside {idle.COUNT} idle models",
    "scale": "many models at once: times, CPU, memory and requests, beside a bare client",
    "sizing": "predicted against measured memory",
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
        "--count", type=int, default=scale.COUNT, help="scale: models at once (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.what if name not in BENCHES]
    if unknown:
        parser.error(f"expected some of {', '.join(BENCHES)}; found {', '.join(unknown)}")
    wanted = arguments.what or DEFAULT
    codes = [_run(name, arguments) for name in BENCHES if name in wanted]
    return max(codes)


def _run(name: str, arguments: argparse.Namespace) -> int:
    if name == "ready":
        return bench_ready(arguments.cluster)
    if name == "scale":
        say(scale.table(scale.measure(arguments.count)))
        return 0
    if name == "sizing":
        return bench_sizing()
    return loader.main() if name == "loader" else idle.main()


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
