# SPDX-License-Identifier: Apache-2.0
"""The points at which sizing is held against a real server: models x context, slots, KV types, caches. Data.

Not the full product, which would take hours: each value of each axis meets each model at least once.
"""

from dataclasses import replace
from typing import Final

from e2e.models import GEMMA3_270M, MINILM, MINILM_CLASSIFY, MINILM_RERANK, SMOLLM2, model_path
from nimblet.api.compactmodel import Task
from nimblet.api.speculative import SpeculationType
from nimblet.plan.sizing import Demand
from nimblet.plan.task import Pooling
from tests.bench.loras import LoraShape
from tests.bench.sizing import Case

CPU: Final = "2"
"""Threads, so that the prompts take minutes and not an hour."""
CHAT_POINTS: Final = (
    (512, 4, "f16", 0),
    (1024, 2, "f16", 32),
    (2048, 1, "q4_0", 8),
    (4096, 1, "q8_0", 16),
    (512, 1, "f16", 64),
)
"""Context, slots, KV type, prompt cache in MiB."""
ENCODER_POINTS: Final = ((512, 1), (512, 4), (256, 2), (128, 8))
"""Context and slots."""
POOLED: Final = ((SMOLLM2.name, 512, 1, Pooling.LAST), (SMOLLM2.name, 256, 2, Pooling.MEAN))
"""A generating model as an embedding model: cut into batches, and whole."""
ADAPTED: Final[tuple[tuple[tuple[LoraShape, ...], int, int, str], ...]] = (
    (("small",), 1024, 2, "f16"),
    (("small", "small"), 2048, 1, "f16"),
    (("wide",), 2048, 1, "q8_0"),
    (("wide", "wide"), 1024, 2, "f16"),
)
"""Adapters of SmolLM2, context, slots, KV type. With adapters there is no prompt cache."""
GUESSING: Final[tuple[tuple[SpeculationType, str, int, int, str, int], ...]] = (
    ("NGram", SMOLLM2.name, 1024, 2, "f16", 8),
    ("NGram", SMOLLM2.name, 2048, 1, "q4_0", 0),
    ("NGram", GEMMA3_270M.name, 512, 4, "f16", 0),
    ("Draft", SMOLLM2.name, 1024, 2, "f16", 8),
    ("Draft", SMOLLM2.name, 2048, 1, "q4_0", 0),
    ("Draft", SMOLLM2.name, 4096, 1, "q8_0", 0),
    ("Draft", GEMMA3_270M.name, 1024, 2, "f16", 0),
    ("Draft", GEMMA3_270M.name, 4096, 1, "q8_0", 0),
)
"""Way, model, context, slots, KV type, prompt cache in MiB."""


def matrix() -> list[Case]:
    """Return all points."""
    chats = [
        _case(name, _demand("Chat", context, slots, kv=kv, cache=cache))
        for name in (SMOLLM2.name, GEMMA3_270M.name)
        for context, slots, kv, cache in CHAT_POINTS
    ]
    encoders = [_case(MINILM.name, _demand("Embedding", context, slots)) for context, slots in ENCODER_POINTS]
    heads = [
        _case(MINILM_RERANK.name, _demand("Rerank", 512, 2)),
        _case(MINILM_CLASSIFY.name, _demand("Classify", 512, 2)),
    ]
    pooled = [
        _case(name, _demand("Embedding", context, slots), pooling=pooling)
        for name, context, slots, pooling in POOLED
    ]
    return [*chats, *encoders, *heads, *pooled, *adapted(), *guessing()]


def adapted() -> list[Case]:
    """Return the points with adapters, the last with a draft too."""
    cases = [
        replace(_case(SMOLLM2.name, _single(context, slots, kv=kv)), loras=loras)
        for loras, context, slots, kv in ADAPTED
    ]
    return [*cases, replace(cases[0], speculation="Draft")]


def guessing() -> list[Case]:
    """Return the points at which tokens are guessed ahead."""
    return [
        replace(_case(name, _single(context, slots, kv=kv, cache=cache)), speculation=way)
        for way, name, context, slots, kv, cache in GUESSING
    ]


def _single(context: int, slots: int, *, kv: str, cache: int = 0) -> Demand:
    """Return a demand for one thread: on a busy machine two wait for each other, and this work is slow enough."""
    return replace(_demand("Chat", context, slots, kv=kv, cache=cache), cpu="1")


def soaks() -> list[Case]:
    """Return the points that are held at their limit: the defaults of a CompactModel, context apart."""
    return [
        _case(SMOLLM2.name, _demand("Chat", 2048, 2, cache=64)),
        _case(GEMMA3_270M.name, _demand("Chat", 2048, 2, cache=64)),
        _case(MINILM.name, _demand("Embedding", 512, 2)),
    ]


def _demand(task: Task, context: int, slots: int, *, kv: str = "f16", cache: int = 0) -> Demand:
    return Demand(
        context_length=context, parallel=slots, kv_cache_type=kv, prompt_cache_mebibytes=cache, cpu=CPU, task=task
    )


def _case(name: str, demand: Demand, *, pooling: Pooling | None = None) -> Case:
    return Case(name=name, model=model_path(name), demand=demand, pooling=pooling)
