# SPDX-License-Identifier: Apache-2.0
"""A LoRA adapter beside a real model: chosen per request, refused where it was changed, put right, and cached."""

import json

import httpx

from e2e import adapter
from e2e.models import SMOLLM2
from e2e.scenarios.test_cache import NAME, SHARED, cached_manifest, egress, meddle, server
from e2e.support.asking import TIMEOUT_SECONDS, Endpoint, endpoint_of
from e2e.support.kube import Kube
from e2e.support.manifests import Manifest
from e2e.support.stack import Stack
from e2e.support.wait import until

ADAPTER = "parrot"
QUESTION = "What is the capital of France?"


PINNED: Manifest = {"integrity": {"sha256": {adapter.FILE: adapter.SHA256}}}
"""The digest of the sound file."""
FLIP = (
    "import pathlib\n"
    f"path = next(pathlib.Path('/models').glob('*/{adapter.FILE}'))\n"
    "with path.open('r+b') as file:\n"
    "    file.seek(-1, 2); byte = file.read(1)\n"
    "    file.seek(-1, 2); file.write(bytes([byte[0] ^ 1]))\n"
)
"""Changes the adapter's last byte."""


def adapters(repo: str, **fields: object) -> Manifest:
    """Return the spec's adapters: one."""
    return {"adapters": [{"name": ADAPTER, "source": {"uri": f"hf://{repo}"}, **fields}]}


def answer(endpoint: Endpoint, **extra: object) -> str:
    """Return what the model says to the question at temperature 0, with further fields of the request."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 12, "temperature": 0, **extra}
    told = httpx.post(
        f"{endpoint.url}/v1/chat/completions",
        json=body,
        headers={"Authorization": f"Bearer {endpoint.api_key}"},
        timeout=TIMEOUT_SECONDS,
    )
    return str(told.raise_for_status().json()["choices"][0]["message"]["content"])


def test_adapter_is_chosen_per_request_and_a_changed_one_refused(kube: Kube, namespace: str) -> None:
    kube.apply(cached_manifest(namespace, {}))
    kube.wait_ready(NAME, namespace)
    with endpoint_of(kube, NAME, namespace) as endpoint:
        alone = answer(endpoint)

        kube.patch("compactmodel", NAME, namespace, merge={"spec": adapters(adapter.TAMPERED_REPO, **PINNED)})
        told = kube.wait_condition(
            NAME, namespace, wanted={"Verified": "DigestMismatch", "Ready": "UpdateFailed"}, seconds=120
        )
        ready = told.condition("Ready")
        assert ready is not None
        assert f"Adapter {ADAPTER}: " in ready.message
        assert told.shown("Serving")[0] == "True"
        assert answer(endpoint) == alone, "the model without the adapter serves on"

        kube.patch("compactmodel", NAME, namespace, merge={"spec": adapters(SMOLLM2.repo)})
        kube.wait_condition(NAME, namespace, wanted={"Resolved": "NotAnAdapter"}, seconds=120)

        kube.patch("compactmodel", NAME, namespace, merge={"spec": adapters(adapter.REPO, **PINNED)})
        model = kube.wait_ready(NAME, namespace)
        kube.wait_alone(NAME, namespace)  # the server of before knows no adapter
        [status] = model.status.adapters or []
        assert (status.name, status.sha256, status.rank) == (ADAPTER, adapter.SHA256, adapter.RANK)
        chosen = json.loads(status.request)
        texts = [answer(endpoint), answer(endpoint, **chosen), answer(endpoint)]
    print(f"\nalone {alone!r}, with the adapter {texts[1]!r}")
    assert texts[0] == texts[2] == alone, "without a choice the model itself answers"
    assert texts[1] != alone


def test_a_cached_adapter_that_another_pod_changed_is_found_and_healed_alone(stack: Stack, namespace: str) -> None:
    kube = stack.kube
    kube.apply(cached_manifest(namespace, {**SHARED, **adapters(adapter.REPO, **PINNED), "replicas": 0}))
    until(lambda: filled(kube, namespace) == [1, 1], what="both folders filled, before any pod", seconds=120)
    meddle(stack, namespace, FLIP)
    kube.patch("compactmodel", NAME, namespace, merge={"spec": {"replicas": 1}})
    kube.wait_ready(NAME, namespace)  # it answers, and its server lists the adapter
    assert filled(kube, namespace) == [1, 2], "the adapter's folder was filled again, and it alone"
    until(lambda: egress(kube, namespace) == [], what="no egress once the last fetching pod is gone", seconds=120)
    volumes = {str(volume["name"]) for volume in server(kube, namespace).spec.volumes}
    assert volumes == {"artifact", f"artifact-{ADAPTER}", "models", "key", "tmp"}


def filled(kube: Kube, namespace: str) -> list[int]:
    """Return which try filled each folder, of all that the status tells."""
    cache = kube.model(NAME, namespace).status.cache
    if cache is None or not cache.further_folders:
        return []
    names = [child.metadata.name for child in kube.children(namespace, NAME) if child.kind == "Job"]
    return sorted(int(name.rpartition("-")[2]) for name in names if "-fill-" in name)
