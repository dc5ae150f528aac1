# SPDX-License-Identifier: Apache-2.0
"""Indexer and retriever together, as processes over HTTP: what one sends the other understands and finds."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from e2e.data import corpus
from e2e.data.records import Split
from gateway_testing.process import eventually
from indexer_testing.files import docx_bomb, docx_file, pdf
from nimblet_indexer.parse.file import parse_file
from nimblet_indexer.report import Report
from retriever_testing.embeddings import EmbeddingServer
from retriever_testing.process import free_port, retriever, serving, write_config

pytestmark = pytest.mark.timeout(240)

BUILDER, READER = "builder", "reader"


@dataclass(kw_only=True)
class Bench:
    """A running retriever, its embedding server, and a folder of documents."""

    url: str
    model: EmbeddingServer
    folder: Path

    @property
    def documents(self) -> Path:
        """The mounted volume."""
        return self.folder / "documents"

    def config(self, generation: str) -> Path:
        """Write a build's configuration."""
        config = {
            "version": 1,
            "generation": generation,
            "token": "t1",
            "retriever": {"url": self.url, "keyFile": str(self.folder / "key")},
            "sources": [{"name": "wiki", "folder": str(self.documents), "access": ["public"]}],
            "chunking": {"tokens": 40, "overlap": 5},
        }
        path = self.folder / f"{generation}.json"
        path.write_text(json.dumps(config))
        return path

    def build(self, generation: str) -> Report:
        """Run the indexer, swap to what it built, return its report."""
        report = self.folder / "report.json"
        command = [sys.executable, "-m", "nimblet_indexer", "--config", str(self.config(generation))]
        command += ["--report", str(report), "--progress-port", "0"]  # a fixed one may be somebody else's
        done = subprocess.run(command, check=False)
        assert done.returncode == 0
        self.call("PUT", "/v1/serving", {"generation": generation})
        return Report.model_validate_json(report.read_bytes())

    def call(self, method: str, path: str, body: object, *, key: str = BUILDER) -> httpx.Response:
        """Ask the retriever."""
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=60)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer

    def taken(self) -> float:
        """Return how many batches of passages the retriever has kept so far."""
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        counts = [line for line in lines if line.startswith("nimblet_retriever_requests_total{")]
        return sum(float(line.split()[-1]) for line in counts if '/passages"' in line and 'reason="ok"' in line)

    def found(self, query: str) -> dict[str, str]:
        """Return texts of the found passages by their citation's id."""
        answer = self.call("POST", "/v1/retrieve", {"query": query}, key=READER)
        return {item["id"]: f"{item['location']}: {item['text']}" for item in answer.json()["passages"]}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The two programs, side by side."""
    folder, model, port = tmp_path_factory.mktemp("indexing"), EmbeddingServer(), free_port()
    (folder / "documents").mkdir()
    (folder / "key").write_text(BUILDER)
    keys = [
        {"id": "indexer", "sha256": _sha(BUILDER), "scopes": ["build"]},
        {"id": "reader", "sha256": _sha(READER), "scopes": ["search"], "access": ["public"]},
    ]
    with ExitStack() as stack:
        embedding_url = stack.enter_context(serving(model.app()))
        config = write_config(folder, embedding_url=embedding_url, keys={"keys": keys})
        stack.enter_context(retriever(config, port=port))
        yield Bench(url=f"http://127.0.0.1:{port}", model=model, folder=folder)


def _sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_documents_of_every_format_are_found_and_bad_ones_told(bench: Bench) -> None:
    # Given documents of every format, and four that can't be read
    folder = bench.documents
    (folder / "pump.md").write_text("# Pump\n\n## Values\n\nThe pump runs at 45 bar.")
    (folder / "valve.html").write_text("<main><h1>Valve</h1><p>Close the valve slowly.</p></main>")
    (folder / "filter.pdf").write_bytes(pdf(["", "The filter is washed weekly."]))
    (folder / "motor.docx").write_bytes(docx_file([("Heading 1", "Motor"), ("Normal", "The motor hums.")]))
    (folder / "note.txt").write_text("Nobody enters the hall alone.")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "locked.pdf").write_bytes(pdf(["secret"], password="x"))
    (folder / "bomb.docx").write_bytes(docx_bomb(100))
    with (folder / "huge.txt").open("wb") as huge:
        huge.truncate(2**30)
    # When they are indexed
    report = bench.build("g000001")
    # Then each bad one is told by name and reason, and the rest is found with its place
    assert (report.documents, report.passages, report.refused) == (5, 5, 4)
    assert {(error.file, error.reason) for error in report.errors} == {
        ("wiki/latin.txt", "BadEncoding"),
        ("wiki/locked.pdf", "Encrypted"),
        ("wiki/bomb.docx", "ExpandsTooMuch"),
        ("wiki/huge.txt", "TooLarge"),
    }
    assert (
        bench.found("How many bar has the pump?")["docs/wiki/pump.md/0@g000001"]
        == "Values: The pump runs at 45 bar."
    )
    assert bench.found("When is the filter washed?")["docs/wiki/filter.pdf/0@g000001"].startswith("page 2: ")


def test_next_build_embeds_what_is_new_and_forgets_what_is_gone(bench: Bench) -> None:
    # Given an index of three documents
    for path in bench.documents.iterdir():
        path.unlink()
    for name in ("a", "b", "c"):
        (bench.documents / f"{name}.txt").write_text(f"Document {name} is about {name * 5}.")
    first = bench.build("g000002")
    # When one changes and one goes
    (bench.documents / "b.txt").write_text("Document b is about something else.")
    (bench.documents / "c.txt").unlink()
    second = bench.build("g000003")
    # Then that one alone is embedded, the source's hash is another, and the deleted one is found no more
    assert (first.embedded, second.embedded, second.reused) == (3, 1, 1)
    assert first.sources[0].hash != second.sources[0].hash
    assert set(bench.found("document")) == {"docs/wiki/a.txt/0@g000003", "docs/wiki/b.txt/0@g000003"}


def test_killed_build_goes_on_where_it_was(bench: Bench) -> None:
    # Given many documents and an indexer that is killed when some were embedded
    for path in bench.documents.iterdir():
        path.unlink()
    for number in range(200):
        (bench.documents / f"{number:03}.txt").write_text(f"Document number {number} tells fact {number * 7}.")
    before, taken = len(bench.model.embedded), bench.taken()
    command = [sys.executable, "-m", "nimblet_indexer", "--config", str(bench.config("g000004"))]
    command += ["--progress-port", "0"]
    with subprocess.Popen([*command, "--report", os.devnull]) as indexer:
        while len(bench.model.embedded) < before + 60:
            assert indexer.poll() is None
        indexer.kill()
    # (what was on its way goes on without it, and counts when it is kept)
    eventually(lambda: bench.taken() > taken)
    # When it runs again
    report = bench.build("g000004")
    # Then everything is there, and what was embedded is not embedded again
    assert report.documents == 200
    assert report.reused >= 50
    assert report.embedded + report.reused == 200
    # (the whole sentence is asked: by words alone another document's vector is as near)
    assert next(iter(bench.found("Document number 199 tells fact 1393."))) == "docs/wiki/199.txt/0@g000004"


def test_corpus_is_read_whole(tmp_path: Path) -> None:
    # Given the corpus, rendered in all formats
    documents = corpus.documents()
    corpus.render(tmp_path)
    parsed = {path.stem: parse_file(path.name, path.read_bytes()) for path in tmp_path.iterdir()}
    # Then every answer's quote is in one section of its parsed document
    assert len(parsed) == len(documents)
    lost = [
        question.id
        for split in Split
        for question in corpus.questions(split)
        if not any(
            _words(question.quote) in _words(section.text) for section in parsed[question.document].sections
        )
    ]
    assert lost == []


def _words(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())
