# SPDX-License-Identifier: Apache-2.0
"""Golden cases of a Dedicated store: what is asked and what is there in, servers and decisions out."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from nimblet.cli.show import documents_yaml
from nimblet.plan.qdrant import QdrantPlan
from tests.qdrant import SHAPE, live_set, planned

OUTPUTS: Final = Path(__file__).parent / "qdrant"
CLUSTER: Final = replace(SHAPE, replicas=3, shards=6, replication_factor=2, quantization="Scalar")
CASES: Final[dict[str, QdrantPlan]] = {
    "first": planned(SHAPE),
    "cluster": planned(replace(CLUSTER, memory="OnDisk", storage_class="fast", retained=True)),
    "growing": planned(CLUSTER, live_set(1, replicas=1), serving=1),
    "shrinking": planned(SHAPE, live_set(1, replicas=3), serving=1),
    "tls": planned(replace(CLUSTER, tls=True)),
    "tls-first": planned(replace(SHAPE, tls=True)),
    "tls-switched-on": planned(replace(SHAPE, tls=True), live_set(1, replicas=1), serving=1),
    "tls-switched-off": planned(SHAPE, live_set(1, replicas=3, tls=True), serving=1),
    "shrunk": planned(SHAPE, live_set(1, replicas=3), live_set(2, replicas=1), serving=2),
}


def generate(header: str) -> Iterator[tuple[Path, str]]:
    """Return every output file and its text."""
    for name, plan in CASES.items():
        yield OUTPUTS / f"{name}.yaml", header + _render(plan)


def _render(plan: QdrantPlan) -> str:
    summary: dict[str, object] = {
        "retiring": [f"{item['kind']}" for item in plan.retiring],
        "deletions": [f"{item.kind}/{item.name}" for item in plan.deletions],
        "target": plan.target,
        "former": list(plan.former),
        "collection": asdict(plan.collection),
        "sizing": {**asdict(plan.sizing), "formula": list(plan.sizing.formula)},
        "moving": plan.moving,
        "short": plan.short,
    }
    return documents_yaml([*map(dict, plan.children), summary])
