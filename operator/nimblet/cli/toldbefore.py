# SPDX-License-Identifier: Apache-2.0
"""What a retriever last told, out of the status that the operator made of it. Pure; it asks nobody.

The status keeps less than was told: of servers not which one is used, so that the one counts where the serving
generation lies, and of a trouble nothing but its condition.
"""

from collections.abc import Sequence

from nimblet.api.common import ConditionStatus
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import ConditionType, Reason
from nimblet.manifests.qdrant import servers_url
from nimblet.merging import find
from nimblet.nextstep import NEXT_STEP
from nimblet.plan.facts import Answer, PodFacts
from nimblet.plan.indexfacts import (
    GenerationFacts,
    PartFacts,
    RetrieverFacts,
    ServersFacts,
    SnapshotFacts,
    SnapshotsFacts,
    StoreServerFacts,
)


def retriever_as_told(
    index: RetrievalIndex, servers: ServersFacts, pods: Sequence[PodFacts]
) -> RetrieverFacts | None:
    """Return what the retriever last told, where one is there that may have told it."""
    if not any(pod.observation is not None and pod.observation.answer is Answer.ANSWERED for pod in pods):
        return None
    status = index.status
    embedding = status.embeddings[0].fingerprint if status.embeddings else ""
    used = _serving_from(index, servers)
    return RetrieverFacts(
        serving=status.serving_generation or None,
        generations=tuple(
            GenerationFacts(
                name=item.name,
                embedding=embedding,
                sealed=True,
                documents=item.documents,
                chunks=item.chunks,
                bytes=item.bytes,
            )
            for item in status.generations
        ),
        servers=tuple(
            StoreServerFacts(
                url=item.url, used=item.url == used, version=item.version, collections=tuple(item.collections)
            )
            for item in status.store_servers
        ),
        unembedded=status.unembedded_pushes,
        snapshots=_snapshots(status),
    )


def _serving_from(index: RetrievalIndex, servers: ServersFacts) -> str:
    """Return the address of the set that the serving generation lies on; "" where there is none."""
    held = index.status.servers
    live = next((item for item in servers.sets if held is not None and item.number == held.number), None)
    return servers_url(index.name, index.namespace, number=live.number, tls=live.tls) if live is not None else ""


def _snapshots(status: RetrievalIndexStatus) -> SnapshotsFacts | None:
    """Return the snapshots that are kept, and how the last round went; None where none was taken."""
    round_ = find(status.conditions, ConditionType.SNAPSHOTTED)
    failed = round_ is not None and round_.status is ConditionStatus.FALSE
    if not status.snapshots and not failed:
        return None
    words = round_.message.removesuffix(NEXT_STEP[Reason.SNAPSHOT_FAILED]).rstrip() if round_ is not None else ""
    return SnapshotsFacts(
        last=PartFacts(ok=not failed, message=words if failed else ""),
        held=tuple(
            SnapshotFacts(
                server=item.server,
                collection=item.collection,
                name=item.name,
                bytes=item.bytes,
                taken_at=item.taken_at,
            )
            for item in status.snapshots
        ),
    )
