# SPDX-License-Identifier: Apache-2.0
"""The sets of Qdrant servers that an index has or is about to get, and how each is spoken to. Pure.

Servers that speak plain HTTP to each other can't meet others that speak TLS: a set is made with one of the two and
keeps it until it goes, whatever the settings say by then.
"""

from collections.abc import Sequence
from datetime import datetime

from nimblet import names
from nimblet.api.indexstore import Dedicated
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.manifests.qdrant import component_of
from nimblet.manifests.retriever import SecretFile, retriever_part
from nimblet.manifests.transport import AUTHORITIES_FILE, Secured
from nimblet.plan.indexfacts import ServersFacts
from nimblet.plan.qdrant import QdrantShape, SetFacts, next_set
from nimblet.plan.transport import Transport, Wanted, asked_for, plan_transport
from nimblet.plan.transportfacts import TransportFacts
from nimblet.settings import TLS


def spec_shape(index: RetrievalIndex, *, tls: bool) -> QdrantShape:
    """Return what the spec asks for. `tls`: by the settings, new servers speak it."""
    store, wanted = index.spec.store, index.spec.store.dedicated or Dedicated()
    return QdrantShape(
        replicas=wanted.replicas,
        shards=wanted.shards,
        replication_factor=wanted.replication_factor,
        memory=wanted.memory,
        quantization=wanted.quantization,
        size=store.size,
        storage_class=store.storage_class_name,
        retained=store.retention == "Retain",
        tls=tls,
    )


def certified(index: RetrievalIndex, sets: Sequence[SetFacts], *, retained: int | None) -> tuple[int, ...]:
    """Return the sets that are to have a certificate where new servers speak TLS: also one that is to be made."""
    fresh = next_set(spec_shape(index, tls=True), sets, first=retained or 1)
    return (*(item.number for item in sets if item.tls), *((fresh,) if fresh is not None else ()))


def server_transports(
    index: RetrievalIndex, facts: ServersFacts, tls: TLS, *, now: datetime
) -> dict[int, Transport]:
    """Return how every set is spoken to that is there, or may be made in this pass."""
    fresh = next_set(spec_shape(index, tls=tls.mode != "Off"), facts.sets, first=facts.retained or 1)
    numbers = {*(item.number for item in facts.sets), *((fresh,) if fresh is not None else ())}
    return {number: _transport(index, facts, tls, number=number, now=now) for number in numbers}


def _transport(index: RetrievalIndex, facts: ServersFacts, tls: TLS, *, number: int, now: datetime) -> Transport:
    live = next((item for item in facts.sets if item.number == number), None)
    if live is not None and not live.tls:
        return Transport()
    wanted = Wanted(service=names.qdrant(index.name, number=number), namespace=index.namespace, peers=True)
    known = live.certificate if live is not None else ""
    found = facts.transports.get(number, TransportFacts(assumed=known))
    if tls.mode == "Off" and live is not None:
        # nobody renews it any more: it outlasts the move to other servers
        secured = Secured(secret=wanted.secret, certificate=known)
        return Transport(secured=secured, deletions=asked_for(wanted, found))
    part = retriever_part(index.name, index.namespace, component_of(number))
    return plan_transport(part, wanted, found, tls, now)


def authorities_file(transports: Sequence[Transport]) -> SecretFile | None:
    """Return what the retriever verifies servers by: of the first set that speaks TLS; in each lies the same."""
    found = next((item.secured for item in transports if item.secured is not None), None)
    if found is None:
        return None
    return SecretFile(name="store-tls", secret=found.secret, entry=AUTHORITIES_FILE, file=AUTHORITIES_FILE)
