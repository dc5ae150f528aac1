# SPDX-License-Identifier: Apache-2.0
"""The program as a process: starts, answers its probe, ends on SIGTERM, and tells what is wrong."""

import hashlib
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

from nimblet_retriever.store.layout import Layout
from retriever_testing.otlp import Receiver
from retriever_testing.process import START_SECONDS, free_port, serving, wait_for

pytestmark = pytest.mark.timeout(240)


def config(folder: Path, **changes: object) -> Path:
    """Write a configuration and return its path."""
    values = {
        "version": 1,
        "index": "docs",
        "store": {"type": "Embedded", "folder": str(folder / "index"), "reserveBytes": 0},
        "embedding": {"url": "http://127.0.0.1:1/v1", "model": "m", "fingerprint": "x"},
        "keysFile": str(folder / "keys.json"),
        **changes,
    }
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return path


@contextmanager
def program(*args: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the program and end it."""
    command = [sys.executable, "-m", "nimblet_retriever", *args]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_starts_answers_and_ends(tmp_path: Path) -> None:
    port = free_port()
    with program("--config", str(config(tmp_path)), "--host", "127.0.0.1", "--port", str(port)) as process:
        wait_for(f"http://127.0.0.1:{port}/livez")
        for path in ("livez", "readyz", "metrics"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=START_SECONDS) as answer:
                assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=START_SECONDS)
        assert process.returncode == 0


def test_last_spans_are_sent_before_it_ends(tmp_path: Path) -> None:
    receiver = Receiver()
    with serving(receiver.app()) as endpoint:
        settings = config(tmp_path, tracing={"endpoint": endpoint})
        port = free_port()
        with program("--config", str(settings), "--host", "127.0.0.1", "--port", str(port)) as process:
            wait_for(f"http://127.0.0.1:{port}/livez")
            # a request that is refused is a span, too; a batch of them would leave seconds later
            refused = httpx.get(f"http://127.0.0.1:{port}/v1/status", timeout=START_SECONDS)
            assert refused.status_code == httpx.codes.UNAUTHORIZED
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=START_SECONDS)
    assert process.returncode == 0
    assert [span.name for span in receiver.spans] == ["GET /v1/status"]


@pytest.mark.asyncio
async def test_protocols_own_client_connects_to_the_process(tmp_path: Path) -> None:
    # Given a process with a key for searches and a receiver of traces that is away
    digest = hashlib.sha256(b"key").hexdigest()
    key = {"id": "reader", "sha256": digest, "scopes": ["search"], "access": ["public"]}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key]}))
    settings = config(tmp_path, tracing={"endpoint": "http://127.0.0.1:1"})
    port = free_port()
    with program("--config", str(settings), "--host", "127.0.0.1", "--port", str(port)) as process:
        wait_for(f"http://127.0.0.1:{port}/livez")
        # When the client connects over the network, then it sees the tool, and what its call comes to
        async with (
            httpx2.AsyncClient(headers={"Authorization": "Bearer key"}, timeout=START_SECONDS) as http,
            Client(streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)) as client,
        ):
            assert [tool.name for tool in (await client.list_tools()).tools] == ["search"]
            result = await client.call_tool("search", {"query": "zebra"})
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=START_SECONDS)
    # And the index without a generation is told, and the question is in no log
    assert result.is_error
    assert isinstance(result.content[0], TextContent)
    assert result.content[0].text.startswith("IndexEmpty")
    assert "zebra" not in told


def test_folder_of_another_retriever_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "index")
    with program("--config", str(config(tmp_path)), "--port", "0") as process:
        _, told = process.communicate(timeout=START_SECONDS)
    layout.release()
    assert process.returncode == 1
    assert "one retriever" in told


def test_server_that_can_not_be_used_leaves_its_reason(tmp_path: Path) -> None:
    result = tmp_path / "termination-log"
    result.touch()  # the kubelet makes it
    store = {"type": "Server", "url": f"http://127.0.0.1:{free_port()}", "prefix": "docs"}
    with program("--config", str(config(tmp_path, store=store)), "--result", str(result)) as process:
        process.communicate(timeout=START_SECONDS)
    assert process.returncode == 1
    told = json.loads(result.read_text())
    assert (told["version"], told["error"]["reason"]) == (1, "StoreUnavailable")
    assert "did not answer (ConnectError)" in told["error"]["message"]


@pytest.mark.parametrize("changes", [{"unknown": 1}, {"version": 2}, {"store": {"type": "Redis"}}])
def test_wrong_configuration_is_named(tmp_path: Path, changes: dict[str, object]) -> None:
    with program("--config", str(config(tmp_path, **changes))) as process:
        _, told = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 2
    assert next(iter(changes)) in told
