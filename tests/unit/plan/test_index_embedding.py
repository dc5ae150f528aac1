# SPDX-License-Identifier: Apache-2.0
"""Who counts the tokens of an index's texts: its embedding model's server where that has a way we know."""

from dataclasses import replace

import pytest

from nimblet.plan.index_embedding import wanted_embedding
from tests.indexes import MINILM, an_index, first_facts


@pytest.mark.parametrize(
    ("runtime", "counted_by"), [("", "LlamaCpp"), ("LlamaCpp", "LlamaCpp"), ("VLLM", "Estimate")]
)
def test_tokens_are_counted_by_llamacpp_and_estimated_for_others(runtime: str, counted_by: str) -> None:
    wanted = wanted_embedding(an_index(), first_facts(embedding=replace(MINILM, runtime=runtime)))
    assert wanted is not None
    assert wanted.tokenizer == counted_by
