# SPDX-License-Identifier: Apache-2.0
"""A real registry on loopback: the distribution project's server as a process, with or without a login."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from e2e.cluster import toolchain
from e2e.cluster.controlplane import free_ports
from e2e.cluster.paths import cache_of
from e2e.cluster.progress import Progress
from e2e.cluster.tools import REGISTRY

USER, PASSWORD = "reader", "s3cret-pass"
_BCRYPT = "$2b$05$I53H5PsH7CDBSIWy31d.S.AZizYAcXwU6iTB.IpY007y.6IC8P0yy"
"""The password as the registry's password file wants it."""
_START_SECONDS = 90.0


@contextmanager
def serving_registry(folder: Path, *, login: bool) -> Iterator[str]:
    """Run a registry inside the block; yield `http://127.0.0.1:port`. The first use builds the program."""
    cache = cache_of(os.environ)
    toolchain.ensure((REGISTRY,), cache=cache, progress=Progress())
    (port,) = free_ports(1)
    configuration: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if login:
        (folder / "users").write_text(f"{USER}:{_BCRYPT}\n", encoding="utf-8")
        configuration["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "users")}}
    settings = folder / "registry.json"  # JSON is YAML
    settings.write_text(json.dumps(configuration), encoding="utf-8")
    argv = [str(REGISTRY.path(cache)), "serve", str(settings)]
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
        try:
            _wait(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait(base: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            httpx.get(f"{base}/v2/")
        except httpx.TransportError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return
