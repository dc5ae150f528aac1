# SPDX-License-Identifier: Apache-2.0
"""The argument list of llama.cpp that tests hold flags against is the one that the built server prints.

No cluster: the server is asked for its help, and started with the flags that a spec may name.
"""

import os
import subprocess
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.cluster.paths import cache_of
from e2e.images.llamaserver import ensure_llama_server
from e2e.models import model_path
from nimblet.api.modelruntime import MAX_EXTRA_ARGS
from nimblet.plan.runtime.allowed import ALLOWED, Allowed, Fraction, Whole, Words
from nimblet.plan.runtime.extraargs import words
from nimblet.plan.runtime.flags import FLAGS
from nimblet.plan.runtime.llamacpp import LLAMACPP
from nimblet.quantity import MEBIBYTE
from tests.arguments import published, read_help
from tests.bench.localserver import API_KEY, LocalServer, run_server
from tests.builders import a_model, base_facts, child, plan_of

pytestmark = pytest.mark.timeout(900)


def values(item: Allowed) -> list[str]:
    """Return the edges of what may follow a flag, or every word."""
    match item.values:
        case None:
            return [item.name]
        case Whole(least=least, most=most) | Fraction(least=least, most=most):
            return [
                f"{item.name}={least:g}" if isinstance(least, float) else f"{item.name}={least}",
                f"{item.name}={most}",
            ]
        case Words(words=known):
            return [f"{item.name}={word}" for word in known]


def test_the_built_server_takes_every_flag_of_a_spec_with_the_values_at_its_bounds() -> None:
    """It reads its arguments in order, and --version ends it once those before were taken."""
    cache = cache_of(os.environ)
    binary = ensure_llama_server(cache.root, log=cache.logs / "image-llamacpp.log")
    asked = [value for item in ALLOWED["LlamaCpp"] for value in values(item)]
    done = subprocess.run(
        [binary, *words(asked), "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wrong = subprocess.run([binary, "--numa", "none", "--version"], capture_output=True, timeout=60, check=False)
    assert wrong.returncode != 0, "expected a wrong value before --version to end the server"


def told(asked: Sequence[str]) -> list[str]:
    """Return the argv of a pod whose spec names these flags."""
    model = a_model(runtime={"name": "LlamaCpp", "contextLength": 512, "extraArgs": list(asked) or None})
    deployment = child(plan_of(model, base_facts(model)).children, "Deployment")
    args: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


def answer(server: LocalServer) -> dict[str, Any]:
    """Return what requests get that name nothing themselves; the server has answered one by then."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    replied = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=120)
    assert replied.status_code == HTTPStatus.OK, replied.text
    assert replied.json()["usage"]["completion_tokens"] >= 1
    shown = httpx.get(f"{server.url}/props", headers=headers, timeout=30).json()
    params: dict[str, Any] = shown["default_generation_settings"]["params"]
    return params


def tried(asked: Sequence[str], folder: Path) -> tuple[int, dict[str, Any]]:
    """Run a server with these flags: the most memory that it held, and what it answered by."""
    cache = cache_of(os.environ)
    binary = ensure_llama_server(cache.root, log=cache.logs / "image-llamacpp.log")
    with run_server(binary, told(asked), model=model_path("smollm2"), folder=folder) as server:
        params = answer(server)
    return server.peak.peak_bytes, params


def test_servers_that_are_given_every_flag_answer_and_hold_no_more_memory(tmp_path: Path) -> None:
    most = [values(item)[-1] for item in ALLOWED["LlamaCpp"]]
    plain, _ = tried([], tmp_path)
    sampled, params = tried(most[:MAX_EXTRA_ARGS], tmp_path)
    others, _ = tried(most[MAX_EXTRA_ARGS:], tmp_path)
    # what a request does not name is what the spec says
    assert (params["temperature"], params["top_k"], params["seed"]) == (2.0, 1000, 2_147_483_647)
    assert max(sampled, others) <= plain + 16 * MEBIBYTE, f"bytes without and with flags: {plain, sampled, others}"


def test_the_built_server_publishes_the_flags_of_the_list() -> None:
    cache = cache_of(os.environ)
    binary = ensure_llama_server(cache.root, log=cache.logs / "image-llamacpp.log")
    done = subprocess.run([binary, "--help"], capture_output=True, text=True, timeout=60, check=True)
    printed = read_help(done.stdout)
    assert printed == published("LlamaCpp", LLAMACPP.pinned)
    ours = {flag.name: not flag.switch for flag in FLAGS["LlamaCpp"] if flag.since}
    assert ours.items() <= printed.items()
