# SPDX-License-Identifier: Apache-2.0
"""The loader against curl: the same file from the same server on loopback, and the loader's memory.

Both write to the same folder in turns, after one run each that is not counted. curl neither hashes nor syncs;
the loader does both, and its figure holds everything from its start of the fetch to the renamed file.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

from e2e.cluster.paths import cache_of
from e2e.models import MODELS, model_path
from nimblet_loader.contract import Artifact, ArtifactFile, FetchPolicy, HeaderFacts, encode

MODEL = "gemma3-270m"
ROUNDS = 5
AIM_RATIO, AIM_MEBIBYTES = 0.8, 64.0
SAMPLE_SECONDS = 0.01
IDLE = "import nimblet_loader.cli; import time; time.sleep(0.1)"
"""Lasts long enough for a sample after its imports."""
_MIB = 2**20
_HIGHEST = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One run of a program: seconds by the clock and of CPU, MiB of peak memory."""

    code: int
    seconds: float
    cpu: float
    peak: float


@dataclass(frozen=True)
class Figure:
    """Seconds of the best round and MiB of peak memory; for the loader also over the bare interpreter."""

    curl_seconds: float
    curl_cpu: float
    loader_seconds: float
    loader_cpu: float
    """Of the fetch alone: its process less an idle loader."""
    process_seconds: float
    peak_mebibytes: float
    interpreter_mebibytes: float

    @property
    def ratio(self) -> float:
        """Return the loader's throughput as a share of curl's."""
        return self.curl_seconds / self.loader_seconds

    @property
    def above(self) -> float:
        """Return the loader's peak memory over that of an idle interpreter with the loader imported."""
        return self.peak_mebibytes - self.interpreter_mebibytes


