# SPDX-License-Identifier: Apache-2.0
"""Where an index's generations are kept: the claim of an Embedded store, or the server of another. Pure."""

from datetime import datetime

from nimblet import names
from nimblet.api.cache import READ_WRITE_ONCE
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import Reason
from nimblet.manifests.cache import Claim, claim_manifest
from nimblet.manifests.retriever import SecretFile, retriever_part
from nimblet.plan.claim import Wish, binding, claim_problem, class_name
from nimblet.plan.index_config import ServerStore, StorePlan, embedded_store, server_store
from nimblet.plan.index_embedding import known_embeddings
from nimblet.plan.index_servers import CLASS_LOOK_SECONDS, plan_servers
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.stage import StageOutcome
from nimblet.settings import Settings


def plan_store(
    index: RetrievalIndex, facts: IndexFacts, settings: Settings, *, edited: bool, now: datetime
) -> StorePlan:
    """Return the store of an index. `edited`: the spec is another than the one that children were made for."""
    store = index.spec.store
    if store.type == "External" and store.url is not None:
        reference = store.key_secret_ref
        key = SecretFile(name="store", secret=reference.name) if reference is not None else None
        return StorePlan(store=server_store(ServerStore(url=store.url, prefix=index.uid, key=key)))
    if store.type == "Dedicated":
        return _dedicated(index, facts, settings, edited=edited, now=now)
    return _embedded(index, facts, now)


def _dedicated(
    index: RetrievalIndex, facts: IndexFacts, settings: Settings, *, edited: bool, now: datetime
) -> StorePlan:
    """Return the servers; before there are any, the model must be known."""
    if not facts.servers.sets and not known_embeddings(index, facts):
        return StorePlan()
    return plan_servers(index, facts, settings, edited=edited, now=now)


def _embedded(index: RetrievalIndex, facts: IndexFacts, now: datetime) -> StorePlan:
    spec, live = index.spec.store, facts.claim
    wish = Wish(
        access_mode=READ_WRITE_ONCE, storage_class_name=spec.storage_class_name, size=spec.size, place="store"
    )
    blocked = claim_problem(wish, live, facts.storage_classes)
    if blocked is not None:
        look = CLASS_LOOK_SECONDS if blocked.reason is Reason.STORAGE_CLASS_MISSING else None
        return StorePlan(outcome=StageOutcome(state=blocked, requeue_after=look))
    name = names.index_claim(index.name)
    claim = Claim(
        access_mode=READ_WRITE_ONCE,
        storage_class=class_name(spec.storage_class_name, live),
        size=spec.size,
        retained=spec.retention == "Retain",
    )
    part = retriever_part(index.name, index.namespace, "index")
    child = claim_manifest(part, claim, name=name, kind="RetrievalIndex")
    user = next((pod for pod in facts.pods if not pod.terminating), None)
    unbound = binding(live, user, facts.storage_classes, now=now) if live is not None else None
    return StorePlan(
        outcome=StageOutcome(children=(child,), state=unbound), store=embedded_store(name, spec.embedded)
    )
