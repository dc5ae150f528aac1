# SPDX-License-Identifier: Apache-2.0
"""Who counts the tokens of an index's texts, and which models the retriever must know."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet.api.indexstatus import MAX_EMBEDDINGS
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.plan.index_embedding import known_embeddings, wanted_embedding
from nimblet.plan.indexfacts import PartFacts, RetrieverFacts
from nimblet.plan.modelfacts import ModelReference
from nimblet.settings import AllowEntry, Fetch
from tests.builders import SETTINGS, child
from tests.indexes import MINILM, a_generation, a_retriever, an_index, built, first_facts, index_plan


@pytest.mark.parametrize(
    ("runtime", "counted_by"), [("", "LlamaCpp"), ("LlamaCpp", "LlamaCpp"), ("VLLM", "Estimate")]
)
def test_tokens_are_counted_by_llamacpp_and_estimated_for_others(runtime: str, counted_by: str) -> None:
    wanted = wanted_embedding(an_index(), first_facts(embedding=replace(MINILM, runtime=runtime)))
    assert wanted is not None
    assert wanted.tokenizer == counted_by


def edited(index: RetrievalIndex, told: RetrieverFacts | None, *, digest: str) -> RetrievalIndex:
    """Return the index as it remembers its models after a pass that sees another one."""
    facts = first_facts(embedding=replace(MINILM, digest=digest * 32), retriever=told)
    known = list(known_embeddings(index, facts))
    return index.model_copy(update={"status": index.status.model_copy(update={"embeddings": known})})


def fingerprints(index: RetrievalIndex) -> list[str]:
    return [item.fingerprint for item in index.status.embeddings]


@pytest.mark.parametrize(
    "told",
    [None, RetrieverFacts(serving=None, store=PartFacts(ok=False, reason="StoreUnavailable"))],
    ids=["the retriever is silent", "its store is"],
)
def test_a_model_of_generations_that_nobody_can_list_is_kept(told: RetrieverFacts | None) -> None:
    # given an index that serves, and models that are named one after the other while nobody knows what is kept
    index, _ = built(an_index())
    [serving] = fingerprints(index)
    for digest in "efabc":
        index = edited(index, told, digest=digest)
        # then what the serving generation was embedded by stays known
        assert fingerprints(index)[-1] == serving
    assert len(fingerprints(index)) == MAX_EMBEDDINGS


def test_the_model_of_the_serving_generation_is_kept_however_many_there_are() -> None:
    # given a generation that was rolled back to, and later ones by as many models as may be known
    index, _ = built(an_index())
    for digest in "efa":
        index = edited(index, None, digest=digest)
    found = fingerprints(index)
    kept = tuple(a_generation(f"g00000{at}", embedding=item) for at, item in enumerate(reversed(found), start=1))
    # when one more is named
    after = fingerprints(edited(index, a_retriever("g000001", generations=kept), digest="b"))
    # then
    assert found[-1] in after
    assert len(after) == MAX_EMBEDDINGS


OUTSIDE: Any = {"embedding": {"url": "https://models.example/v1", "model": "e5", "revision": "1"}}
ALLOWED = SETTINGS.model_copy(update={"fetch": Fetch(allow=(AllowEntry(host="models.example"),))})


def retriever_egress(
    index: RetrievalIndex, told: RetrieverFacts | None, *, model: ModelReference = MINILM
) -> object:
    plan = index_plan(index, first_facts(retriever=told, embedding=model), settings=ALLOWED)
    return child(plan.children, "NetworkPolicy", "handbook-retriever")["spec"]["egress"]


def test_the_network_stays_open_to_a_model_that_the_serving_generation_was_embedded_by() -> None:
    # given an index that serves by a model outside of the cluster
    before = an_index(**OUTSIDE)
    status = index_plan(before, first_facts(), settings=ALLOWED).status
    [served_by] = [item.fingerprint for item in status.embeddings]
    told = a_retriever("g000001", generations=(a_generation(embedding=served_by),))
    # when it is edited to name a CompactModel, of which no generation was built yet
    edited_to = an_index(generation=2, status=status)
    # then the retriever may ask the old one until none of its generations is kept
    wide, narrow = retriever_egress(before, told), retriever_egress(an_index(), None)
    assert retriever_egress(edited_to, told) == wide != narrow
    assert retriever_egress(edited_to, None) == wide, "nobody knows what is kept"
    for model in (replace(MINILM, ready=False, serving=False), ModelReference(name="minilm", found=False)):
        assert retriever_egress(edited_to, told, model=model) == wide, "it is all that can embed a question"
    assert retriever_egress(edited_to, a_retriever("g000002")) == narrow


def test_the_network_stays_shut_where_models_of_the_namespace_take_turns() -> None:
    index, _ = built(an_index())
    told = a_retriever("g000001", generations=(a_generation(embedding=fingerprints(index)[0]),))
    named = edited(index, told, digest="e")
    assert len(fingerprints(named)) > 1
    assert retriever_egress(named, told) == retriever_egress(an_index(), None)
