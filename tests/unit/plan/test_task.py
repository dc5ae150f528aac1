# SPDX-License-Identifier: Apache-2.0
"""Which model may do which task, and what the task makes of the server's arguments."""

import itertools
from collections.abc import Mapping

import pytest

from nimblet.api.compactmodel import Task
from nimblet.plan.artifact import Header
from nimblet.plan.sizing import Demand, compute_bytes, kv_cache_bytes, size_model
from nimblet.plan.task import Pooling, physical_batch, pooling_of, suitable_tasks
from tests.builders import (
    CLASSIFIER,
    GEMMA3_270M,
    MINILM,
    RERANKER,
    SMOLLM2,
    a_header,
    a_model,
    artifact_text,
    base_facts,
    child,
    kinds,
    plan_of,
    serving_facts,
    stored,
)
from tests.conditions import message, shown

TASKS: tuple[Task, ...] = ("Chat", "Embedding", "Rerank", "Classify")
MODELS: Mapping[Task, Mapping[str, object]] = {
    "Chat": SMOLLM2,
    "Embedding": MINILM,
    "Rerank": RERANKER,
    "Classify": CLASSIFIER,
}


def args_of(task: Task, header: Mapping[str, object]) -> list[str]:
    """Return the server's argv as the plan renders it."""
    model = a_model(task=task)
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, artifact_text(header=header)),)))
    server = child(plan.children, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return [str(arg) for arg in server["args"]]


def options(args: list[str]) -> dict[str, str]:
    """Return the value behind each option; a switch has the next option as its value."""
    return dict(itertools.pairwise(args))


@pytest.mark.parametrize(("task", "made_for"), [(a, b) for a in TASKS for b in TASKS if a != b])
def test_model_of_another_task_is_refused_before_any_pod(task: Task, made_for: Task) -> None:
    model = a_model(task=task)
    artifact = stored(model, artifact_text(header=MODELS[made_for]))
    plan = plan_of(model, base_facts(model, artifacts=(artifact,)))
    assert shown(plan, "Ready") == ("False", "TaskMismatch")
    assert shown(plan, "Stalled") == ("True", "TaskMismatch")
    assert f"made for {made_for}" in message(plan, "Ready")
    assert "Deployment" not in kinds(plan)


@pytest.mark.parametrize("task", TASKS)
def test_model_made_for_the_task_gets_its_deployment(task: Task) -> None:
    assert suitable_tasks(a_header(MODELS[task])) == (task,)
    assert "--alias" in args_of(task, MODELS[task])


def test_yes_and_no_are_a_reranker_or_a_classifier() -> None:
    assert suitable_tasks(a_header(RERANKER, classifierOutputs=2)) == ("Rerank", "Classify")


@pytest.mark.parametrize(
    "header",
    [
        a_header(MINILM, poolingType=None),
        a_header(MINILM, poolingType=4),
        a_header(SMOLLM2, causalAttention=False),
        a_header(SMOLLM2, architecture="llada"),
    ],
)
def test_model_without_pooling_that_can_not_generate_has_no_task(header: Header) -> None:
    assert suitable_tasks(header) == ()


def test_head_of_an_architecture_with_a_strange_name_is_refused() -> None:
    """Its name would become a part of an option's value."""
    model = a_model(task="Rerank")
    text = artifact_text(header={**RERANKER, "architecture": "bert.x=int:1,general.name"})
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, text),)))
    assert shown(plan, "Ready") == ("False", "UnsupportedModel")


def test_chat_has_no_option_of_the_other_tasks() -> None:
    args = args_of("Chat", SMOLLM2)
    assert not {"--embeddings", "--rerank", "--pooling", "--override-kv"} & set(args)
    assert "--jinja" in args


def test_encoder_takes_its_whole_context_in_one_batch() -> None:
    args = args_of("Embedding", MINILM)
    wanted = {"--batch-size": "512", "--ubatch-size": "512", "--ctx-size": "1024", "--pooling": "mean"}
    assert wanted.items() <= options(args).items()
    assert options(args)["--cache-ram"] == "0"
    assert "--embeddings" in args


@pytest.mark.parametrize(("task", "outputs"), [("Rerank", "1"), ("Classify", "3")])
def test_head_answers_with_its_own_outputs_and_no_memory_beyond(task: Task, outputs: str) -> None:
    found = options(args_of(task, MODELS[task]))
    assert found["--override-kv"] == f"bert.embedding_length_out=int:{outputs}"
    assert found["--embd-normalize"] == "-1"
    assert found.get("--pooling") == (None if task == "Rerank" else "rank")


def test_causal_embedding_model_cuts_its_input() -> None:
    header = a_header(SMOLLM2, poolingType=3)
    assert pooling_of("Embedding", header) is Pooling.LAST
    assert physical_batch("Embedding", header, 4096) == 512
    assert physical_batch("Embedding", a_header(SMOLLM2, poolingType=1), 4096) == 4096


def test_encoder_keeps_no_cache_and_has_room_for_every_tokens_output() -> None:
    asked = Demand(context_length=512, parallel=2, kv_cache_type="f16", prompt_cache_mebibytes=0, task="Embedding")
    header = a_header(MINILM)
    assert kv_cache_bytes(header, asked) == 0
    assert compute_bytes(header, asked) > 4 * 512 * 30522
    assert size_model(header, asked).prompt_cache_bytes == 0


def test_answer_is_told_as_what_the_task_gives() -> None:
    model = a_model(task="Embedding")
    text = artifact_text(header=MINILM)
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, text),)))
    assert plan.status.artifact is not None
    assert plan.status.artifact.dimension == 384
    assert "token" not in message(plan, "Serving")
    assert "gave a token" in message(plan_of(a_model(), serving_facts(a_model())), "Ready")


def test_labels_are_told_in_the_order_of_their_scores() -> None:
    model = a_model(task="Classify")
    text = artifact_text(header=CLASSIFIER)
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, text),)))
    assert plan.status.artifact is not None
    assert plan.status.artifact.labels == ["sport", "money", "weather"]


def test_window_of_gemma_as_an_embedding_model_grows_with_its_batch() -> None:
    def asked(task: Task) -> Demand:
        return Demand(context_length=2048, parallel=1, kv_cache_type="f16", prompt_cache_mebibytes=0, task=task)

    pooled = a_header(GEMMA3_270M, poolingType=1)
    assert kv_cache_bytes(pooled, asked("Embedding")) > kv_cache_bytes(pooled, asked("Chat"))
