# SPDX-License-Identifier: Apache-2.0
"""What a pod's own list of adapters proves, by its server."""

import json

import pytest

from nimblet.cluster.adapterquestion import AdapterQuestion, adapter_question
from nimblet.plan.adapters import adapters_label
from nimblet.plan.facts import Answer

NAMES = ("legal", "support")


def asked(runtime: str) -> AdapterQuestion:
    found = adapter_question(adapters_label(NAMES, runtime=runtime), NAMES)
    if found is None:
        raise LookupError(f"expected a question for {runtime}")
    return found


def listed(*names: str) -> bytes:
    """Return the list as llama.cpp's server gives it."""
    items = [{"id": at, "path": f"/adapters/{name}/f/a.gguf", "scale": 0.0} for at, name in enumerate(names)]
    return json.dumps(items).encode()


def cards(*names: str) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}).encode()


@pytest.mark.parametrize(
    ("runtime", "path", "body", "answer", "words"),
    [
        ("LlamaCpp", "/lora-adapters", listed(*NAMES), Answer.ANSWERED, ""),
        ("LlamaCpp", "/lora-adapters", listed("legal"), Answer.PARTLY, "has not loaded support"),
        ("LlamaCpp", "/lora-adapters", listed("support", "legal"), Answer.PARTLY, "another order"),
        ("LlamaCpp", "/lora-adapters", b"{}", Answer.PARTLY, "without a list"),
        ("VLLM", "/v1/models", cards("base", *NAMES), Answer.ANSWERED, ""),
        ("VLLM", "/v1/models", cards("base"), Answer.PARTLY, "has not loaded legal, support"),
    ],
)
def test_every_adapter_must_be_listed(runtime: str, path: str, body: bytes, answer: Answer, words: str) -> None:
    question = asked(runtime)
    told = question.judge(200, body)
    assert (question.path, told.answer) == (path, answer)
    assert words in told.detail
    assert question.judge(500, body).answer is Answer.PARTLY


def test_who_is_not_asked() -> None:
    assert adapter_question("", NAMES) is None
    assert adapter_question(adapters_label(("older",), runtime="LlamaCpp"), NAMES) is None
    assert adapter_question(adapters_label(NAMES, runtime="TGI"), NAMES) is None
