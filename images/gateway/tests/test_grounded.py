# SPDX-License-Identifier: Apache-2.0
"""Grounding Required and Preferred over a real retriever: citations, refusals, and documents that are data."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_testing.corpus import HOSTILE, PASSAGES, PLAN, PUMP
from gateway_testing.process import (
    OPERATOR,
    Running,
    chat_body,
    eventually,
    gateway,
    gateway_config,
    index_config,
    text_of,
)
from gateway_testing.upstream import ModelServer
from retriever_testing.process import serving

pytestmark = pytest.mark.timeout(180)

TOOLS = [{"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def required(
    served_model: tuple[ModelServer, str], index_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A gateway that answers from its index or not at all."""
    folder = tmp_path_factory.mktemp("required")
    changes: dict[str, Any] = {"grounding": "Required", "systemPrompt": "Be brief."}
    changes["indexes"] = [index_config(folder, index_url)]
    changes["retrieval"] = {"topK": 5, "maxPassages": 4}
    with gateway(gateway_config(folder, model_url=served_model[1], **changes)) as made:
        yield made


@pytest.fixture(scope="module")
def strict(
    served_model: tuple[ModelServer, str], index_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A gateway that quotes nothing by itself, for a model without a system role."""
    folder = tmp_path_factory.mktemp("strict")
    model = {"url": f"{served_model[1]}/v1", "name": "m", "contextLength": 2048, "systemRole": False}
    changes: dict[str, Any] = {"grounding": "Required", "indexes": [index_config(folder, index_url)]}
    changes |= {"model": model, "retrieval": {"quoteInstead": False}, "systemPrompt": "Be brief."}
    with gateway(gateway_config(folder, model_url=served_model[1], **changes)) as made:
        yield made


@pytest.fixture(scope="module")
def preferred(
    served_model: tuple[ModelServer, str], index_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A gateway that would rather answer from its index."""
    folder = tmp_path_factory.mktemp("preferred")
    indexes = [index_config(folder, index_url)]
    with gateway(
        gateway_config(folder, model_url=served_model[1], grounding="Preferred", indexes=indexes)
    ) as made:
        yield made


def test_answer_carries_citations_that_occur_in_their_chunk(required: Running, model: ModelServer) -> None:
    model.answers("The Halvorsen pump runs at 45 bar. It was built in Tromsdal.")
    body = required.chat("At how many bar does the Halvorsen pump run, and where was it built?").json()
    message = body["choices"][0]["message"]
    # markers are one for each quote, and point into citations
    assert "45 bar. [1]" in message["content"]
    for citation in body["citations"]:
        assert body["citations"][citation["number"] - 1] == citation
        assert citation["id"] == "docs/wiki/pump.md/0@g000001"
        assert PUMP[citation["quoteStart"] : citation["quoteEnd"]] == citation["quote"]
    assert (citation["title"], citation["location"], citation["source"]) == ("Pump", "Values", "wiki")
    # annotations name the sentence and its marker
    place = message["annotations"][0]["file_citation"]
    assert message["content"][place["start_index"] : place["end_index"]].endswith("[1]")
    assert body["nimblet"]["indexes"] == [{"name": "docs", "ok": True, "generation": "g000001", "push": 0}]


def test_unsupported_sentences_are_dropped(required: Running, model: ModelServer) -> None:
    model.answers("The Halvorsen pump runs at 45 bar. It costs 900 euros. It was painted by Picasso.")
    body = required.chat("At how many bar does the Halvorsen pump run?").json()
    assert body["choices"][0]["message"]["content"].strip() == "The Halvorsen pump runs at 45 bar. [1]"
    assert body["nimblet"]["sentences"] == {"supported": 1, "unsupported": 2}


def test_stream_releases_a_sentence_only_when_it_is_checked(required: Running, model: ModelServer) -> None:
    model.answers("The Halvorsen pump runs at 45 bar. It costs 900 euros. It was built in 1987.")
    events = required.stream("At how many bar does the Halvorsen pump run?")
    texts = [
        choice["delta"]["content"]
        for event in events
        for choice in event["choices"]
        if choice["delta"].get("content")
    ]
    assert texts[0].strip() == "The Halvorsen pump runs at 45 bar. [1]"
    assert "euros" not in "".join(texts)
    assert events[-1]["citations"][0]["quote"] in PUMP
    marked = [event for event in events if event["choices"][0]["delta"].get("annotations")]
    whole = text_of(events)
    for event in marked:
        for item in event["choices"][0]["delta"]["annotations"]:
            place = item["file_citation"]
            assert whole[place["start_index"] : place["end_index"]].endswith("]")


def test_nothing_supported_is_answered_by_a_quote(required: Running, model: ModelServer) -> None:
    model.answers("It was painted by Picasso. It costs 900 euros.")
    body = required.chat("Where was the Halvorsen pump built?").json()
    assert (body["nimblet"]["quote"], body["nimblet"]["refusal"]) == (True, None)
    text = body["choices"][0]["message"]["content"]
    assert text.removesuffix(" [1]") in PUMP
    assert body["citations"][0]["quote"] in PUMP
    assert text_of(required.stream("Where was the Halvorsen pump built?")) == text


def test_nothing_supported_is_a_refusal_where_no_quote_is_wanted(strict: Running, model: ModelServer) -> None:
    model.answers("It was painted by Picasso. It costs 900 euros.")
    body = strict.chat("Who built the Halvorsen pump?").json()
    assert body["nimblet"]["refusal"] == "NotSupported"
    assert body["citations"] == []
    assert "Picasso" not in json.dumps(body)
    assert "Picasso" not in text_of(strict.stream("Who built the Halvorsen pump?"))


def test_nothing_relevant_is_a_refusal_without_the_model(required: Running, model: ModelServer) -> None:
    body = required.chat("Which wine goes with grilled mackerel tonight?").json()
    assert body["nimblet"]["refusal"] == "NothingRelevant"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert model.requests == []


@pytest.mark.parametrize("content", ["", " \n", None, []])
def test_a_message_without_a_word_looks_for_nothing(
    required: Running, preferred: Running, model: ModelServer, content: object
) -> None:
    body = chat_body() | {"messages": [{"role": "user", "content": content}]}
    refused = required.post("/v1/chat/completions", body)
    assert (refused.status_code, refused.json()["nimblet"]["refusal"]) == (200, "NothingRelevant")
    answered = preferred.post("/v1/chat/completions", body)
    assert answered.status_code == 200
    assert answered.json()["choices"][0]["message"]["content"] == "All is well."
    assert len(model.requests) == 1


def test_follow_up_is_retrieved_by_the_conversation(required: Running, model: ModelServer) -> None:
    model.answers("It was built in Tromsdal in 1987.")
    body = required.chat(
        "Tell me about the Halvorsen pump", "It runs at 45 bar. [7]", "Where was it built?"
    ).json()
    assert body["citations"][0]["document"] == "wiki/pump.md"
    # and a marker of an earlier turn reaches no prompt
    assert "[7]" not in json.dumps(model.requests)


def test_follow_up_of_a_single_word_is_answered_by_the_turn_before(required: Running, model: ModelServer) -> None:
    model.answers("I can't say.")
    body = required.chat("Where was the Halvorsen pump built?", "In Tromsdal.", "When?").json()
    assert "1987" in body["choices"][0]["message"]["content"]
    assert body["citations"][0]["document"] == "wiki/pump.md"


def test_markers_of_model_and_document_are_removed(required: Running, model: ModelServer) -> None:
    model.answers("The Quill compressor weighs 310 kg [2]. [3] See [source 4].")
    body = required.chat("How heavy is the Quill compressor?").json()
    assert body["choices"][0]["message"]["content"].strip() == "The Quill compressor weighs 310 kg. [1]"
    (citation,) = body["citations"]
    assert citation["document"] == "wiki/quill.md"
    assert HOSTILE[citation["quoteStart"] : citation["quoteEnd"]] == citation["quote"]
    assert "[2]" not in json.dumps(model.requests[0]["messages"])


def test_documents_reach_no_system_prompt_and_no_control_token(required: Running, model: ModelServer) -> None:
    required.chat("How heavy is the Quill compressor?")
    (asked,) = model.requests
    system = [item["content"] for item in asked["messages"] if item["role"] == "system"]
    user = [item["content"] for item in asked["messages"] if item["role"] == "user"]
    assert len(system) == 1
    assert "Be brief." in system[0]
    assert "310 kg" not in system[0]
    assert "310 kg" in user[-1]
    assert "<|im_" not in json.dumps(asked)


def test_system_text_goes_to_the_user_where_there_is_no_such_role(strict: Running, model: ModelServer) -> None:
    strict.chat("How heavy is the Quill compressor?")
    (asked,) = model.requests
    assert [item["role"] for item in asked["messages"]] == ["user"]
    assert asked["messages"][0]["content"].startswith("Be brief.")


@pytest.mark.parametrize(
    "change",
    [
        {"tools": TOOLS},
        {"n": 2},
        {"logprobs": True},
        {"top_logprobs": 3},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "1", "content": "y"}]},
    ],
)
def test_ways_around_the_check_are_refused(required: Running, model: ModelServer, change: dict[str, Any]) -> None:
    answer = required.post("/v1/chat/completions", chat_body("Where was the Halvorsen pump built?") | change)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert model.requests == []


