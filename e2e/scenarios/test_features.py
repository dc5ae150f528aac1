# SPDX-License-Identifier: Apache-2.0
"""Where a model runs, how it is called, stopped, restarted and opened: each seen from a client's side."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import openai
import pytest
from pydantic import BaseModel

from e2e.models import SMOLLM2
from e2e.scenarios.test_rolling_change import QUESTION, finish, traffic
from e2e.support.asking import TIMEOUT_SECONDS, Endpoint, ask, endpoint_of
from e2e.support.kube import Kube
from e2e.support.manifests import GEMMA_URI, SMOLLM2_URI, SPLIT_URI, Manifest, model_manifest
from e2e.support.wait import until
from nimblet import labels, names
from nimblet.manifests.configuration import API_KEY

NAME = "chat"
POOL = "e2e.example.com/pool"
SERVED = "team/assistant:1"
PASSING = {"Pod", "ReplicaSet", "Job"}
GRACE_SECONDS = 20
OWN_KEY = "own-key-of-the-team"
RUNTIME = {"contextLength": 1024, "parallel": 1}


def config_map(namespace: str, text: str) -> Manifest:
    metadata = {"name": "prompts", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"chat.jinja": text}}


def own_keys(namespace: str) -> Manifest:
    metadata = {"name": "team-keys", "namespace": namespace, "labels": {labels.USE: "true"}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "data": {"api-keys": base64.b64encode(f"# ours\n{OWN_KEY}\n".encode()).decode()},
    }


@contextmanager
def pool(kube: Kube) -> Iterator[None]:
    """Label the first node as a pool while the block runs."""
    node = kube.run("get", "nodes", "--output=name").splitlines()[0]
    kube.run("label", node, f"{POOL}=models", "--overwrite")
    try:
        yield
    finally:
        kube.run("label", node, f"{POOL}-")


def prompt_of(endpoint: Endpoint) -> str:
    """Return the prompt that the server makes of a message, by its own word."""
    answer = httpx.post(
        f"{endpoint.url}/apply-template",
        headers={"Authorization": f"Bearer {endpoint.api_key}"},
        json={"messages": [{"role": "user", "content": "ships"}]},
        timeout=TIMEOUT_SECONDS,
    )
    return str(answer.raise_for_status().json()["prompt"])


def test_pool_name_and_chat_template(kube: Kube, namespace: str) -> None:
    template = {"name": "prompts", "key": "chat.jinja"}
    scheduling = {"nodeSelector": {POOL: "models"}, "podLabels": {"team": "blue"}}
    manifest = model_manifest(
        NAME,
        namespace,
        runtime={**RUNTIME, "chatTemplate": template},
        scheduling=scheduling,
        servedModelName=SERVED,
    )
    kube.apply(manifest)
    kube.wait_condition(NAME, namespace, wanted={"Ready": "Unschedulable", "Stalled": "True"}, seconds=120)

    with pool(kube):
        told = kube.wait_condition(NAME, namespace, wanted={"Ready": "ConfigMapMissing"}, seconds=90)
        condition = told.condition("Ready")
        assert condition is not None
        assert condition.message.startswith(f"ConfigMap prompts is not in namespace {namespace}.")
        assert kube.pods(namespace, model=NAME, component="model") == []

        kube.apply(config_map(namespace, "first: {{ messages[0].content }}"))
        kube.wait_ready(NAME, namespace)
        assert [pod.metadata.labels["team"] for pod in kube.pods(namespace, model=NAME, component="model")] == [
            "blue"
        ]
        with endpoint_of(kube, NAME, namespace) as endpoint:
            assert prompt_of(endpoint) == "first: ships"
            with endpoint.client() as client:
                assert [item.id for item in client.models.list()] == [SERVED]
            kube.apply(config_map(namespace, "second: {{ messages[0].content }}"))
            until(lambda: prompt_of(endpoint) == "second: ships", what="the edited template", seconds=90)


def test_restart_and_rotation_under_load_fail_no_request(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    with endpoint_of(kube, NAME, namespace) as endpoint:
        with traffic(endpoint) as met:
            restart(kube, namespace)
            finish(met)
        assert met.failures == []

        kube.apply(own_keys(namespace))
        with published_key(kube, namespace) as read:
            with traffic(endpoint, key=read) as fresh:
                # the old key alone has a grace, which is not for the fresh one to use up on a busy machine
                with traffic(endpoint) as old:
                    access = {
                        "keyVersion": 2,
                        "keyGraceSeconds": GRACE_SECONDS,
                        "apiKeysSecretRef": {"name": "team-keys"},
                    }
                    kube.patch("compactmodel", NAME, namespace, merge={"spec": {"access": access}})
                    until(lambda: read() != endpoint.api_key, what="the new key in the Secret", seconds=90)
                    finish(old)
                finish(fresh)
            with traffic(endpoint, key=read) as after:
                kube.wait_ready(NAME, namespace, seconds=120)
                # a pod of the grace opens for the old key until it has drained
                kube.wait_alone(NAME, namespace)
                finish(after)
            new = Endpoint(url=endpoint.url, api_key=read(), model=NAME)
        assert old.failures + fresh.failures + after.failures == []
        assert_opens(new)
        assert_opens(Endpoint(url=endpoint.url, api_key=OWN_KEY, model=NAME))
        with pytest.raises(openai.AuthenticationError):
            ask(endpoint, QUESTION, max_tokens=4)
        print(
            f"\nanswered during restart {met.answered + met.streamed}, during rotation "
            f"{sum(item.answered + item.streamed for item in (old, fresh, after))}"
        )


def restart(kube: Kube, namespace: str) -> None:
    """Ask for a restart by the annotation, and wait until another pod serves alone."""
    before = {pod.metadata.uid for pod in kube.pods(namespace, model=NAME, component="model")}
    kube.run("annotate", "compactmodel", NAME, f"--namespace={namespace}", f"{labels.RESTARTED_AT}=2026-01-02")

    def replaced() -> bool:
        now = {pod.metadata.uid for pod in kube.pods(namespace, model=NAME, component="model")}
        return bool(now) and not now & before

    until(replaced, what="other pods", seconds=90)
    kube.wait_ready(NAME, namespace)


@contextmanager
def published_key(kube: Kube, namespace: str) -> Iterator["Reader"]:
    """Give the key that the Secret holds, read anew every second as a careful client does."""
    reader = Reader(kube, namespace)
    thread = threading.Thread(target=reader.run, name="secret")
    thread.start()
    try:
        yield reader
    finally:
        reader.stop.set()
        thread.join()


class Reader:
    """Reads the key Secret until stopped; calling it gives the last key."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube, self.namespace = kube, namespace
        self.stop = threading.Event()
        self.key = self.read()

    def read(self) -> str:
        return self.kube.secret_value(names.api_key(NAME), API_KEY, self.namespace)

    def run(self) -> None:
        while not self.stop.wait(1.0):
            self.key = self.read()

    def __call__(self) -> str:
        return self.key