def main() -> int:
    """Measure and print; the exit code is 0 whatever the figures are."""
    path = model_path(MODEL)
    with serving(path) as port, tempfile.TemporaryDirectory(prefix="nimblet-bench-") as folder:
        figure = measure(path, port=port, folder=Path(folder))
    size = path.stat().st_size / 1e6
    print(f"file                 {size:.0f} MB over loopback, best of {ROUNDS}")
    print(f"curl                 {figure.curl_seconds:.2f} s ({size / figure.curl_seconds:.0f} MB/s)")
    print(f"loader, its fetch    {figure.loader_seconds:.2f} s ({size / figure.loader_seconds:.0f} MB/s)")
    print(f"loader, whole process {figure.process_seconds:.2f} s")
    print(f"CPU, curl / loader    {figure.curl_cpu:.2f} s / {figure.loader_cpu:.2f} s (the loader hashes)")
    print(f"load of the machine   {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"ratio                {figure.ratio:.2f} (aim: at least {AIM_RATIO})")
    print(
        f"peak memory          {figure.peak_mebibytes:.0f} MiB, {figure.above:.0f} MiB over the idle loader "
        f"(aim: at most {AIM_MEBIBYTES:.0f})"
    )
    return 0


def measure(path: Path, *, port: int, folder: Path) -> Figure:
    """Run curl and the loader in turns."""
    url = f"http://127.0.0.1:{port}/{path.name}"
    (folder / "policy.json").write_bytes(encode(policy()))
    (folder / "artifact.json").write_bytes(encode(artifact(path, url)))
    models = folder / "models"
    models.mkdir()
    curls: list[Run] = []
    fetches: list[tuple[float, Run]] = []
    for _ in range(ROUNDS + 1):
        curls.append(curl(url, models / "by-curl"))
        fetches.append(loader(path, url, folder))
        for left in models.iterdir():
            left.unlink()
    idle = min((run([sys.executable, "-c", IDLE]) for _ in range(2)), key=lambda ran: ran.cpu)
    return Figure(
        curl_seconds=min(ran.seconds for ran in curls[1:]),
        curl_cpu=min(ran.cpu for ran in curls[1:]),
        loader_seconds=min(seconds for seconds, _ in fetches[1:]),
        loader_cpu=min(ran.cpu for _, ran in fetches[1:]) - idle.cpu,
        process_seconds=min(ran.seconds for _, ran in fetches[1:]),
        peak_mebibytes=max(ran.peak for _, ran in fetches[1:]),
        interpreter_mebibytes=idle.peak,
    )


def curl(url: str, target: Path) -> Run:
    """Let curl fetch the file."""
    ran = run(["curl", "--silent", "--fail", "--output", str(target), url])
    if ran.code != 0:
        raise RuntimeError(f"expected curl to succeed, found exit code {ran.code}")
    return ran


def loader(path: Path, url: str, folder: Path) -> tuple[float, Run]:
    """Let the loader fetch the file; return its own seconds and its process's run."""
    source = {"version": 1, "uri": url, "sha256": {path.name: MODELS[MODEL].sha256}}
    flags = {
        "policy": "policy.json",
        "artifact": "artifact.json",
        "dest": "models",
        "result": "result",
        "credentials": "none",
    }
    argv = [sys.executable, "-m", "nimblet_loader", "fetch"]
    argv += [f"--{name}={folder / value}" for name, value in flags.items()]
    ran = run(argv, {"NIMBLET_SOURCE": json.dumps(source), "POD_UID": "bench"})
    report = json.loads((folder / "result").read_bytes())
    if ran.code != 0:
        raise RuntimeError(f"expected the loader to succeed, found exit code {ran.code}: {report}")
    return float(report["seconds"]), ran


def run(argv: list[str], environment: Mapping[str, str] = MappingProxyType({})) -> Run:
    """Run a program and return what it took."""
    paths = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        # compiled once, as the image's modules are, whatever the caller's environment says
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(cache_of(os.environ).root / "pycache"),
    }
    began = time.monotonic()
    with subprocess.Popen(argv, env={**os.environ, **paths, **environment}, stderr=subprocess.DEVNULL) as process:
        ended, peak = 0, 0.0
        while not ended:
            peak = max(peak, _peak(process.pid))
            time.sleep(SAMPLE_SECONDS)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Run(
        code=process.returncode,
        seconds=time.monotonic() - began,
        cpu=usage.ru_utime + usage.ru_stime,
        peak=peak,
    )


def _peak(pid: int) -> float:
    """Return a process's peak memory so far, in MiB; getrusage would count what its parent had at the fork."""
    found = _HIGHEST.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 / _MIB if found is not None else 0.0


def policy() -> FetchPolicy:
    """Return a policy that permits the loopback server."""
    text = '{"version": 1, "allow": [{"host": "127.0.0.1", "cidr": "127.0.0.0/8", "allowHTTP": true}]}'
    return FetchPolicy.model_validate_json(text)


def artifact(path: Path, url: str) -> Artifact:
    """Return the artifact of the served file; the header's facts play no part in a fetch."""
    digest = MODELS[MODEL].sha256
    facts = HeaderFacts(
        architecture="gemma3",
        parameters=1,
        tensor_bytes=1,
        tensor_types={},
        output_tied=True,
        context_length=1,
        embedding_length=1,
        block_count=1,
        chat_template=False,
    )
    return Artifact(
        version=1,
        uri=url,
        commit=f"sha256:{digest}",
        files=(ArtifactFile(path=path.name, size=path.stat().st_size, sha256=digest),),
        digest_source="Spec",
        format="GGUF",
        header=facts,
    )


@contextmanager
def serving(path: Path) -> Iterator[int]:
    """Serve one file from a process of its own, as a web server would: by sendfile. Yields the port."""
    argv = [sys.executable, "-m", "tests.bench.loader", "serve", str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("expected pipes to the server, found none")
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()


def serve(path: Path) -> int:
    """Serve the file at any address until standard input closes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            with path.open("rb") as file:
                self.connection.sendfile(file)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Stay silent: the output is the figures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[2])) if sys.argv[1:2] == ["serve"] else main())
