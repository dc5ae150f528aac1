# SPDX-License-Identifier: Apache-2.0
"""A Dedicated store as tests need it: a plain good case, sets that are there, and the plan over them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from nimblet import labels, names
from nimblet.manifests.common import Part
from nimblet.manifests.qdrant import QdrantKeys, component_of
from nimblet.manifests.transport import Secured, tls_secret_manifest
from nimblet.plan.facts import ChildRef
from nimblet.plan.qdrant import (
    QdrantLoad,
    QdrantOwner,
    QdrantPlan,
    QdrantSets,
    QdrantShape,
    SetFacts,
    next_set,
    plan_qdrant,
    size_server,
)
from nimblet.plan.transport import Transport

KEY: Final = "nk-000000000000000a"
READER: Final = "nk-000000000000000b"
IMAGE: Final = "docker.io/qdrant/qdrant:v1.18.2-unprivileged"
CERTIFICATE: Final = "00112233445566778899aabbccddeeff"
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


def live_set(number: int, *, replicas: int, tls: bool = False, **overrides: Any) -> SetFacts:
    """Return a set as an earlier plan made it, for LOAD."""
    sizing = size_server(QdrantShape(replicas=replicas), LOAD)
    name = "docs-qdrant" if number == 1 else f"docs-qdrant-s{number}"
    kinds = ("StatefulSet", "Service", "ServiceAccount", "NetworkPolicy")
    made = SetFacts(
        number=number,
        replicas=replicas,
        memory=sizing.memory,
        cpu=sizing.cpu,
        size="10Gi",
        storage_class=None,
        retained=False,
        image=IMAGE,
        mode="InMemory",
        tls=tls,
        certificate=CERTIFICATE[:12] if tls and replicas > 1 else "",
        children=tuple(ChildRef(kind=kind, name=name, uid=f"{kind}-{number}") for kind in kinds),
    )
    return replace(made, **overrides)


def planned(shape: QdrantShape, *live: SetFacts, serving: int | None = 0) -> QdrantPlan:
    """Return the plan for the plain owner and LOAD."""
    owner = replace(an_owner(), transports=transports(shape, live))
    return plan_qdrant(owner, shape, LOAD, QdrantSets(live=live, serving=serving))


def transports(shape: QdrantShape, live: Sequence[SetFacts]) -> dict[int, Transport]:
    """Return how sets are spoken to whose certificates are there, also the one that the plan makes."""
    found = [item.number for item in live if item.tls]
    fresh = next_set(shape, live)
    return {
        number: _encrypted(number) for number in (*found, *([fresh] if fresh is not None and shape.tls else []))
    }


def _encrypted(number: int) -> Transport:
    secret = names.certificate(names.qdrant("docs", number=number))
    part = Part(owner="docs", namespace="team", component=component_of(number), kind_label=labels.INDEX)
    data = {"tls.crt": "Y2VydGlmaWNhdGU=", "tls.key": "a2V5", "ca.crt": "YXV0aG9yaXRpZXM="}
    return Transport(
        secured=Secured(secret=secret, certificate=CERTIFICATE),
        children=(tls_secret_manifest(part, name=secret, data=data, annotations={}),),
    )
