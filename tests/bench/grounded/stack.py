# SPDX-License-Identifier: Apache-2.0
"""The programs behind grounded answers, without a cluster: real model servers, retriever and indexer, on loopback.

Each runs with the argv and configuration of its pod, addresses and paths apart. It judges nothing.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from e2e.data import corpus
from e2e.data.records import Document
from e2e.models import MINILM, model_path
from nimblet.api.compactmodel import Task
from nimblet.plan.sizing import Demand, size_model
from nimblet_indexer.report import Report
from nimblet_retriever.messages import PassageAnswer, RetrieveAnswer
from retriever_testing.process import free_port, retriever, write_config
from tests.bench.localserver import API_KEY, BenchError, LocalServer, run_server
from tests.bench.sizing import Case, server_args

CPU = "1"
"""Threads: answers are measured, not speed; threads that wait for each other crawl on a shared machine."""
CHAT_CONTEXT = 2048
EMBEDDING_CONTEXT = 512
FOUND = 10
"""Passages asked for: more than are shown to the model, since the gateway chooses among them."""
_BUILDER, _READER = "builder", "reader"
_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Library:
    """A retriever with documents in it."""

    url: str
    folder: Path
    generations: Iterator[int]

    def index(self, documents: Iterable[Document]) -> int:
        """Build a generation of these documents in place of what was served; return its passages."""
        generation = f"g{next(self.generations):06}"
        files = self.folder / generation
        corpus.render(files, only=documents)
        report = self.folder / f"{generation}.report.json"
        command = [sys.executable, "-m", "nimblet_indexer", "--config", str(self._config(generation, files))]
        subprocess.run([*command, "--report", str(report)], check=True)
        self._call("PUT", "/v1/serving", {"generation": generation}, key=_BUILDER)
        found = Report.model_validate_json(report.read_bytes())
        if found.refused:
            raise BenchError(f"expected every document of the corpus to be read, found {found.errors}")
        return found.passages

    def ask(self, question: str, *, only: Iterable[str] | None = None) -> tuple[PassageAnswer, ...]:
        """Return the passages found, best first; `only` names the documents that may be found."""
        body: dict[str, object] = {"query": question, "topK": FOUND}
        if only is not None:
            body["documents"] = list(only)
        answer = self._call("POST", "/v1/retrieve", body, key=_READER)
        return RetrieveAnswer.model_validate_json(answer.content).passages

    def _config(self, generation: str, files: Path) -> Path:
        (self.folder / "key").write_text(_BUILDER)
        config = {
            "version": 1,
            "generation": generation,
            "token": "t1",
            "retriever": {"url": self.url, "keyFile": str(self.folder / "key")},
            "sources": [{"name": "corpus", "folder": str(files), "access": ["public"]}],
        }
        path = self.folder / f"{generation}.json"
        path.write_text(json.dumps(config))
        return path

    def _call(self, method: str, path: str, body: object, *, key: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=_SECONDS)
        return answer.raise_for_status()


@contextmanager
def library(binary: Path, folder: Path) -> Iterator[Library]:
    """Run MiniLM and a retriever over it until the block ends."""
    port = free_port()
    with ExitStack() as stack:
        model = stack.enter_context(model_server(binary, MINILM.name, folder=folder / "embedding"))
        keys = [
            {"id": "indexer", "sha256": _sha(_BUILDER), "scopes": ["build"]},
            {"id": "reader", "sha256": _sha(_READER), "scopes": ["search"], "access": ["public"]},
        ]
        config = write_config(folder, embedding_url=model.url, keys={"keys": keys})
        held = json.loads(config.read_bytes())
        held["embedding"]["keyFile"] = str(folder / "embedding" / "api-key")
        config.write_text(json.dumps(held))
        stack.enter_context(retriever(config, port=port))
        yield Library(url=f"http://127.0.0.1:{port}", folder=folder, generations=iter(range(1, 1000)))


@contextmanager
def model_server(binary: Path, name: str, *, folder: Path, parallel: int = 1) -> Iterator[LocalServer]:
    """Run one of the pinned models with the argv that the operator renders."""
    folder.mkdir(parents=True, exist_ok=True)
    task: Task = "Embedding" if name == MINILM.name else "Chat"
    demand = Demand(
        context_length=EMBEDDING_CONTEXT if task == "Embedding" else CHAT_CONTEXT,
        parallel=parallel,
        kv_cache_type="f16",
        prompt_cache_mebibytes=0,
        cpu=CPU,
        task=task,
    )
    case = Case(name=name, model=model_path(name), demand=demand)
    args = server_args(case, size_model(case.header(), demand))
    with run_server(binary, args, model=case.model, folder=folder) as server:
        yield server


def headers() -> dict[str, str]:
    """Return what a model server wants to see."""
    return {"Authorization": f"Bearer {API_KEY}"}


def _sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
