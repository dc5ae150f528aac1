# SPDX-License-Identifier: Apache-2.0
"""Clients that people have, unchanged, against a real gateway: what each keeps of an answer with citations."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from gateway_testing.corpus import PUMP
from gateway_testing.process import ASSISTANT, KEY, Running, gateway, gateway_config, index_config
from gateway_testing.upstream import ModelServer

pytestmark = pytest.mark.timeout(180)

QUESTION = "At how many bar does the Halvorsen pump run?"
ANSWER = "The Halvorsen pump runs at 45 bar."
CITED = "The Halvorsen pump runs at 45 bar. [1]"


@pytest.fixture(scope="module")
def running(served_model: tuple[ModelServer, str], index_url: str, folder: Path) -> Iterator[Running]:
    """A gateway that answers from its index or not at all."""
    indexes = [index_config(folder, index_url)]
    with gateway(gateway_config(folder, model_url=served_model[1], grounding="Required", indexes=indexes)) as made:
        yield made


@pytest.fixture(autouse=True)
def answers(model: ModelServer) -> None:
    """The stub model knows one answer."""
    model.answers(ANSWER)


def test_openai_keeps_citations_and_annotations(running: Running) -> None:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as client:
        assert [item.id for item in client.models.list()] == [ASSISTANT]
        whole = client.chat.completions.create(model=ASSISTANT, messages=[{"role": "user", "content": QUESTION}])
        message = whole.choices[0].message
        assert message.content == CITED
        # fields that it does not know are kept beside those that it does
        assert whole.model_extra is not None
        assert whole.model_extra["citations"][0]["quote"] in PUMP
        assert message.annotations is not None
        assert message.annotations[0].to_dict()["type"] == "file_citation"
        # streamed: the same text, the citations with the last chunk, usage where asked
        stream = client.chat.completions.create(
            model=ASSISTANT,
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == CITED
        last = [chunk for chunk in chunks if chunk.choices][-1]
        assert last.model_extra is not None
        assert last.model_extra["citations"][0]["document"] == "wiki/pump.md"
        assert chunks[-1].usage is not None


def test_openai_understands_errors(running: Running) -> None:
    question: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
    with (
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(model=ASSISTANT, messages=question)
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-4o", messages=question)
        with pytest.raises(openai.BadRequestError) as told:
            client.chat.completions.create(model=ASSISTANT, messages=question, n=2)
    assert (told.value.code, told.value.param) == ("unsupported_parameter", "n")


def test_langchain_answers_and_streams(running: Running) -> None:
    # it passes on the text with its markers; fields of ours it drops
    chat = ChatOpenAI(model=ASSISTANT, base_url=f"{running.url}/v1", api_key=SecretStr(KEY), max_retries=0)
    answer = chat.invoke(QUESTION)
    assert answer.text == CITED
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] > 0
    assert "".join(part.text for part in chat.stream(QUESTION)) == CITED


def test_haystack_answers(running: Running) -> None:
    # as langchain: text, usage, reason of the end
    generator = OpenAIChatGenerator(
        api_key=Secret.from_token(KEY), model=ASSISTANT, api_base_url=f"{running.url}/v1", max_retries=0
    )
    (reply,) = generator.run([ChatMessage.from_user(QUESTION)])["replies"]
    assert reply.text == CITED
    assert reply.meta["finish_reason"] == "stop"