def test_callers_access_labels_narrow(required: Running, model: ModelServer) -> None:
    # Given one key that may see what is public, one that may see what the board may
    keys = required.folder / "keys"
    (keys / "visitor").write_text('{"key": "visitor-key", "access": ["public"]}')
    (keys / "board").write_text('{"key": "board-key", "access": ["board"]}')
    (keys / "nobody").write_text('{"key": "nobody-key", "access": []}')
    question = {"query": "To whom will the Halvorsen pump be sold?"}
    eventually(lambda: required.post("/v1/retrieve", question, key="nobody-key").status_code == 200)
    # Then each finds its own, in passages and in answers
    found = {
        key: [item["document"] for item in required.post("/v1/retrieve", question, key=key).json()["passages"]]
        for key in ("visitor-key", "board-key", "nobody-key")
    }
    assert set(found["visitor-key"]) == {item["document"] for item in PASSAGES if "access" not in item}
    assert found["board-key"] == ["wiki/plan.md"]
    assert found["nobody-key"] == []
    model.answers(PLAN)
    answers = {key: required.chat(question["query"], key=key).json() for key in ("visitor-key", "board-key")}
    assert answers["board-key"]["citations"][0]["document"] == "wiki/plan.md"
    assert all(item["document"] != "wiki/plan.md" for item in answers["visitor-key"]["citations"])
    assert "Ostrander" not in json.dumps(answers["visitor-key"])


