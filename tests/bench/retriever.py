# SPDX-License-Identifier: Apache-2.0
"""A search's latency: the engine called directly, the retriever in process, and the retriever over HTTP.

Vectors and texts are made from a seed; embedding is left out everywhere, so that a ratio shows what the retriever
itself costs. The three are asked in turns, question by question: what else the machine does meets all alike.
`python -m tests.bench.retriever FOLDER PORT` is the retriever's process.
"""

import asyncio
import hashlib
import http.client
import json
import math
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import httpx
import uvicorn
from qdrant_edge import EdgeShard, Fusion, Prefetch, Query, QueryRequest

from nimblet_retriever.config import EmbeddedConfig, EmbeddingConfig, RetrieverConfig, SearchConfig
from nimblet_retriever.embedding import Embedder, Kind
from nimblet_retriever.retrieval import Question, Retriever
from nimblet_retriever.service import Surroundings, service
from nimblet_retriever.spaces import CANARY
from nimblet_retriever.store.chunk import Chunk, Selection
from nimblet_retriever.store.embedded import EmbeddedStore
from nimblet_retriever.store.generation import Manifest
from nimblet_retriever.store.layout import Layout
from nimblet_retriever.store.lexical import query_vector
from nimblet_retriever.store.payload import DENSE, LEXICAL, RRF_K
from nimblet_retriever.store.shard import filter_of
from nimblet_tls.serving import event_loop
from tests.bench.localserver import BenchError, free_port

SIZES: Final = (1_000, 10_000, 100_000)
DIMENSION: Final = 384
WORDS, VOCABULARY, ASKED_WORDS = 60, 20_000, 8
BATCH: Final = 500
QUESTIONS, WARM = 300, 30
STREAMED: Final = 64
"""Passages in one request of a build, as an indexer sends them."""
PAUSE_SECONDS: Final = 0.01
AIM: Final = 1.3
START_SECONDS: Final = 120.0
KEY: Final = "bench-key"
NAME: Final = "g000001"
SEEN: Final = Selection(access=frozenset({"public"}))
LANGUAGE: Final = "english"


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one way to ask."""

    p50: float
    p99: float


@dataclass(frozen=True)
class Figure:
    """One size."""

    chunks: int
    build_seconds: float
    engine: Latency
    process: Latency
    network: Latency
    building: Latency
    """Over HTTP while a build streams in."""
    streamed: float
    """Passages a second that the build took meanwhile."""


class MadeEmbedder(Embedder):
    """Vectors that were made before: as if the model took no time. Passages of a build share a few."""

    def __init__(self, client: httpx.AsyncClient, config: EmbeddingConfig) -> None:
        super().__init__(client, config)
        self._made = {text: made_vector(text) for text in [CANARY, *questions()]}
        self._shared = list(self._made.values())

    async def embed(self, texts: Sequence[str], _kind: Kind) -> list[Sequence[float]]:
        """Return a vector for each text."""
        return [self._made.get(text) or self._shared[len(text) % len(self._shared)] for text in texts]


def questions() -> list[str]:
    """Return what is asked, first what is not counted."""
    return [made_text(-number, words=ASKED_WORDS) for number in range(1, WARM + QUESTIONS + 1)]


def made_vector(text: str) -> Sequence[float]:
    """Return a unit vector of a text's own."""
    source = random.Random(hashlib.sha256(text.encode()).digest())  # noqa: S311 - made data
    vector = [source.gauss(0.0, 1.0) for _ in range(DIMENSION)]
    length = math.sqrt(sum(number * number for number in vector))
    return [number / length for number in vector]


def made_text(number: int, *, words: int) -> str:
    """Return words of which some are frequent and most are rare, as in a language."""
    source = random.Random(number)  # noqa: S311 - made data
    return " ".join(f"w{int(VOCABULARY ** source.random())}" for _ in range(words))


def measure(chunks: int) -> Figure:
    """Build an index of that size and ask it all three ways."""
    with TemporaryDirectory(prefix="nimblet-bench-") as folder:
        root = Path(folder)
        began = time.monotonic()
        asyncio.run(_build(root / "index", chunks))
        built = time.monotonic() - began
        with _process(root) as port:
            times = asyncio.run(_ask(root, port))
            with Stream(port) as stream:
                beside = _ask_over_http(port)
    engine, process, network = (latency(series[WARM:]) for series in zip(*times, strict=True))
    return Figure(
        chunks=chunks,
        build_seconds=built,
        engine=engine,
        process=process,
        network=network,
        building=latency(beside[WARM:]),
        streamed=stream.rate,
    )


