# SPDX-License-Identifier: Apache-2.0
"""A Dedicated store as tests need it: a plain good case, sets that are there, and the plan over them."""

from typing import Final

from nimblet.manifests.qdrant import QdrantKeys
from nimblet.plan.facts import ChildRef
from nimblet.plan.qdrant import (
    QdrantLoad,
    QdrantOwner,
    QdrantPlan,
    QdrantShape,
    SetFacts,
    plan_qdrant,
    size_server,
)

KEY: Final = "nk-000000000000000a"
READER: Final = "nk-000000000000000b"
IMAGE: Final = "docker.io/qdrant/qdrant:v1.18.2-unprivileged"
SHAPE: Final = QdrantShape()
LOAD: Final = QdrantLoad(chunks=100_000, dimension=384)
RETRIEVER: Final[dict[str, object]] = {"podSelector": {"matchLabels": {"nimblet.dev/index": "docs"}}}


def an_owner() -> QdrantOwner:
    """Return an index called docs."""
    return QdrantOwner(
        name="docs",
        namespace="team",
        kind_label="nimblet.dev/index",
        kind="RetrievalIndex",
        image=IMAGE,
        pull_policy="IfNotPresent",
        keys=QdrantKeys(api_key=KEY, read_only=READER),
        callers=(RETRIEVER,),
        metrics_namespaces=("monitoring",),
    )


def live_set(
    number: int, *, replicas: int, memory: str = "", size: str = "10Gi", storage_class: str | None = None
) -> SetFacts:
    """Return a set as an earlier plan made it, for LOAD unless `memory` is given."""
    sizing = size_server(QdrantShape(replicas=replicas), LOAD)
    name = "docs-qdrant" if number == 1 else f"docs-qdrant-s{number}"
    kinds = ("StatefulSet", "Service", "ServiceAccount", "NetworkPolicy")
    return SetFacts(
        number=number,
        replicas=replicas,
        memory=memory or sizing.memory,
        cpu=sizing.cpu,
        size=size,
        storage_class=storage_class,
        retained=False,
        image=IMAGE,
        mode="InMemory",
        children=tuple(ChildRef(kind=kind, name=name, uid=f"{kind}-{number}") for kind in kinds),
    )


def planned(shape: QdrantShape, *live: SetFacts, serving: int | None = 0) -> QdrantPlan:
    """Return the plan for the plain owner and LOAD."""
    return plan_qdrant(an_owner(), shape, load=LOAD, live=live, serving=serving)
