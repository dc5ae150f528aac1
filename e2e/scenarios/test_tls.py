# SPDX-License-Identifier: Apache-2.0
"""`tls.mode: OwnCA` on real pods: llama-server, retriever and gateway speak HTTPS, and ask each other so.

The chart is upgraded for this test and back after it: the setting is the whole installation's.
"""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import openai
import pytest

from e2e.support.answers import answers_of
from e2e.support.asking import Endpoint, ask, endpoint_of
from e2e.support.desk import (
    DOCS,
    HELPDESK,
    MODEL,
    SOURCE,
    Desk,
    docs_index,
    documents,
    embedder_manifest,
    questions,
)
from e2e.support.grounded import assistant_manifest, documents_manifest
from e2e.support.kube import Kube
from e2e.support.manifests import Manifest, model_manifest
from e2e.support.stack import Stack, upgrade
from e2e.support.wait import until
from nimblet import names

pytestmark = pytest.mark.timeout(600, func_only=True)
DOCUMENT = "vellmark-tram-tariff"
RENEWED_SECONDS = 120.0


@pytest.fixture
def secured(stack: Stack) -> Iterator[Stack]:
    """The installation with TLS in its pods; before the test's namespace, so that this goes first."""
    try:
        upgrade(stack, {"tls": {"mode": "OwnCA"}})
        yield stack
    finally:
        upgrade(stack, {})


def test_a_model_and_an_assistant_answer_over_https_alone(secured: Stack, namespace: str) -> None:
    kube, desk = secured.kube, Desk(secured.kube, namespace)
    runtime: Manifest = {"contextLength": 2048, "parallel": 1}
    for manifest in (
        documents_manifest(DOCS, namespace, documents(DOCUMENT)),
        embedder_manifest(namespace),
        model_manifest(MODEL, namespace, runtime=runtime),
        docs_index(namespace),
        assistant_manifest(HELPDESK, namespace, model=MODEL, indexes=[DOCS]),
    ):
        kube.apply(manifest)
    # Given a model that is Ready: the operator had a token of it over TLS that it verified
    model = kube.wait_condition(MODEL, namespace, wanted={"Ready": "True", "Serving": "True"}, seconds=180)
    host = names.service_host(names.server(MODEL), namespace)
    assert model.status.endpoint == f"https://{host}/v1"
    with endpoint_of(kube, MODEL, namespace) as endpoint:
        assert ask(endpoint, "Name the capital of France.", max_tokens=8).strip()
        nobody_else_is_answered(endpoint)
    # And an assistant over an index, each of which asks the next over TLS
    desk.settled()
    with answers_of(kube, HELPDESK, namespace) as answers:
        assert answers.endpoint.url.startswith("https://")
        nobody_else_is_answered(answers.endpoint)
        heard = [answers.ask(question.question) for question in questions(DOCUMENT)]
    assert any(
        citation.document.startswith(f"{SOURCE}/{DOCUMENT}") for answer in heard for citation in answer.citations
    )
    renewed(kube, namespace)


def nobody_else_is_answered(endpoint: Endpoint) -> None:
    """Who does not trust the authority ends the handshake; who speaks no TLS is not understood."""
    secure = endpoint.secure
    assert secure is not None
    with pytest.raises(openai.APIConnectionError) as refused:
        ask(replace(endpoint, secure=replace(secure, authorities=None)), "Hello")
    assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{endpoint.url.replace('https://', 'http://')}/health", timeout=10)


def renewed(kube: Kube, namespace: str) -> None:
    """A certificate that is made anew is shown by another pod: llama-server reads its own once."""
    before = {pod.metadata.uid for pod in kube.pods(namespace, model=MODEL, component="model")}
    with endpoint_of(kube, MODEL, namespace) as endpoint:
        secure = endpoint.secure
        assert secure is not None
        shown = secure.serial(endpoint.url)
        kube.run("delete", "secret", names.certificate(names.server(MODEL)), f"--namespace={namespace}")
        until(lambda: secure.serial(endpoint.url) != shown, what="another certificate", seconds=RENEWED_SECONDS)
        kube.wait_ready(MODEL, namespace)
        assert ask(endpoint, "Hello", max_tokens=4)
    ready = {pod.metadata.uid for pod in kube.pods(namespace, model=MODEL, component="model") if pod.ready}
    assert ready - before
