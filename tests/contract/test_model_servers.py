# SPDX-License-Identifier: Apache-2.0
"""vLLM and TGI by contract: servers that follow their published API, launched with the argv that plans render.

They are asked by their own clients (openai, text-generation, huggingface_hub) and by our own observation, through
their start-up and their failures. None of this runs a model: docs/runtimes.md says what was run for real.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp
import openai
import pytest
import yaml
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from openai import OpenAI
from text_generation import Client as TextGeneration
from text_generation.errors import GenerationError, OverloadedError, ValidationError

from e2e.cluster.controlplane import free_ports
from nimblet import labels
from nimblet.cluster.adapterquestion import adapter_question
from nimblet.cluster.observe import Asking, ask
from nimblet.cluster.question import Questions
from nimblet.manifests.network import HTTP_PORT
from nimblet.plan.adapters import adapters_label
from nimblet.plan.facts import Answer
from nimblet.plan.runtime.choice import RUNTIMES
from nimblet.plan.runtime.interface import Runtime
from tests.contract.servers.common import KEY, WORDS, ContractServer, LaunchError, launch, listening
from tests.contract.servers.tgi import TGIServer
from tests.contract.servers.vllm import WIDTH, VLLMServer
from tests.golden.cases import OUTPUTS

pytestmark = pytest.mark.asyncio
HELLO: Final[Any] = [{"role": "user", "content": "Hello"}]
LONG: Final = "word " * 4000
deprecated = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
"""text-generation still calls BaseModel.dict."""


def container_of(case: str) -> dict[str, Any]:
    """Return the model server's container of a golden output."""
    text = (OUTPUTS / Path(case).with_suffix(".yaml")).read_text(encoding="utf-8")
    found = [
        child["spec"]["template"]["spec"]["containers"][0]
        for child in yaml.safe_load_all(text)
        if child.get("kind") == "Deployment" and child["metadata"]["labels"][labels.COMPONENT] == "model"
    ]
    return dict(found[0])


def vllm(case: str = "vllm-cpu") -> VLLMServer:
    return VLLMServer.of(launch(container_of(case), runtime="VLLM", version="0.32.0", secrets={"api-key": KEY}))


def tgi() -> TGIServer:
    return TGIServer.of(launch(container_of("tgi-cpu"), runtime="TGI", version="3.3.7", secrets={"api-key": KEY}))


