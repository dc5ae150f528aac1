# SPDX-License-Identifier: Apache-2.0
"""llama-server itself with its options for TLS, told as the operator tells it, with a certificate of ours.

No cluster: the server as the pods run it, on loopback.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import pytest

from e2e.cluster.paths import cache_of
from e2e.images.llamaserver import ensure_llama_server
from e2e.models import SMOLLM2, model_path
from e2e.support.asking import Endpoint, ask
from e2e.support.secure import Secure
from e2e.support.wait import until
from nimblet.cluster.pki import bundle_of
from nimblet.manifests.transport import ARGUMENTS, TLS_DIR
from retriever_testing.process import free_port
from tls_testing.mounted import MountedSecret, new_authority

pytestmark = pytest.mark.timeout(900)
HOST = "smollm2-model.team.svc"
START_SECONDS = 240.0


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """SmolLM2 behind a server that speaks TLS."""
    cache, folder, port = cache_of(os.environ), tmp_path_factory.mktemp("llama"), free_port()
    binary = ensure_llama_server(cache.root, log=cache.logs / "image-llamacpp.log")
    secret, authority = MountedSecret(folder / "tls", host=HOST), new_authority()
    secret.mount(authority)
    tls = [argument.replace(TLS_DIR, str(secret.folder)) for argument in ARGUMENTS["LlamaCpp"]]
    argv = [str(binary), "--model", str(model_path(SMOLLM2.name)), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--ctx-size", "256", "--parallel", "1", "--api-key", "nk-1", *tls]
    secure = Secure(host=HOST, authorities=bundle_of([authority]))
    found = Endpoint(url=f"https://127.0.0.1:{port}", api_key="nk-1", model="smollm2", secure=secure)
    log = folder / "log"
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as process:
        try:
            until(lambda: _answers(found), what="an answer", seconds=START_SECONDS, seen=lambda: _end(log))
            yield found
        finally:
            process.terminate()


def _answers(endpoint: Endpoint) -> bool:
    try:
        return bool(ask(endpoint, "Hello", max_tokens=1))
    except (openai.APIConnectionError, openai.InternalServerError):
        return False  # it does not listen yet, or loads


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def test_llama_server_answers_who_verifies_it_and_nobody_in_plaintext(endpoint: Endpoint) -> None:
    assert ask(endpoint, "Name the capital of France.", max_tokens=8).strip()
    secure = endpoint.secure
    assert secure is not None
    for stranger in (replace(secure, authorities=None), replace(secure, host="other-model.team.svc")):
        with pytest.raises(openai.APIConnectionError) as refused:
            ask(replace(endpoint, secure=stranger), "Hello")
        assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__), refused.value.__cause__
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{endpoint.url.replace('https://', 'http://')}/health", timeout=30)
