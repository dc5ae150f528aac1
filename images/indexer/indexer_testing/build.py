# SPDX-License-Identifier: Apache-2.0
"""A retriever on loopback that keeps to the contract and remembers what it was told, and builds against it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loader_testing.server import Reply, Request, serving
from nimblet_egress.retry import Pace
from nimblet_indexer.build import Build, Ending
from nimblet_indexer.config import IndexerConfig
from nimblet_indexer.progress import BuildProgress
from nimblet_indexer.retriever import Clock, RetrieverClient
from nimblet_indexer.source.download import Tools
from nimblet_indexer.source.readers import Readers

LOOPBACK = {"host": "127.0.0.1", "cidr": "127.0.0.0/8", "allowHTTP": True}


@dataclass(kw_only=True)
class FakeRetriever:
    """The contract's server. `faults` are answered before anything else, by the path's last part."""

    gate: Mapping[str, object] = field(default_factory=lambda: {"passed": True, "asked": 1, "recall": 1.0})
    serving: str | None = None
    sealed: list[str] = field(default_factory=list)
    passages: dict[tuple[str, int], Mapping[str, object]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    faults: dict[str, list[Reply]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    gated: Mapping[str, object] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        with self.lock:
            part = request.path.rsplit("/", 1)[-1]
            self.asked.append(f"{request.method} {request.path}")
            if self.faults.get(part):
                return self.faults[part].pop(0)
            return self._sound(request, part)

    def _sound(self, request: Request, part: str) -> Reply:
        body = json.loads(request.body or b"{}")
        if part == "tokens":
            return told({"counts": [len(text.split()) for text in body["texts"]]})
        if part == "builds":
            return told({"name": body["name"], "dimension": 8, "embedding": "x"})
        if part == "passages":
            return self._add(body["passages"])
        if part == "seal":
            self.sealed.append(request.path.split("/")[3])
        if part == "gate":
            self.gated = body
            return told(self.gate)
        if part == "serving":
            self.serving = body["generation"]
        if request.method == "DELETE":
            self.sealed.remove(part)
            return Reply(204)
        generations = [{"name": name, "sealed": True} for name in self.sealed]
        return told({"serving": self.serving, "generations": generations})

    def _add(self, passages: list[dict[str, object]]) -> Reply:
        new = {str(passage["embedded"]) for passage in passages} - self.known
        self.known |= new
        for passage in passages:
            self.passages[str(passage["document"]), int(str(passage["position"]))] = passage
        return told({"embedded": len(new), "reused": len(passages) - len(new)})

    def documents(self) -> set[str]:
        """Return the ids of the documents that arrived."""
        return {document for document, _ in self.passages}


def told(body: Mapping[str, object], status: int = 200) -> Reply:
    """Return an answer."""
    raw = json.dumps(body).encode()
    return Reply(status, {"Content-Length": str(len(raw)), "Content-Type": "application/json"}, (raw,))


@dataclass(kw_only=True)
class Bench:
    """A retriever, and a folder for what builds need."""

    retriever: FakeRetriever
    url: str
    folder: Path
    progress: BuildProgress = field(default_factory=BuildProgress)
    naps: list[float] = field(default_factory=list)

    def config(self, *sources: Mapping[str, object], **fields: object) -> IndexerConfig:
        """Return a configuration that may ask loopback alone."""
        document = {
            "version": 1,
            "generation": "g000002",
            "token": "t",
            "retriever": {"url": self.url, "keyFile": str(self.folder / "key"), "patienceSeconds": 30},
            "sources": [{"access": ["all"], **source} for source in sources],
            "egress": {"allow": [LOOPBACK], "stallTimeoutSeconds": 30, "connectTimeoutSeconds": 30},
            "scratch": str(self.folder),
            "parsers": 1,
            **fields,
        }
        return IndexerConfig.model_validate_json(json.dumps(document))

    def build(self, *sources: Mapping[str, object], **fields: object) -> Ending:
        """Run a build; waits between tries take no time."""
        config = self.config(*sources, **fields)
        pace = Pace(attempts=2, sleep=self.naps.append, share=lambda: 0.0)
        tools = Tools(scratch=self.folder, limits=config.limits, pace=pace, sleep=self.naps.append)
        clock = Clock(sleep=self.naps.append)
        with (
            closing(Readers(config.egress, tools)) as readers,
            RetrieverClient(config.retriever, clock=clock) as client,
        ):
            return Build(config=config, client=client, readers=readers, progress=self.progress).run()


@contextmanager
def bench_of(folder: Path) -> Iterator[Bench]:
    """Serve a retriever inside the block."""
    (folder / "key").write_text("build-key")
    retriever = FakeRetriever()
    with serving(retriever.answer) as server:
        yield Bench(retriever=retriever, url=f"http://127.0.0.1:{server.port}", folder=folder)
