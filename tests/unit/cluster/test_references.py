# SPDX-License-Identifier: Apache-2.0
"""Who names whom, read from raw specs."""

import pytest

from nimblet.cluster.key import Key
from nimblet.cluster.references import references_of
from nimblet.cluster.trim import Object


def resource(spec: object) -> Object:
    return {"metadata": {"name": "it", "namespace": "team"}, "spec": spec}


def test_an_assistant_names_its_models_and_every_index() -> None:
    spec = {
        "modelRef": {"name": "small"},
        "indexRefs": [{"name": "docs"}, {"name": "wiki"}],
        "fallback": {"modelRef": {"name": "large"}},
    }
    assert references_of("Assistant", resource(spec)) == {
        Key("CompactModel", "team", "small"),
        Key("CompactModel", "team", "large"),
        Key("RetrievalIndex", "team", "docs"),
        Key("RetrievalIndex", "team", "wiki"),
    }


def test_an_index_names_its_embedding_model_and_reranker() -> None:
    spec = {"embedding": {"modelRef": {"name": "minilm"}}, "search": {"rerankerRef": {"name": "judge"}}}
    assert references_of("RetrievalIndex", resource(spec)) == {
        Key("CompactModel", "team", "minilm"),
        Key("CompactModel", "team", "judge"),
    }


@pytest.mark.parametrize("spec", [None, [], "x", {"modelRef": "small"}, {"indexRefs": [{"name": 3}, None]}])
def test_what_is_no_spec_names_nobody(spec: object) -> None:
    assert references_of("Assistant", resource(spec)) == frozenset()
