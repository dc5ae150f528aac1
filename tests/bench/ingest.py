# SPDX-License-Identifier: Apache-2.0
"""Ingestion against the embedding server's own limit: the same passages, once through indexer and retriever into a
store, once straight into the same llama-server by as many requests at once as serve it best.

Both run on this machine's cores, so that what indexer and retriever compute is missing to the server.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from e2e.cluster.paths import cache_of
from e2e.images.llamaserver import ensure_llama_server
from e2e.models import MINILM, model_path
from nimblet.plan.sizing import Demand, size_model
from nimblet_indexer.report import Report
from retriever_testing.process import free_port, retriever, write_config
from tests.bench.localserver import LocalServer, run_server
from tests.bench.sizing import Case, client_of, server_args

DOCUMENTS: Final = 24
SECTIONS: Final = 8
TOKENS: Final = 256
SLOTS: Final = 4
REQUEST: Final = 32
"""Texts that the retriever puts into one request."""
CONCURRENCY: Final = (2, 4)
AIM: Final = 0.85
BUILD_KEY: Final = "bench-build-key"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Passages, seconds, and where CPU went."""

    passages: int
    limit_seconds: float
    limit_requests: int
    ingest_seconds: float
    indexer_cpu: float

    @property
    def ratio(self) -> float:
        """Return ingestion's rate as a share of the server's own."""
        return self.limit_seconds / self.ingest_seconds


def main() -> int:
    """Measure and print; the exit code is 0 whatever the figures are."""
    with tempfile.TemporaryDirectory(prefix="nimblet-bench-") as name:
        figure = measure(Path(name))
    rate = figure.passages / figure.ingest_seconds
    limit = figure.passages / figure.limit_seconds
    print(f"passages             {figure.passages} of up to {TOKENS} tokens, from {DOCUMENTS} Markdown files")
    print(f"embedding server     {limit:.1f} passages/s with {figure.limit_requests} requests at once")
    print(f"ingestion            {rate:.1f} passages/s from start of the indexer to its end")
    print(f"CPU of the indexer   {figure.indexer_cpu:.1f} s with its parsers, of {figure.ingest_seconds:.1f} s")
    print(f"load of the machine   {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"ratio                {figure.ratio:.2f} (aim: at least {AIM})")
    return 0


def measure(folder: Path) -> Figure:
    """Run both ways on one server: straight, ingestion, straight again; the better straight run counts."""
    write_documents(folder / "documents")
    with embedding_server(folder) as server, ExitStack() as stack:
        port = free_port()
        stack.enter_context(retriever(retriever_config(folder, server), port=port))
        url = f"http://127.0.0.1:{port}"
        warm = passages_of(folder)
        with client_of(server) as client:
            straight(client, warm[: 4 * REQUEST], 1)
            first = best(client, warm)
            seconds, cpu, report = ingest(folder, url)
            again = best(client, warm)
    if report.passages != len(warm):
        raise RuntimeError(f"expected {len(warm)} passages, found {report.passages}")
    limit, requests = min(first, again)
    return Figure(
        passages=len(warm), limit_seconds=limit, limit_requests=requests, ingest_seconds=seconds, indexer_cpu=cpu
    )


def write_documents(folder: Path) -> None:
    """Make documents of invented words: no two passages alike, lengths as in a handbook."""
    folder.mkdir()
    draw = random.Random(7)  # noqa: S311 - the same words each time
    syllables = ("ka", "lo", "min", "ter", "sa", "vel", "dor", "ni", "quen", "ra", "bel", "os")
    for number in range(DOCUMENTS):
        lines = [f"# Document {number}"]
        for section in range(SECTIONS):
            words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(90)]
            sentences = [" ".join(words[at : at + 12]).capitalize() + "." for at in range(0, len(words), 12)]
            lines += [f"## Part {section}", " ".join(sentences)]
        (folder / f"{number:04}.md").write_text("\n\n".join(lines), encoding="utf-8")


@contextmanager
def embedding_server(folder: Path) -> Iterator[LocalServer]:
    """Serve MiniLM as its CompactModel would."""
    binary = ensure_llama_server(cache_of(os.environ).root, log=folder / "llamacpp.log")
    demand = Demand(
        context_length=512,
        parallel=SLOTS,
        kv_cache_type="f16",
        prompt_cache_mebibytes=0,
        cpu=str(os.cpu_count()),
        task="Embedding",
    )
    case = Case(name=MINILM.name, model=model_path(MINILM.name), demand=demand)
    args = server_args(case, size_model(case.header(), demand))
    with run_server(binary, args, model=case.model, folder=folder) as server:
        yield server


def retriever_config(folder: Path, server: LocalServer) -> Path:
    """Write the retriever's configuration."""
    keys = [{"id": "indexer", "sha256": hashlib.sha256(BUILD_KEY.encode()).hexdigest(), "scopes": ["build"]}]
    path = write_config(folder, embedding_url=server.url, keys={"keys": keys})
    config = json.loads(path.read_bytes())
    config["embedding"] |= {"keyFile": str(folder / "api-key"), "batch": REQUEST, "model": MINILM.name}
    path.write_text(json.dumps(config))
    return path


def passages_of(folder: Path) -> list[str]:
    """Return what is embedded: each section is one passage below its title and heading."""
    texts = []
    for path in sorted((folder / "documents").iterdir()):
        title, *rest = path.read_text(encoding="utf-8").split("\n\n")
        for heading, text in zip(rest[::2], rest[1::2], strict=True):
            texts.append(f"{title.removeprefix('# ')} > {heading.removeprefix('## ')}\n{text}")
    return texts


def ingest(folder: Path, url: str) -> tuple[float, float, Report]:
    """Run the indexer as a process; return its seconds, its CPU and its report."""
    (folder / "build-key").write_text(BUILD_KEY)
    config = {
        "version": 1,
        "generation": "g000001",
        "token": "bench",
        "retriever": {"url": url, "keyFile": str(folder / "build-key")},
        "sources": [{"name": "docs", "folder": str(folder / "documents"), "access": ["all"]}],
        "chunking": {"tokens": TOKENS, "overlap": 0},
        "scratch": str(folder),
    }
    (folder / "indexer.json").write_text(json.dumps(config))
    argv = [sys.executable, "-m", "nimblet_indexer", "--config", str(folder / "indexer.json")]
    argv += ["--report", str(folder / "report.json"), "--progress-port", "0"]
    began = time.monotonic()
    with subprocess.Popen(argv) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    report = Report.model_validate_json((folder / "report.json").read_bytes())
    if process.returncode != 0:
        raise RuntimeError(
            f"expected the indexer to succeed, found exit code {process.returncode}: {report.error}"
        )
    return seconds, usage.ru_utime + usage.ru_stime, report


def best(client: httpx.Client, texts: Sequence[str]) -> tuple[float, int]:
    """Return the fewest seconds over ways to send, and how many requests at once that took."""
    return min((straight(client, texts, requests), requests) for requests in CONCURRENCY)


def straight(client: httpx.Client, texts: Sequence[str], requests: int) -> float:
    """Embed all texts with so many requests at once; return the seconds."""
    batches = [list(texts[start : start + REQUEST]) for start in range(0, len(texts), REQUEST)]
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=requests) as pool:
        for answer in pool.map(lambda batch: _embed(client, batch), batches):
            answer.raise_for_status()
    return time.monotonic() - began


def _embed(client: httpx.Client, batch: list[str]) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": MINILM.name, "input": batch, "encoding_format": "float"})
