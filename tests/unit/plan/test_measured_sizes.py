# SPDX-License-Identifier: Apache-2.0
"""The computed memory against peaks that `python -m tests.bench sizing` measured on real servers; docs/sizing.md.

A term that is moved, or lost, is found here without a server. Measure again before a figure is changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from nimblet.api.compactmodel import Task
from nimblet.api.speculative import SpeculationType
from nimblet.plan.artifact import Header
from nimblet.plan.sizing import Demand, adapted_matrices, size_model
from nimblet.plan.speculative import GUESSED_TOKENS
from nimblet.quantity import MEBIBYTE
from tests.builders import CLASSIFIER, GEMMA3_270M, MINILM, RERANKER, SMOLLM2, a_header

LOWEST, HIGHEST = 0.97, 1.10
"""As the bench has it: predicted ÷ measured."""
RERANK: Final = {**RERANKER, "parameters": 19_164_673, "tensorBytes": 21_004_300, "blockCount": 4}
CLASSIFY: Final = {**CLASSIFIER, "parameters": 22_566_528, "tensorBytes": 24_646_968}
LAST: Final = {**SMOLLM2, "poolingType": 3}
MEAN: Final = {**SMOLLM2, "poolingType": 1}
WIDE: Final = (78_151_680, 64)
"""Bytes and rank of the bench's own adapter: seven matrices in all 30 layers."""


def lora(size: int, rank: int) -> Header:
    """Return the facts of an adapter in 32 bits."""
    return a_header(parameters=size // 4, tensorBytes=size, blockCount=0, adapter={"rank": rank})


@dataclass(frozen=True, kw_only=True)
class Point:
    """What was asked of a server, and the peak of its memory in MiB."""

    header: Mapping[str, object]
    context: int
    slots: int
    measured: float
    kv: str = "f16"
    cache: int = 0
    task: Task = "Chat"
    adapters: tuple[tuple[int, int], ...] = ()
    speculation: SpeculationType | None = None

    def demand(self) -> Demand:
        """Return it as the plan asks for sizes."""
        return Demand(
            context_length=self.context,
            parallel=self.slots,
            kv_cache_type=self.kv,
            prompt_cache_mebibytes=self.cache,
            task=self.task,
            adapter_bytes=sum(size for size, _ in self.adapters),
            adapted_matrices=adapted_matrices([lora(*item) for item in self.adapters], a_header(self.header)),
            adapter_ranks=tuple(rank for _, rank in self.adapters),
            draft_tokens=GUESSED_TOKENS[self.speculation] if self.speculation is not None else 0,
            draft=a_header(self.header) if self.speculation == "Draft" else None,
        )


PLAIN: Final = (
    Point(header=SMOLLM2, context=512, slots=4, measured=176.9),
    Point(header=SMOLLM2, context=1024, slots=2, cache=32, measured=209.2),
    Point(header=SMOLLM2, context=2048, slots=1, kv="q4_0", cache=8, measured=151.4),
    Point(header=SMOLLM2, context=4096, slots=1, kv="q8_0", cache=16, measured=195.4),
    Point(header=SMOLLM2, context=512, slots=1, cache=64, measured=200.0),
    Point(header=GEMMA3_270M, context=512, slots=4, measured=354.1),
    Point(header=GEMMA3_270M, context=1024, slots=2, cache=32, measured=377.5),
    Point(header=GEMMA3_270M, context=2048, slots=1, kv="q4_0", cache=8, measured=322.6),
    Point(header=GEMMA3_270M, context=4096, slots=1, kv="q8_0", cache=16, measured=341.0),
    Point(header=GEMMA3_270M, context=512, slots=1, cache=64, measured=373.3),
)
POOLED: Final = (
    Point(header=MINILM, task="Embedding", context=512, slots=1, measured=122.5),
    Point(header=MINILM, task="Embedding", context=512, slots=4, measured=124.7),
    Point(header=MINILM, task="Embedding", context=256, slots=2, measured=89.3),
    Point(header=MINILM, task="Embedding", context=128, slots=8, measured=72.7),
    Point(header=RERANK, task="Rerank", context=512, slots=2, measured=97.6),
    Point(header=CLASSIFY, task="Classify", context=512, slots=2, measured=101.2),
    Point(header=LAST, task="Embedding", context=512, slots=1, measured=324.1),
    Point(header=MEAN, task="Embedding", context=256, slots=2, measured=223.6),
)

ADDED: Final = (
    Point(header=SMOLLM2, context=2048, slots=1, kv="q8_0", adapters=(WIDE,), measured=235.5),
    Point(
        header=SMOLLM2,
        context=1024,
        slots=2,
        adapters=(
            WIDE,
            WIDE,
        ),
        measured=337.2,
    ),
    Point(
        header=SMOLLM2,
        context=1024,
        slots=2,
        adapters=(
            WIDE,
            WIDE,
        ),
        measured=343.6,
    ),
    Point(header=SMOLLM2, context=1024, slots=2, cache=8, speculation="NGram", measured=187.1),
    Point(header=SMOLLM2, context=1024, slots=2, cache=8, speculation="Draft", measured=356.0),
    Point(header=SMOLLM2, context=2048, slots=1, kv="q4_0", speculation="Draft", measured=313.0),
    Point(header=GEMMA3_270M, context=1024, slots=2, speculation="Draft", measured=704.0),
    Point(header=GEMMA3_270M, context=4096, slots=1, kv="q8_0", speculation="Draft", measured=661.4),
)


@pytest.mark.parametrize("point", [*PLAIN, *POOLED, *ADDED])
def test_the_computed_memory_is_what_a_server_took(point: Point) -> None:
    sizing = size_model(a_header(point.header), point.demand())
    ratio = sizing.total_bytes / MEBIBYTE / point.measured
    assert LOWEST <= ratio <= HIGHEST, sizing.formula
