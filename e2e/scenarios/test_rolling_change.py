# SPDX-License-Identifier: Apache-2.0
"""Editing a model that serves: no request fails, and an edit that can't work leaves the old model answering."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
import openai

from e2e.models import GEMMA3_270M, SMOLLM2
from e2e.support.asking import TIMEOUT_SECONDS, Endpoint, ask, await_route, endpoint_of
from e2e.support.kube import Kube
from e2e.support.manifests import GEMMA_URI, model_manifest
from e2e.support.objects import Model, Pod
from e2e.support.stack import Stack
from e2e.support.watching import Watch, watch

NAME = "chat"
QUESTION = "Count the ships in the harbour."
PAUSE_SECONDS = 0.1
RESETS = frozenset({"ReadError", "WriteError", "RemoteProtocolError"})
"""Errors of a connection that broke, by name: which HTTP library raises them is the openai package's choice."""
T = TypeVar("T")


@dataclass
class Traffic:
    """What a looping client met."""

    answered: int = 0
    streamed: int = 0
    retried: int = 0
    failures: list[str] = field(default_factory=list)


class ResetBeforeFirstByteError(Exception):
    """A pooled connection was gone when it was used again: the server never saw the request."""


@contextmanager
def traffic(
    endpoint: Endpoint, *, key: Callable[[], str] | None = None, pause_seconds: float = PAUSE_SECONDS
) -> Iterator[Traffic]:
    """Ask in a loop, plainly and by streams, while the block runs; `key` gives the API key of each request."""
    await_route(endpoint.url)
    met, stop = Traffic(), threading.Event()
    current = key or (lambda: endpoint.api_key)

    def loop(ask_once: Callable[[openai.OpenAI, str], None], count: Callable[[], None]) -> None:
        with endpoint.client() as client:
            while not stop.wait(pause_seconds):
                client.api_key = current()
                try:
                    _retrying(lambda: ask_once(client, endpoint.model), met)
                except Exception as error:  # noqa: BLE001 - whatever it is, a user would have met it
                    met.failures.append(
                        f"{time.strftime('%X')} {type(error).__name__}: {error} ({error.__cause__!r})"
                    )
                else:
                    count()

    def count_answer() -> None:
        met.answered += 1

    def count_stream() -> None:
        met.streamed += 1

    threads = [
        threading.Thread(target=loop, args=(plain_request, count_answer), name="plain"),
        threading.Thread(target=loop, args=(streamed_request, count_stream), name="streams"),
    ]
    for thread in threads:
        thread.start()
    try:
        yield met
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _retrying(request: Callable[[], None], met: Traffic) -> None:
    """Do a request; one retry where the connection was reset before the first byte."""
    try:
        request()
    except ResetBeforeFirstByteError:
        met.retried += 1
        request()


def plain_request(client: openai.OpenAI, model: str) -> None:
    """Ask for a whole answer."""
    answer = _opened(
        lambda: client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": QUESTION}], max_tokens=8
        )
    )
    if answer.usage is None or answer.usage.completion_tokens < 1:
        raise ValueError(f"an answer without a token: {answer}")


def streamed_request(client: openai.OpenAI, model: str) -> None:
    """Ask for a stream and read it to its end."""
    stream = _opened(
        lambda: client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": QUESTION}], max_tokens=24, stream=True
        )
    )
    with stream:
        chunks = list(stream)
    if not chunks or chunks[-1].choices[0].finish_reason is None:
        raise ValueError(f"a stream without its end after {len(chunks)} chunks")


def _opened(send: Callable[[], T]) -> T:
    try:
        return send()
    except openai.APIConnectionError as error:
        if type(error.__cause__).__name__ in RESETS:
            raise ResetBeforeFirstByteError from error
        raise


def test_swapping_the_model_under_load_fails_no_request(stack: Stack, namespace: str) -> None:
    kube = stack.kube
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert loaded_file(endpoint) == before_and_after()[0]
        with (
            watch(stack.cluster, "pods", namespace) as pods,
            watch(stack.cluster, "compactmodels", namespace) as models,
            traffic(endpoint) as met,
        ):
            swap(kube, namespace)
            kube.wait_ready(NAME, namespace, seconds=180)
            kube.wait_alone(NAME, namespace)
            finish(met)
        assert loaded_file(endpoint) == before_and_after()[1]

    assert met.failures == []
    assert met.answered > 10
    assert met.streamed > 5
    assert {model.shown("Serving")[0] for model in versions(models)} <= {"True", ""}
    assert_old_pod_stayed_until_the_new_one_was_ready(pods)


def before_and_after() -> tuple[str, str]:
    return SMOLLM2.file, GEMMA3_270M.file


def swap(kube: Kube, namespace: str) -> None:
    """Edit the source, as one does in git: the whole spec again, with the other model."""
    kube.apply(model_manifest(NAME, namespace, uri=GEMMA_URI))


def finish(met: Traffic) -> None:
    """Let some more requests reach the new pods alone."""
    enough = met.answered + 5
    while met.answered < enough and not met.failures:
        time.sleep(PAUSE_SECONDS)


def loaded_file(endpoint: Endpoint) -> str:
    """Return the file that the server loaded, by its own word."""
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    answer = httpx.get(f"{endpoint.url}/props", headers=headers, timeout=TIMEOUT_SECONDS)
    return str(answer.raise_for_status().json()["model_path"]).rpartition("/")[2]


def versions(watched: Watch) -> list[Model]:
    return [Model.model_validate(item.body) for item in watched.sightings]


def assert_old_pod_stayed_until_the_new_one_was_ready(watched: Watch) -> None:
    """In the order of sightings: the second server pod is ready before the first one is told to go."""
    seen = [(item.seen_at, Pod.model_validate(item.body)) for item in watched.sightings]
    servers = [(at, pod) for at, pod in seen if pod.metadata.labels.get("app.kubernetes.io/component") == "model"]
    names = list(dict.fromkeys(pod.metadata.name for _, pod in servers))
    assert len(names) == 2, names
    old = [(at, pod) for at, pod in servers if pod.metadata.name == names[0]]
    told_to_go = min(at for at, pod in old if pod.metadata.deletion_timestamp)
    ready = min(at for at, pod in servers if pod.metadata.name == names[1] and pod.ready)
    assert ready <= told_to_go


def test_broken_edit_keeps_the_old_model_serving_and_the_fix_heals(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    before = [(pod.metadata.uid, pod.restarts) for pod in kube.pods(namespace, model=NAME, component="model")]

    kube.apply(model_manifest(NAME, namespace, uri="hf://nobody/no-such-model"))
    wanted = {"Serving": "True", "Ready": "UpdateFailed", "Stalled": "True"}
    broken = kube.wait_condition(NAME, namespace, wanted=wanted, seconds=120)
    assert broken.shown("Ready") == ("False", "UpdateFailed")
    assert broken.shown("Stalled") == ("True", "RepositoryNotFound")
    message = broken.condition("Ready")
    assert message is not None
    assert "Correct source.uri" in message.message
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, QUESTION, max_tokens=8)

    kube.apply(model_manifest(NAME, namespace))
    healed = kube.wait_ready(NAME, namespace)
    assert healed.condition("Stalled") is None
    after = [(pod.metadata.uid, pod.restarts) for pod in kube.pods(namespace, model=NAME, component="model")]
    assert after == before
