# SPDX-License-Identifier: Apache-2.0
"""Ingestion against the embedding server's own limit: passages through indexer and retriever into a store, and the
same kind of passages straight into the same llama-server by as many requests at once as serve it best.

All of it runs on this machine's cores, so that what indexer and retriever compute is missing to the server. A
first small generation warms everything up and serves while the measured one is built: questions to it tell how
long one waits beside a build.
"""

import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import httpx

from e2e.cluster.paths import cache_of
from e2e.images.llamaserver import ensure_llama_server
from e2e.models import MINILM, model_path
from nimblet.plan.sizing import Demand, size_model
from nimblet_indexer.progress import Phase
from nimblet_indexer.report import Report
from retriever_testing.process import free_port, retriever, write_config
from tests.bench.localserver import LocalServer, run_server
from tests.bench.sizing import Case, client_of, server_args

WARM_DOCUMENTS: Final = 4
DOCUMENTS: Final = 64
STRAIGHT: Final = 128
"""Passages of those that are sent straight: enough for a rate."""
SECTIONS: Final = 8
TOKENS: Final = 256
SLOTS: Final = 4
REQUEST: Final = 32
"""Texts in one request: the most that the retriever puts into one, and what is sent straight."""
CONCURRENCY: Final = (2, 4)
AIM: Final = 0.85
LOOK_SECONDS: Final = 0.1
ASK_SECONDS: Final = 1.0
BUILD_KEY, ASK_KEY = "bench-build-key", "bench-ask-key"


@dataclass(frozen=True, kw_only=True)
class Ingestion:
    """One run of the indexer. `phases` tells how many seconds after its start each phase was seen first."""

    seconds: float
    cpu: float
    phases: dict[str, float]
    report: Report

    @property
    def start_seconds(self) -> float:
        """Return the time until it began to read."""
        return self.phases[Phase.READING]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured."""

    limit: float
    """Passages a second that the server embeds, asked straight."""
    limit_requests: int
    ingestion: Ingestion
    retriever_cpu: float
    waits: Sequence[float]
    """Seconds that questions took during the build."""
    idle_waits: Sequence[float]

    @property
    def rate(self) -> float:
        """Return passages a second from the first file to the end."""
        return self.ingestion.report.passages / (self.ingestion.seconds - self.ingestion.start_seconds)


def run(documents: int) -> Figure:
    """Measure with so many documents."""
    with tempfile.TemporaryDirectory(prefix="nimblet-bench-") as name:
        return measure(Path(name), documents)


def table(figure: Figure) -> str:
    """Return the figures for people."""
    done = figure.ingestion
    whole = done.report.passages / done.seconds
    phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in done.phases.items())
    straight_way = f"with {figure.limit_requests} requests at once"
    cpu = f"indexer and parsers {done.cpu:.1f} s, retriever and builder {figure.retriever_cpu:.1f} s"
    ratios = f"{figure.rate / figure.limit:.2f} (aim: at least {AIM}); {whole / figure.limit:.2f} with the start"
    rows = {
        "passages": f"{done.report.passages} of up to {TOKENS} tokens, from {done.report.documents} files",
        "embedding server": f"{figure.limit:.1f} passages/s {straight_way}",
        "start of the indexer": f"{done.start_seconds:.1f} s; phases begin at {phases}, end {done.seconds:.1f}",
        "ingestion": f"{figure.rate:.1f} passages/s from the first file to the end, sealing and swap too",
        "CPU": cpu,
        "a question, seconds": f"{_waits(figure.idle_waits)} alone; {_waits(figure.waits)} during the build",
        "load of the machine": f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
        "ratio": ratios,
    }
    return "\n".join(f"{name:<22}{text}" for name, text in rows.items())


def _waits(seconds: Sequence[float]) -> str:
    return f"p50 {statistics.median(seconds):.2f}, longest {max(seconds):.2f} of {len(seconds)}"


def measure(folder: Path, documents: int) -> Figure:
    """Run both ways on one server: straight, ingestion, straight again; the better straight run counts."""
    write_documents(folder / "warm", range(documents, documents + WARM_DOCUMENTS))
    write_documents(folder / "documents", range(documents))
    with embedding_server(folder) as server, ExitStack() as stack:
        port = free_port()
        process = stack.enter_context(retriever(retriever_config(folder, server), port=port))
        url = f"http://127.0.0.1:{port}"
        passages = passages_of(folder / "documents")
        sent = passages[:STRAIGHT]
        ingest(folder, url, name="g000001", documents=folder / "warm")
        with client_of(server) as client:
            limits = [straight(client, sent, requests) for requests in CONCURRENCY]
            with Asker(url) as alone:
                alone.wait_for(10)
            before = cpu_of(process.pid)
            with Asker(url) as beside:
                done = ingest(folder, url, name="g000002", documents=folder / "documents")
            used = cpu_of(process.pid) - before
            limits.append(straight(client, sent, min(limits)[1]))
    if done.report.passages != len(passages):
        raise RuntimeError(f"expected {len(passages)} passages, found {done.report.passages}")
    seconds, requests = min(limits)
    return Figure(
        limit=len(sent) / seconds,
        limit_requests=requests,
        ingestion=done,
        retriever_cpu=used,
        waits=beside.seconds,
        idle_waits=alone.seconds,
    )


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


@dataclass
class Asker:
    """Asks a question now and then while its block runs."""

    url: str
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the thread; the block starts it."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asker")

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End with the question under way."""
        self._stop.set()
        self._thread.join()

    def wait_for(self, count: int) -> None:
        """Wait until so many were answered."""
        while len(self.seconds) < count and self._thread.is_alive():
            time.sleep(LOOK_SECONDS)

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {ASK_KEY}"}
        with httpx.Client(base_url=self.url, timeout=120.0, headers=headers) as client:
            while not self._stop.wait(ASK_SECONDS):
                began = time.monotonic()
                client.post(
                    "/v1/retrieve", json={"query": f"what is part {len(self.seconds)}?"}
                ).raise_for_status()
                self.seconds.append(time.monotonic() - began)


