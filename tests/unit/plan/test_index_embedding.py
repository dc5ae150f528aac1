# SPDX-License-Identifier: Apache-2.0
"""Who counts the tokens of an index's texts, and which models the retriever must know."""

from dataclasses import replace

import pytest

from nimblet.api.indexstatus import MAX_EMBEDDINGS
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.plan.index_embedding import known_embeddings, wanted_embedding
from nimblet.plan.indexfacts import PartFacts, RetrieverFacts
from tests.indexes import MINILM, a_generation, a_retriever, an_index, built, first_facts


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
