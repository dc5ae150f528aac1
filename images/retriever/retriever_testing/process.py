# SPDX-License-Identifier: Apache-2.0
"""The retriever as a process on loopback, and ASGI applications beside it: for tests that need real HTTP."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from starlette.applications import Starlette

from e2e.cluster.controlplane import free_ports
from nimblet_tls.folder import TLSFolder
from nimblet_tls.serving import Place, server_at

START_SECONDS = 100
"""A process may take a minute to start where the machine is busy."""
ASK_SECONDS = 5


def free_port() -> int:
    """Return a port of loopback that nobody has."""
    return free_ports(1)[0]


@contextmanager
def serving(app: Starlette, *, tls: Path | None = None) -> Iterator[str]:
    """Serve an application in a thread; yield its address. `tls`: the folder with its certificate."""
    port = free_port()
    folder = TLSFolder(tls) if tls is not None else None
    server = server_at(Place(host="127.0.0.1", port=port, tls=folder), app)
    url = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(f"{url}/", tls=tls)
        yield url
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def retriever(config: Path, *, port: int, tls: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the retriever with a configuration until the block ends. `tls`: the folder with its certificate."""
    command = [sys.executable, "-m", "nimblet_retriever", "--config", str(config), "--host", "127.0.0.1"]
    command += ["--tls", str(tls)] if tls is not None else []
    url = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
    with subprocess.Popen([*command, "--port", str(port)]) as process:
        try:
            wait_for(f"{url}/livez", tls=tls)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def wait_for(url: str, *, tls: Path | None = None) -> None:
    """Wait until something answers there."""
    context = TLSFolder(tls).client() if tls is not None else None
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=ASK_SECONDS, context=context):  # noqa: S310 - loopback
                return
        except HTTPError as answer:  # an answer all the same
            answer.close()
            return
        except (OSError, HTTPException):  # nobody listens yet, or is too busy to answer in time
            time.sleep(0.05)
    raise TimeoutError(f"nothing answered at {url} within {START_SECONDS} s")


def write_config(folder: Path, *, embedding_url: str, keys: Mapping[str, object]) -> Path:
    """Write a retriever's configuration and key file into a folder."""
    (folder / "keys.json").write_text(json.dumps(keys))
    config = {
        "version": 1,
        "index": "docs",
        "store": {"type": "Embedded", "folder": str(folder / "index"), "reserveBytes": 0},
        "embedding": {"url": f"{embedding_url}/v1", "model": "m", "fingerprint": "digest@1"},
        "keysFile": str(folder / "keys.json"),
    }
    path = folder / "retriever.json"
    path.write_text(json.dumps(config))
    return path
