# SPDX-License-Identifier: Apache-2.0
"""A real llama-server on loopback with exactly the argv that the operator renders, paths and address apart.

It must not choose any option itself: what differs from the pod's argv stands in `local_args`.
"""

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from nimblet.manifests.loader import ADAPTERS_DIR
from nimblet.quantity import MEBIBYTE

API_KEY = "bench-key"
SAMPLE_SECONDS = 0.02
START_SECONDS = 120.0

_ANONYMOUS = re.compile(r"^Anonymous:\s+(\d+) kB$", re.MULTILINE)
_REPACKED = re.compile(r"REPACK model buffer size =\s+([0-9.]+) MiB")


class BenchError(Exception):
    """A figure could not be taken; the message says why."""


@dataclass(frozen=True, kw_only=True)
class LocalServer:
    """A server that answers; `seconds_to_ready` counts from the start of the process."""

    pid: int
    url: str
    log: Path
    seconds_to_ready: float
    peak: "PeakSampler"

    def repacked_bytes(self) -> int:
        """Return how many bytes of weights it copied into another layout, by its own log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return int(sum(float(found) for found in _REPACKED.findall(text)) * MEBIBYTE)


class PeakSampler:
    """Follows the anonymous memory of a process: `peak_bytes` is the highest sample so far."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._path = Path(f"/proc/{pid}/smaps_rollup")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peak", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End with a last sample: on a busy machine the one before may be old."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._sample()
        self._sample()

    def _sample(self) -> None:
        try:
            found = _ANONYMOUS.search(self._path.read_text(encoding="ascii"))
        except (FileNotFoundError, ProcessLookupError):
            return  # the process ended by itself; whoever waits for it says so
        if found is not None:
            self.peak_bytes = max(self.peak_bytes, int(found[1]) * 1024)


def local_args(args: Sequence[str], *, model: Path, key_file: Path, port: int) -> list[str]:
    """Return the pod's argv with paths and address of this machine in place of the pod's."""
    here = {
        "--model": str(model),
        "--api-key-file": str(key_file),
        "--host": "127.0.0.1",
        "--port": str(port),
    }
    missing = here.keys() - set(args)
    if missing:
        raise BenchError(f"expected the rendered argv to hold {', '.join(sorted(missing))}; it does not")
    return [here.get(before, part) for before, part in zip(("", *args), args, strict=False)]


def local_files(args: Sequence[str], *, adapters: Path, draft: Path) -> list[str]:
    """Return the pod's argv with this machine's adapters and drafting model in place of the pod's."""
    here = [part.replace(f"{ADAPTERS_DIR}/", f"{adapters}/", 1) for part in args]
    return [
        str(draft) if before == "--spec-draft-model" else part
        for before, part in zip(("", *here), here, strict=False)
    ]


def free_port() -> int:
    """Return a port of loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def run_server(
    binary: Path, args: Sequence[str], *, model: Path, folder: Path, before: Sequence[str] = ()
) -> Iterator[LocalServer]:
    """Start the server, wait until /health says ok, and end it with the block; `before` execs it."""
    key_file = folder / "api-key"
    key_file.write_text(f"{API_KEY}\n", encoding="utf-8")
    port, log = free_port(), folder / "server.log"
    argv = [*before, str(binary), *local_args(args, model=model, key_file=key_file, port=port)]
    # The log's level changes no memory of note; level 4 tells the size of each buffer.
    environment = {**os.environ, "LLAMA_ARG_LOG_VERBOSITY": "4"}
    started = time.monotonic()
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out, env=environment) as process:
        peak = PeakSampler(process.pid)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_healthy(url, process, log=log)
            seconds = time.monotonic() - started
            yield LocalServer(pid=process.pid, url=url, log=log, seconds_to_ready=seconds, peak=peak)
        finally:
            peak.close()
            process.kill()  # asked kindly it would first finish what is queued


def _wait_healthy(url: str, process: "subprocess.Popen[bytes]", *, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise BenchError(f"llama-server ended with {process.returncode} before it was healthy:\n{tail}")
        try:
            if httpx.get(f"{url}/health", timeout=2).is_success:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(SAMPLE_SECONDS)
    raise BenchError(f"llama-server was not healthy within {START_SECONDS:.0f} s; see {log}")