class Stream:
    """A build that hands passages over, without a pause, as long as its block runs: more than any model allows."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60.0
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream")
        self._flowing = threading.Event()
        self._passages, self._seconds = 0, 0.0

    @property
    def rate(self) -> float:
        """Return passages a second."""
        return self._passages / self._seconds

    def __enter__(self) -> Self:
        """Begin, and return once passages flow."""
        self._post("/v1/builds", {"name": "g000002", "token": "b"})
        self._thread.start()
        self._flowing.wait(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        """End after the batch under way, and complete the build, so that its process ends too."""
        self._ended.set()
        self._thread.join()
        self._post("/v1/builds/g000002/b/seal", {})
        self._client.close()

    def _run(self) -> None:
        began = time.perf_counter()
        while not self._ended.is_set():
            numbers = range(self._passages, self._passages + STREAMED)
            self._post("/v1/builds/g000002/b/passages", {"passages": [_passage(number) for number in numbers]})
            self._passages += STREAMED
            self._seconds = time.perf_counter() - began
            self._flowing.set()

    def _post(self, path: str, body: object) -> None:
        self._client.post(path, json=body).raise_for_status()


def _passage(number: int) -> dict[str, object]:
    text = f"{number} {made_text(number, words=WORDS)}"
    return {
        "document": f"streamed-{number // 10}",
        "position": number % 10,
        "text": text,
        "embedded": text,
        "source": "made",
        "access": ["public"],
    }


def _ask_over_http(port: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    found = []
    for text in questions():
        found.append(_timed(partial(_post, connection, text)))
        time.sleep(PAUSE_SECONDS)  # so that they meet the build at any point
    connection.close()
    return found


def latency(seconds: Sequence[float]) -> Latency:
    """Return the percentiles of a series."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return Latency(p50=1000 * cuts[49], p99=1000 * cuts[98])


async def _build(root: Path, count: int) -> None:
    store = EmbeddedStore(root, reserve=0)
    manifest = Manifest(
        name=NAME, token="a", dimension=DIMENSION, embedding="made", canary=tuple(made_vector(CANARY))
    )
    build = await store.begin(manifest)
    for start in range(0, count, BATCH):
        await build.add([_chunk(number) for number in range(start, min(start + BATCH, count))])
    await build.seal()
    await store.serve(NAME)
    await store.close()


def _chunk(number: int) -> Chunk:
    text = made_text(number, words=WORDS)
    return Chunk(
        document=f"document-{number // 10}",
        position=number % 10,
        text=text,
        source="made",
        reuse_key=str(number),
        access=("public",),
        vector=made_vector(text),
    )


async def _ask(root: Path, port: int) -> list[tuple[float, float, float]]:
    """Ask each question in all three ways; return their seconds. A closed shard can be opened by all of them."""
    shard = EdgeShard.load(str(root / "index" / "generations" / NAME / "shard"))
    connection = http.client.HTTPConnection("127.0.0.1", port)
    found = []
    async with _in_process(root) as retriever:
        for text in questions():
            vector = list(made_vector(text))
            engine = _timed(partial(_direct, shard, vector, text))
            began = time.perf_counter()
            await retriever.ask(Question(text=text, selection=SEEN))
            process = time.perf_counter() - began
            found.append((engine, process, _timed(partial(_post, connection, text))))
    connection.close()
    shard.close()
    return found


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _direct(shard: EdgeShard, vector: list[float], text: str) -> object:
    """Ask the engine what the retriever asks it: the same halves, filter and sizes."""
    defaults, flt = SearchConfig(), filter_of(SEEN)
    halves = (
        Query.Nearest(vector, using=DENSE),
        Query.Nearest(query_vector(text, language=LANGUAGE), using=LEXICAL),
    )
    request = QueryRequest(
        limit=defaults.top_k,
        prefetches=[Prefetch(limit=defaults.candidates, query=half, filter=flt) for half in halves],
        query=Fusion.Rrf(k=RRF_K),  # type: ignore[arg-type]  # the stubs know its variants as classes beside it
        filter=flt,
        with_payload=True,
    )
    return shard.query(request)