def of(runtime: str) -> ContractServer:
    return vllm() if runtime == "VLLM" else tgi()


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def observed(url: str, task: Literal["Chat", "Embedding", "Rerank"] = "Chat", key: str = KEY) -> Answer:
    """Return what the operator concludes of a pod at this address."""
    async with session() as opened:
        asking = Asking(url=url, api_key=key, timeout=20, questions=Questions(task=task))
        return (await ask(opened, asking)).answer


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run a client that blocks."""
    return await asyncio.to_thread(work)


def openai_client(url: str, key: str = KEY) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


async def test_vllm_answers_with_the_adapter_that_a_request_names_as_its_model() -> None:
    def model_of(url: str, name: str) -> str:
        with openai_client(url) as client:
            return str(client.chat.completions.create(model=name, messages=HELLO, max_tokens=2).model)

    server = vllm("adapters-vllm")
    label = adapters_label(("legal",), runtime="VLLM")
    asking = Asking(url="", api_key=KEY, timeout=20, adapters=adapter_question(label, ["legal"]))
    async with listening(server) as url, session() as opened:
        assert [await in_thread(partial(model_of, url, name)) for name in ("smollm2", "legal")] == [
            "smollm2",
            "legal",
        ]
        assert (await ask(opened, replace(asking, url=url))).answer is Answer.ANSWERED
        server.adapters = {}
        lacking = await ask(opened, replace(asking, url=url))
    assert (lacking.answer, lacking.reason) == (Answer.PARTLY, "AdapterNotLoaded")


@pytest.mark.parametrize("runtime", ["VLLM", "TGI"])
async def test_openai_asks_and_streams(runtime: str) -> None:
    def whole(url: str) -> tuple[str | None, int]:
        with openai_client(url) as client:
            answer = client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=2)
            assert answer.usage is not None
            return answer.choices[0].message.content, answer.usage.completion_tokens

    def streamed(url: str) -> tuple[str, int]:
        with openai_client(url) as client:
            chunks = list(
                client.chat.completions.create(
                    model="smollm2", messages=HELLO, stream=True, stream_options={"include_usage": True}
                )
            )
        assert chunks[-1].usage is not None
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return text, chunks[-1].usage.completion_tokens

    async with listening(of(runtime)) as url:
        assert await in_thread(lambda: whole(url)) == ("".join(WORDS[:2]), 2)
        assert await in_thread(lambda: streamed(url)) == ("".join(WORDS), len(WORDS))


async def test_openai_meets_vllms_refusals() -> None:
    def asked(url: str, key: str, model: str, text: str) -> None:
        with openai_client(url, key) as client:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])

    async with listening(vllm()) as url:
        with pytest.raises(openai.AuthenticationError):
            await in_thread(lambda: asked(url, "another", "smollm2", "Hello"))
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await in_thread(lambda: asked(url, KEY, "other", "Hello"))
        with pytest.raises(openai.BadRequestError, match="maximum context length is 2048"):
            await in_thread(lambda: asked(url, KEY, "smollm2", LONG))


async def test_openai_embeds_with_vllm() -> None:
    def vectors(url: str) -> list[int]:
        with openai_client(url) as client:
            return [
                len(item.embedding) for item in client.embeddings.create(model="minilm", input=["a", "b"]).data
            ]

    async with listening(vllm("vllm-embedding")) as url:
        assert await in_thread(lambda: vectors(url)) == [WIDTH, WIDTH]
        assert await observed(url, "Embedding") is Answer.ANSWERED
        assert await observed(url, "Chat") is Answer.FAILED  # a pooling runner has no such route


@deprecated
async def test_text_generation_asks_and_streams() -> None:
    def all_ways(url: str) -> tuple[str, str, str]:
        client = TextGeneration(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
        whole = client.generate("Hello", max_new_tokens=3)
        assert whole.details.generated_tokens == 3
        parts = list(client.generate_stream("Hello", max_new_tokens=3))
        assert parts[-1].generated_text == "".join(WORDS)
        chat = client.chat(messages=HELLO)
        return whole.generated_text, "".join(part.token.text for part in parts), chat.choices[0].message.content

    async with listening(tgi()) as url:
        assert await in_thread(lambda: all_ways(url)) == ("".join(WORDS),) * 3


@deprecated
async def test_text_generation_meets_tgis_refusals() -> None:
    server = tgi()

    def asked(url: str, text: str) -> None:
        TextGeneration(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60).generate(text)

    async with listening(server) as url:
        with pytest.raises(ValidationError, match="must have less than 2047 tokens"):
            await in_thread(lambda: asked(url, LONG))
        server.overloaded = True
        with pytest.raises(OverloadedError):
            await in_thread(lambda: asked(url, "Hello"))
        server.overloaded, server.alive = False, False
        with pytest.raises(GenerationError):
            await in_thread(lambda: asked(url, "Hello"))


async def test_inference_client_asks_and_streams() -> None:
    def all_ways(url: str) -> tuple[str, str, str | None]:
        client = InferenceClient(url, token=KEY)
        whole = client.text_generation("Hello", max_new_tokens=3, details=True)
        parts = client.text_generation("Hello", max_new_tokens=3, stream=True)
        chat = client.chat_completion(HELLO, max_tokens=3)
        return whole.generated_text, "".join(parts), chat.choices[0].message.content

    def refused(url: str) -> None:
        InferenceClient(url, token="hf_another").text_generation("Hello")

    async with listening(tgi()) as url:
        assert await in_thread(lambda: all_ways(url)) == ("".join(WORDS),) * 3
        with pytest.raises(HfHubHTTPError, match="401"):
            await in_thread(lambda: refused(url))


async def test_inference_client_chats_with_vllm() -> None:
    def asked(url: str) -> str | None:
        client = InferenceClient(base_url=f"{url}/v1", api_key=KEY)
        return client.chat_completion(HELLO, model="smollm2").choices[0].message.content

    async with listening(vllm()) as url:
        assert await in_thread(lambda: asked(url)) == "".join(WORDS)


@pytest.mark.parametrize("runtime", ["VLLM", "TGI"])
async def test_we_observe_start_up_service_and_failure(runtime: str) -> None:
    server, (port,) = of(runtime), free_ports(1)
    url = f"http://127.0.0.1:{port}"
    # Given a server that loads its weights: nothing listens yet
    assert await observed(url) is Answer.FAILED
    async with listening(server, port=port):
        # When it is up, then it has answered; a request without model is the model's
        assert await observed(url) is Answer.ANSWERED
        assert await observed(url, key="another") is Answer.FAILED
        # When the engine or the shards are gone, then both the probe's path and the answer say so
        server.alive = False
        assert await observed(url) is Answer.FAILED
        async with session() as opened, opened.get(f"{url}/health") as health:
            assert health.status == 503


async def test_an_overloaded_tgi_is_busy_and_not_failed() -> None:
    server = tgi()
    server.overloaded = True
    async with listening(server) as url:
        assert await observed(url) is Answer.BUSY


async def test_vllms_reranker_gives_a_score() -> None:
    server = vllm("vllm-embedding")
    server.convert = "classify"
    async with listening(server) as url:
        assert await observed(url, "Rerank") is Answer.ANSWERED


@pytest.mark.parametrize("runtime", ["VLLM", "TGI"])
async def test_probes_ports_metrics_and_open_paths_are_as_the_module_says(runtime: str) -> None:
    server, described = of(runtime), RUNTIMES[runtime]
    case = "vllm-cpu" if runtime == "VLLM" else "tgi-cpu"
    container = container_of(case)
    assert container["args"][container["args"].index("--port") + 1] == str(HTTP_PORT) == str(described.port)
    async with listening(server) as url, session() as opened:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            async with opened.get(url + container[probe]["httpGet"]["path"]) as answer:
                assert answer.status == 200
        async with opened.get(url + described.metrics.path) as answer:
            text = await answer.text()
        assert [name for name in names(described) if name not in text] == []
        for route in server.routes():
            async with opened.request(route.method, url + route.path, json={}) as answer:
                is_open = answer.status != 401
            assert is_open == is_said_open(described, route.method, route.path), f"{route.method} {route.path}"


def names(runtime: Runtime) -> list[str]:
    metrics = runtime.metrics
    told = (metrics.running, metrics.waiting, metrics.generated_tokens, metrics.prompt_tokens)
    return [name for name in (*told, metrics.cache_usage, metrics.first_token_seconds) if name]


def is_said_open(runtime: Runtime, method: str, path: str) -> bool:
    """TGI's / is open for its health alone: what generates there needs the key."""
    return path in runtime.open_paths and not (path == "/" and method == "POST")


@pytest.mark.parametrize(
    ("flag", "value"), [("--task", "embed"), ("--swap-space", "4"), ("--disable-log-requests", None)]
)
async def test_a_flag_of_another_version_ends_the_server(flag: str, value: str | None) -> None:
    container = container_of("vllm-cpu")
    args = [*container["args"], flag, *([value] if value is not None else [])]
    changed: Mapping[str, Any] = {**container, "args": args}
    with pytest.raises(LaunchError, match=f"unrecognized arguments: {flag}"):
        launch(changed, runtime="VLLM", version="0.32.0", secrets={"api-key": KEY})
