# SPDX-License-Identifier: Apache-2.0
"""What a task asks of a model and of its server, told from the header alone. Pure.

Pooling types and the architectures without a KV cache are those of llama.cpp b11434: include/llama.h
(llama_pooling_type) and src/llama-model.cpp (create_memory).
"""

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from nimblet.api.compactmodel import Task
from nimblet.conditions import Reason
from nimblet.plan.artifact import Header
from nimblet.plan.stage import Problem, problem

PROOF: Final[Mapping[Task, str]] = {
    "Chat": "token",
    "Embedding": "vector",
    "Rerank": "score",
    "Classify": "score",
}
"""What a pod must have given to count as answering."""
UBATCH: Final = 512
"""--ubatch-size where a prompt may be cut; scratch buffers grow with it."""
RERANK_OUTPUTS: Final = 2
"""Most outputs of a reranker: one score, or yes and no, of which the server gives the first."""
CACHELESS: Final = frozenset(
    {
        "bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "eurobert",
        "modern-bert",
        "gemma-embedding",
        "dream",
        "llada",
        "llada-moe",
        "rnd1",
    }
)
"""Architectures that keep no keys and values between batches, so that they can't generate either."""
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


class Pooling(IntEnum):
    """How the states of all tokens become one: the header's `<arch>.pooling_type`."""

    NONE = 0
    MEAN = 1
    CLS = 2
    LAST = 3
    RANK = 4


VECTOR_POOLINGS: Final = frozenset({Pooling.MEAN, Pooling.CLS, Pooling.LAST})


def suitable_tasks(header: Header) -> tuple[Task, ...]:
    """Return the tasks that a model of this header was made for."""
    if header.classifier:
        outputs = head_outputs(header)
        fits: tuple[tuple[Task, bool], ...] = (("Rerank", outputs <= RERANK_OUTPUTS), ("Classify", outputs > 1))
        return tuple(task for task, fit in fits if fit)
    if header.pooling_type in VECTOR_POOLINGS:
        return ("Embedding",)
    if header.pooling_type == Pooling.RANK or not generates(header):
        return ()
    return ("Chat",)


def generates(header: Header) -> bool:
    """Return whether the server can continue a text with the model."""
    return header.architecture not in CACHELESS and header.causal_attention is not False


def head_outputs(header: Header) -> int:
    """Return how many scores the classification head gives: its labels, else one."""
    return header.classifier_outputs or 1


def task_problem(task: Task, header: Header) -> Problem | None:
    """Return why a model can't do the task, or None."""
    suitable = suitable_tasks(header)
    if task not in suitable:
        fits = f"made for {' or '.join(suitable)}" if suitable else "made for none of the known tasks"
        found = f"The task is {task}, but the model's header ({_features(header)}) shows one {fits}."
        return problem(Reason.TASK_MISMATCH, found)
    if header.classifier and not _NAME.fullmatch(header.architecture):
        return problem(Reason.UNSUPPORTED_MODEL, "The header's architecture is no plain name.")
    return None


def _features(header: Header) -> str:
    known = header.pooling_type in set(Pooling)
    pooling = f"{Pooling(header.pooling_type or 0).name.lower()} pooling" if known else "no pooling"
    if not header.classifier:
        return f"{header.architecture}, {pooling}, no classification head"
    return f"{header.architecture}, {pooling}, a head of {head_outputs(header)} outputs"


def pooling_of(task: Task, header: Header) -> Pooling:
    """Return the pooling that the server is started with."""
    if task in ("Rerank", "Classify"):
        return Pooling.RANK
    if task == "Embedding" and header.pooling_type in VECTOR_POOLINGS:
        return Pooling(header.pooling_type)
    return Pooling.NONE


def physical_batch(task: Task, header: Header, context_length: int) -> int:
    """Return --ubatch-size: the whole context where an input can't be cut, else 512.

    Attention to what follows, and pooling over all or the first token, need the input in one piece (llama.cpp
    b11434, server-context.cpp, can_split); the server refuses longer ones.
    """
    if task == "Chat":
        return UBATCH
    pooling = pooling_of(task, header)
    whole = not generates(header) or pooling not in (Pooling.LAST, Pooling.RANK)
    return context_length if whole else min(UBATCH, context_length)


def answer_width(task: Task, header: Header) -> int | None:
    """Return how many numbers an answer's vector has, or None where it has none."""
    if task == "Embedding":
        return header.embedding_length
    return head_outputs(header) if task == "Classify" else None