def _post(connection: http.client.HTTPConnection, text: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/retrieve", body=json.dumps({"query": text}), headers=headers)
    answer = connection.getresponse()
    if answer.status != http.HTTPStatus.OK or not json.loads(answer.read())["passages"]:
        raise BenchError(f"expected passages, found HTTP {answer.status}")


def _config(root: Path) -> RetrieverConfig:
    return RetrieverConfig(
        version=1,
        index="bench",
        store=EmbeddedConfig(folder=root / "index"),
        embedding=EmbeddingConfig(url="http://127.0.0.1:9/v1", model="made", fingerprint="made"),
        keys_file=root / "keys.json",
    )


@asynccontextmanager
async def _in_process(root: Path) -> AsyncIterator[Retriever]:
    """Open the retriever's core over a folder of links, since the folder itself is the other process's."""
    mirror = root / "mirror"
    (mirror / "generations").mkdir(parents=True)
    (mirror / "generations" / NAME).symlink_to(root / "index" / "generations" / NAME)
    layout = Layout(mirror)
    layout.point_to(NAME)
    layout.release()
    config = _config(root)
    async with httpx.AsyncClient() as client:
        embedder = MadeEmbedder(client, config.embedding)
        retriever = Retriever(EmbeddedStore(mirror, reserve=0), embedder, config.search, clock=time.monotonic)
        yield retriever
        await retriever.close()


@contextmanager
def _process(root: Path) -> Iterator[int]:
    """Run the retriever's process; give its port."""
    port = free_port()
    argv = [sys.executable, "-m", "tests.bench.retriever", str(root), str(port)]
    with subprocess.Popen(argv) as process:
        try:
            _wait(port, process)
            yield port
        finally:
            process.terminate()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).is_success:
                return
        except httpx.TransportError:
            if process.poll() is not None:
                break
        time.sleep(0.05)
    raise BenchError(f"the retriever was not ready within {START_SECONDS:.0f} s")


async def serve(root: Path, port: int) -> None:
    """Serve the index in `root` until a signal, as the program does, with the made embedder."""
    config = _config(root)
    key = {
        "id": "bench",
        "sha256": hashlib.sha256(KEY.encode()).hexdigest(),
        "scopes": ["search", "build"],
        "access": ["public"],
    }
    config.keys_file.write_text(json.dumps({"keys": [key]}))
    async with httpx.AsyncClient() as client:
        around = Surroundings(client=client, clock=time.monotonic, now=partial(datetime.now, UTC))
        store = EmbeddedStore(root / "index", reserve=0)
        embedder = MadeEmbedder(client, config.embedding)
        async with service(config, store, around, embedder=embedder) as app:
            settings = uvicorn.Config(
                app, host="127.0.0.1", port=port, access_log=False, log_config=None, lifespan="off"
            )
            await uvicorn.Server(settings).serve()


def table(figures: Sequence[Figure]) -> str:
    """Return the figures for people."""
    head = f"{'chunks':>8}{'build s':>9}" + "".join(
        f"{name:>22}" for name in ("engine p50/p99", "in process p50/p99", "HTTP p50/p99")
    )
    rows = [head + f"{'ratio in process':>18}{'ratio HTTP':>12}{'built /s':>12}"]
    for figure in figures:
        ways = (figure.engine, figure.process, figure.network, figure.building)
        cells = "".join(f"{f'{way.p50:.2f} / {way.p99:.2f} ms':>22}" for way in ways)
        ratios = f"{figure.process.p50 / figure.engine.p50:>18.2f}{figure.network.p50 / figure.engine.p50:>12.2f}"
        ratios += f"{figure.streamed:>12.0f}"
        rows.append(f"{figure.chunks:>8}{figure.build_seconds:>9.1f}{cells}{ratios}")
    return "\n".join(
        [*rows, f"ratios of p50, aim ≤ {AIM}; hybrid search, {DIMENSION} numbers, embedding left out"]
    )


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=event_loop()) as loop:
        loop.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