def test_retrieve_narrows_by_filters(required: Running) -> None:
    answer = required.post("/v1/retrieve", {"query": "valve pump", "documents": ["wiki/valve.md"], "topK": 2})
    assert [item["document"] for item in answer.json()["passages"]] == ["wiki/valve.md"]
    assert required.post("/v1/retrieve", {"query": "valve", "access": ["board"]}).status_code == 400


def test_preferred_keeps_unsupported_sentences_without_a_marker(preferred: Running, model: ModelServer) -> None:
    model.answers("The Halvorsen pump runs at 45 bar. It costs 900 euros.")
    body = preferred.chat("At how many bar does the Halvorsen pump run?").json()
    assert body["choices"][0]["message"]["content"] == "The Halvorsen pump runs at 45 bar. [1] It costs 900 euros."
    assert body["nimblet"]["sentences"] == {"supported": 1, "unsupported": 1}


def test_preferred_answers_without_documents_where_nothing_is_relevant(
    preferred: Running, model: ModelServer
) -> None:
    model.answers("A dry white. [3]")
    body = preferred.chat("Which wine goes with grilled mackerel tonight?").json()
    assert body["choices"][0]["message"]["content"].strip() == "A dry white."
    assert (body["citations"], body["nimblet"]["passages"]) == ([], [])


def test_tools_and_documents_never_meet(preferred: Running, model: ModelServer) -> None:
    body = preferred.chat("How heavy is the Quill compressor?", tools=TOOLS).json()
    assert body["nimblet"]["passages"] == []
    assert model.requests[0]["tools"] == TOOLS
    assert "310" not in json.dumps(model.requests[0])


@pytest.mark.parametrize(("parameters", "says"), [(135 * 10**6, "45 bar"), (7 * 10**9, "1987"), (None, "1987")])
def test_model_that_is_told_to_be_small_must_agree_with_the_documents(
    index_url: str, tmp_path: Path, parameters: int | None, says: str
) -> None:
    # Given a sentence that a document supports, and that does not answer the question
    small = ModelServer(parameters=parameters)
    small.answers("It was built in Tromsdal in 1987.")
    with serving(small.app()) as url:
        indexes = [index_config(tmp_path, index_url)]
        config = gateway_config(tmp_path, model_url=url, grounding="Required", indexes=indexes)
        with gateway(config) as running:
            eventually(lambda: bool(running.get("/v1/status", key=OPERATOR).json()["selfTest"]["ok"]))
            body = running.chat("At how many bar does the Halvorsen pump run?").json()
    # Then a small model's gives way to the document's own sentence
    assert says in body["choices"][0]["message"]["content"]
    assert body["nimblet"]["quote"] is (says == "45 bar")
