# SPDX-License-Identifier: Apache-2.0
"""What an answer proves, by task."""

import base64
import json
import math
import struct

import pytest

from nimblet.api.compactmodel import Task
from nimblet.cluster.question import BODIES, PATHS, Questions, questions
from nimblet.plan.facts import ArtifactFacts
from tests.builders import CLASSIFIER, MINILM, artifact_text

FACTS = (
    ArtifactFacts(name="a", uid="1", source_hash="old", text=artifact_text(header=MINILM)),
    ArtifactFacts(name="b", uid="2", source_hash="new", text=artifact_text(header=CLASSIFIER)),
    ArtifactFacts(name="c", uid="3", source_hash="broken", text="{}"),
)


def vector(*numbers: float) -> bytes:
    encoded = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return json.dumps({"data": [{"embedding": encoded}]}).encode()


def ranking(score: object) -> bytes:
    return json.dumps({"results": [{"index": 0, "relevance_score": score}]}).encode()


@pytest.mark.parametrize(
    ("task", "body", "flaw"),
    [
        ("Embedding", vector(*[0.5] * 384), None),
        ("Embedding", vector(*[0.5] * 383), "with 383 numbers where 384 were expected"),
        ("Embedding", vector(*[0.0] * 384), "with a vector of length zero"),
        ("Embedding", vector(*[0.5] * 383, math.nan), "with a vector that is not of finite numbers"),
        ("Embedding", vector(), "without a vector"),
        ("Embedding", b'{"data":[{"embedding":"AAA="}]}', "without a vector"),
        ("Embedding", b'{"data":[{"embedding":"%"}]}', "without a vector"),
        ("Embedding", b'{"data":[]}', "without a vector"),
        ("Rerank", ranking(-3.5), None),
        ("Rerank", ranking(None), "without a score"),
        ("Rerank", b'{"results":[]}', "without a score"),
        ("Classify", vector(0.0, 0.0, 0.0), None),
        ("Classify", vector(math.inf, 0.0, 0.0), "with a vector that is not of finite numbers"),
        ("Classify", b"<html>", "without a score"),
    ],
)
def test_what_an_answer_proves(task: Task, body: bytes, flaw: str | None) -> None:
    assert questions(task, FACTS[:1] if task == "Embedding" else ()).flaw(body, source_hash="old") == flaw


def test_pods_of_two_artifacts_owe_different_widths() -> None:
    asked = questions("Classify", FACTS)
    assert asked.flaw(vector(1.0, 2.0, 3.0), source_hash="new") is None
    assert asked.flaw(vector(1.0, 2.0), source_hash="new") == "with 2 numbers where 3 were expected"
    assert asked.flaw(vector(1.0, 2.0), source_hash="broken") is None


@pytest.mark.parametrize("task", PATHS)
def test_each_task_has_a_question_and_a_proof(task: Task) -> None:
    assert BODIES[task]
    assert Questions(task=task).proof in ("token", "vector", "score")