def assert_opens(endpoint: Endpoint) -> None:
    assert ask(endpoint, QUESTION, max_tokens=4)


def test_suspended_model_stops_and_comes_back(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    children = {item.key for item in kube.children(namespace, NAME) if item.kind not in PASSING}

    kube.patch("compactmodel", NAME, namespace, merge={"spec": {"suspend": True}})
    told = kube.wait_condition(NAME, namespace, wanted={"Serving": "Suspended", "Ready": "Suspended"}, seconds=120)
    assert told.condition("Stalled") is None
    until(lambda: not kube.pods(namespace, model=NAME), what="no pod", seconds=120)
    assert {item.key for item in kube.children(namespace, NAME) if item.kind not in PASSING} == children

    kube.patch("compactmodel", NAME, namespace, merge={"spec": {"suspend": None}})
    kube.wait_ready(NAME, namespace)
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert_opens(endpoint)


REPEATING = (
    "Repeat these words: red, green, blue, yellow, red, green, blue, yellow, red, green, blue, yellow, red, green"
)

NO_NGRAM: Manifest = {"draftTokens": None, "ngramSize": None}


class Timings(BaseModel):
    """What llama.cpp tells of a request, beside the times."""

    draft_n: int = 0
    draft_n_accepted: int = 0


def told(endpoint: Endpoint) -> tuple[str, Timings]:
    """Return a text that repeats itself, as the Service gives it at temperature 0, and what was guessed of it."""
    body: Manifest = {
        "messages": [{"role": "user", "content": REPEATING}],
        "max_tokens": 32,
        "temperature": 0,
    }
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    url = f"{endpoint.url}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=headers, timeout=TIMEOUT_SECONDS).raise_for_status().json()
    return str(answer["choices"][0]["message"]["content"]), Timings.model_validate(answer["timings"])


def set_runtime(kube: Kube, namespace: str, **fields: object) -> None:
    """Edit the runtime and wait until pods of that alone are there; a None takes a field away."""
    kube.patch("compactmodel", NAME, namespace, merge={"spec": {"runtime": fields}})
    kube.wait_ready(NAME, namespace)
    kube.wait_alone(NAME, namespace)


def test_a_split_model_with_small_caches_guesses_ahead(kube: Kube, namespace: str) -> None:
    source: Manifest = {"quantization": "Q4_1"}
    runtime: Manifest = {**RUNTIME, "kvCacheType": "q4_0"}
    kube.apply(model_manifest(NAME, namespace, uri=SPLIT_URI, source=source, runtime=runtime))
    model = kube.wait_ready(NAME, namespace)
    resolved = model.condition("Resolved")
    assert resolved is not None
    assert "3 file(s)" in resolved.message
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert_opens(endpoint)
        set_runtime(kube, namespace, kvCacheType="q8_0")
        plain, timings = told(endpoint)
        assert timings.draft_n == 0
        set_runtime(kube, namespace, speculative={"type": "NGram", "draftTokens": 8, "ngramSize": 3})
        text, timings = told(endpoint)
        assert text == plain
        assert 0 < timings.draft_n_accepted <= timings.draft_n
        set_runtime(kube, namespace, speculative={"type": "Draft", "source": {"uri": SMOLLM2_URI}, **NO_NGRAM})
        text, timings = told(endpoint)
        assert text == plain
        assert 0 < timings.draft_n_accepted <= timings.draft_n
        sizing = kube.model(NAME, namespace).status.sizing
        assert sizing is not None
        assert (sizing.draft_bytes or 0) > SMOLLM2.size_bytes // 2

        other: Manifest = {"spec": {"runtime": {"speculative": {"source": {"uri": GEMMA_URI}}}}}
        kube.patch("compactmodel", NAME, namespace, merge=other)
        refused = kube.wait_condition(NAME, namespace, wanted={"Stalled": "DraftMismatch"}, seconds=90)
        assert refused.shown("Serving") == ("True", "Answering")
