# SPDX-License-Identifier: Apache-2.0
"""The loader against curl: the same file from the same server on loopback, and the loader's memory.

Both write to the same folder in turns, after one run each that is not counted. curl neither hashes nor syncs;
the loader does both, and its figure holds everything from its start of the fetch to the renamed file.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from e2e.cluster.paths import cache_of
from e2e.models import MODELS, model_path
from nimblet_loader.contract import Artifact, ArtifactFile, FetchPolicy, HeaderFacts, encode

MODEL = "gemma3-270m"
ROUNDS = 5
AIM_RATIO, AIM_MEBIBYTES = 0.8, 64.0
_MIB = 2**20


@dataclass(frozen=True)
class Figure:
    """Seconds of the best round and MiB of peak memory; for the loader also over the bare interpreter."""

    curl_seconds: float
    loader_seconds: float
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
    curls: list[float] = []
    fetches: list[tuple[float, float, float]] = []
    for _ in range(ROUNDS + 1):
        curls.append(curl(url, models / "by-curl"))
        fetches.append(loader(path, url, folder))
        for left in models.iterdir():
            left.unlink()
    idle = peak_of([sys.executable, "-c", "import nimblet_loader.cli"], {})[1]
    return Figure(
        curl_seconds=min(curls[1:]),
        loader_seconds=min(fetch[0] for fetch in fetches[1:]),
        process_seconds=min(fetch[1] for fetch in fetches[1:]),
        peak_mebibytes=max(fetch[2] for fetch in fetches[1:]),
        interpreter_mebibytes=idle,
    )


def curl(url: str, target: Path) -> float:
    """Return the seconds that curl takes."""
    began = time.monotonic()
    subprocess.run(["curl", "--silent", "--fail", "--output", str(target), url], check=True)
    return time.monotonic() - began


def loader(path: Path, url: str, folder: Path) -> tuple[float, float, float]:
    """Return the loader's own seconds, those of its process, and its peak memory in MiB."""
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
    began = time.monotonic()
    code, peak = peak_of(argv, {"NIMBLET_SOURCE": json.dumps(source), "POD_UID": "bench"})
    whole = time.monotonic() - began
    report = json.loads((folder / "result").read_bytes())
    if code != 0:
        raise RuntimeError(f"expected the loader to succeed, found exit code {code}: {report}")
    return float(report["seconds"]), whole, peak


def peak_of(argv: list[str], environment: dict[str, str]) -> tuple[int, float]:
    """Run a program; return its exit code and its peak resident memory in MiB."""
    paths = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        # compiled once, as the image's modules are, whatever the caller's environment says
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(cache_of(os.environ).root / "pycache"),
    }
    with subprocess.Popen(argv, env={**os.environ, **paths, **environment}, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * 1024 / _MIB


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
