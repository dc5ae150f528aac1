# SPDX-License-Identifier: Apache-2.0
"""The program as a process: starts, answers its probe, ends on SIGTERM, and tells what is wrong."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nimblet_retriever.store.layout import Layout
from retriever_testing.process import free_port, wait_for

START_SECONDS = 45


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
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=START_SECONDS)
        # uvicorn raises the signal again when it has drained
        assert process.returncode in (0, -signal.SIGTERM)


def test_folder_of_another_retriever_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "index")
    with program("--config", str(config(tmp_path)), "--port", "0") as process:
        _, told = process.communicate(timeout=START_SECONDS)
    layout.release()
    assert process.returncode == 1
    assert "one retriever" in told


@pytest.mark.parametrize("changes", [{"unknown": 1}, {"version": 2}, {"store": {"type": "Redis"}}])
def test_wrong_configuration_is_named(tmp_path: Path, changes: dict[str, object]) -> None:
    with program("--config", str(config(tmp_path, **changes))) as process:
        _, told = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 2
    assert next(iter(changes)) in told