def write_documents(folder: Path, numbers: Sequence[int]) -> None:
    """Make documents of invented words: no two passages alike, lengths as in a handbook."""
    folder.mkdir()
    syllables = ("ka", "lo", "min", "ter", "sa", "vel", "dor", "ni", "quen", "ra", "bel", "os")
    for number in numbers:
        draw = random.Random(number)  # noqa: S311 - the same words each time
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
    keys = [
        {"id": "indexer", "sha256": hashlib.sha256(BUILD_KEY.encode()).hexdigest(), "scopes": ["build"]},
        {
            "id": "asker",
            "sha256": hashlib.sha256(ASK_KEY.encode()).hexdigest(),
            "scopes": ["search"],
            "access": ["all"],
        },
    ]
    path = write_config(folder, embedding_url=server.url, keys={"keys": keys})
    config = json.loads(path.read_bytes())
    config["embedding"] |= {"keyFile": str(folder / "api-key"), "batch": REQUEST, "model": MINILM.name}
    path.write_text(json.dumps(config))
    return path


def passages_of(folder: Path) -> list[str]:
    """Return what is embedded: each section is one passage below its title and heading."""
    texts = []
    for path in sorted(folder.iterdir()):
        title, *rest = path.read_text(encoding="utf-8").split("\n\n")
        for heading, text in zip(rest[::2], rest[1::2], strict=True):
            texts.append(f"{title.removeprefix('# ')} > {heading.removeprefix('## ')}\n{text}")
    return texts


def ingest(folder: Path, url: str, *, name: str, documents: Path) -> Ingestion:
    """Run the indexer as a process."""
    (folder / "build-key").write_text(BUILD_KEY)
    config = {
        "version": 1,
        "generation": name,
        "token": "bench",
        "retriever": {"url": url, "keyFile": str(folder / "build-key")},
        "sources": [{"name": "docs", "folder": str(documents), "access": ["all"]}],
        "chunking": {"tokens": TOKENS, "overlap": 0},
        "scratch": str(folder),
    }
    (folder / "indexer.json").write_text(json.dumps(config))
    port = free_port()
    argv = [sys.executable, "-m", "nimblet_indexer", "--config", str(folder / "indexer.json")]
    argv += ["--report", str(folder / "report.json"), "--progress-port", str(port)]
    began = time.monotonic()
    with subprocess.Popen(argv) as process:
        phases = _followed(process.pid, port, began)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    report = Report.model_validate_json((folder / "report.json").read_bytes())
    if process.returncode != 0:
        raise RuntimeError(
            f"expected the indexer to succeed, found exit code {process.returncode}: {report.error}"
        )
    return Ingestion(seconds=seconds, cpu=usage.ru_utime + usage.ru_stime, phases=phases, report=report)


def _followed(pid: int, port: int, began: float) -> dict[str, float]:
    """Return when each phase was seen first, until the process has ended; what it leaves is not reaped here."""
    seen: dict[str, float] = {}
    # one client: each new one loads certificates, which takes a third of a core from what is measured
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LOOK_SECONDS * 10) as client:
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            try:
                told = client.get("/progress").json()
            except httpx.TransportError:
                pass  # it does not listen yet, or no more
            else:
                seen.setdefault(told["phase"], time.monotonic() - began)
            time.sleep(LOOK_SECONDS)
    return seen


def straight(client: httpx.Client, texts: Sequence[str], requests: int) -> tuple[float, int]:
    """Embed all texts with so many requests at once; return the seconds, and the requests."""
    batches = [list(texts[start : start + REQUEST]) for start in range(0, len(texts), REQUEST)]
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=requests) as pool:
        for answer in pool.map(lambda batch: _embed(client, batch), batches):
            answer.raise_for_status()
    return time.monotonic() - began, requests


def _embed(client: httpx.Client, batch: list[str]) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": MINILM.name, "input": batch, "encoding_format": "float"})
