# SPDX-License-Identifier: Apache-2.0
"""A gateway with a guard and no checks of its own: what a guard judges is what the model reads, or the client."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from gateway_testing.process import Running, chat_body, gateway, gateway_config
from gateway_testing.upstream import ModelServer

pytestmark = pytest.mark.timeout(180)

TOOLS = [{"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def running(served_model: tuple[ModelServer, str], folder: Path) -> Iterator[Running]:
    """A gateway whose guard, served beside the model, knows an attack by a word."""
    url = f"{served_model[1]}/v1"
    guard = {"url": url, "name": "g", "task": "Classify", "labels": ["ok", "bad"], "blocked": ["bad"]}
    with gateway(gateway_config(folder, model_url=served_model[1], guard=guard)) as made:
        yield made


@pytest.fixture(autouse=True)
def judging(model: ModelServer) -> None:
    """The guard's word."""
    model.scored = lambda text: [-3.0, 3.0] if "attack" in text else [3.0, -3.0]


def refusal(running: Running, *turns: str, **fields: object) -> str | None:
    """Ask; return why it was refused, None where it was answered."""
    answer = running.post("/v1/chat/completions", chat_body(*turns, **fields))
    assert answer.status_code == 200
    told: str | None = answer.json()["nimblet"]["refusal"]
    return told


@pytest.mark.parametrize(("pieces", "told"), [(["att", "ack"], "BlockedAnswer"), (["att", "end"], None)])
def test_arguments_that_come_in_pieces_are_judged_whole(
    running: Running, model: ModelServer, pieces: list[str], told: str | None
) -> None:
    # Given a model that streams a call as servers do, token by token
    head: dict[str, Any] = {"index": 0, "id": "c", "type": "function"}
    parts = [{**head, "function": {"name": "send", "arguments": '{"do": "'}}]
    parts += [{"index": 0, "function": {"arguments": piece}} for piece in (*pieces, '"}')]
    model.deltas = [{"tool_calls": [part]} for part in parts]
    assert refusal(running, "Go on", tools=TOOLS) == told


def test_answers_that_come_by_turns_are_judged_each(running: Running, model: ModelServer) -> None:
    choices = [(0, "att", None), (1, "All ", None), (0, "ack", None), (1, "well", None), (0, "", "stop")]
    chunks = [
        {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": end}]}
        for index, text, end in [*choices, (1, "", "stop")]
    ]
    lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    model.refuses = ("Go on", Response(lines, media_type="text/event-stream"))
    assert refusal(running, "Go on", n=2) == "BlockedAnswer"


@pytest.mark.parametrize(
    "deltas",
    [
        [{"content": piece} for piece in ("<th", "ink>", "attack", "</thi", "nk>", "1 ", "<", " 2")],
        [{"reasoning_content": "attack"}, *({"content": piece} for piece in ("1 ", "<", " 2"))],
    ],
    ids=["tags", "apart"],
)
def test_logprobs_hold_no_thought_that_was_not_judged(
    running: Running, model: ModelServer, deltas: list[dict[str, str]]
) -> None:
    def chunk(delta: dict[str, str], *, end: str | None = None) -> str:
        logprobs = {"content": [{"token": token, "logprob": -0.5} for token in delta.values()]}
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": end}
        return f"data: {json.dumps({'choices': [choice]})}\n\n"

    lines = "".join(map(chunk, deltas)) + chunk({}, end="stop") + "data: [DONE]\n\n"
    model.refuses = ("Go on", Response(lines, media_type="text/event-stream"))
    answer = running.chat("Go on", logprobs=True)
    (choice,) = answer.json()["choices"]
    assert choice["message"]["content"] == "1 < 2"
    assert [item["token"] for item in choice["logprobs"]["content"]] == ["1 ", "<", " 2"]
    assert "attack" not in answer.text + running.chat("Go on", logprobs=True, stream=True).text


def test_calls_of_earlier_turns_are_judged(running: Running, model: ModelServer) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": '{"do": "attack"}'}}
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
        {"role": "user", "content": "Go on"},
    ]
    answer = running.post("/v1/chat/completions", chat_body() | {"messages": messages})
    assert answer.json()["nimblet"]["refusal"] == "BlockedQuestion"
    assert all("messages" not in asked for asked in model.requests)


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "the attack"},
        {"parameters": {"type": "object", "properties": {"to": {"type": "string", "description": "the attack"}}}},
        {"parameters": {"type": "object", "properties": {"attack": {"type": "string"}}}},
        {"note": "the attack"},
    ],
)
def test_tools_that_are_offered_are_judged(running: Running, model: ModelServer, changes: dict[str, Any]) -> None:
    # Given tools whose definitions the model reads, one of them with an attack in it
    tools = [*TOOLS, {"type": "function", "function": {"name": "look", **changes}}]
    assert refusal(running, "Go on", tools=tools) == "BlockedQuestion"
    assert all("messages" not in asked for asked in model.requests)
    # and harmless ones pass
    assert refusal(running, "Go on", tools=TOOLS) is None


def test_guard_model_is_shown_the_tools_in_the_users_last_turn(
    served_model: tuple[ModelServer, str], model: ModelServer, tmp_path: Path
) -> None:
    guard = {"url": f"{served_model[1]}/v1", "name": "g", "task": "Chat"}
    model.answers("safe")
    with gateway(gateway_config(tmp_path, model_url=served_model[1], guard=guard)) as made:
        assert refusal(made, "Hello", "Hi", "Go on", tools=TOOLS) is None
    shown = [asked["messages"] for asked in model.requests if asked["model"] == "g" and "messages" in asked]
    hello, hi, turn = shown[0]
    assert (hello, hi) == ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"})
    assert turn == {"role": "user", "content": f"Go on\n{json.dumps(TOOLS[0])}"}
    assert shown[1][:3] == shown[0]
