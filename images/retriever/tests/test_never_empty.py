# SPDX-License-Identifier: Apache-2.0
"""Questions without a pause while all else happens to the retriever: none fails, is empty or mixed."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import httpx
import psutil
import pytest

from retriever_testing.embeddings import EmbeddingServer
from retriever_testing.process import free_port, retriever, serving, write_config

pytestmark = pytest.mark.timeout(240)

BUILDER, READER, PUSHER = "builder", "reader", "pusher"
DOCUMENTS = 12
ALL = 50
BRIEFLY_KEPT = httpx.Limits(keepalive_expiry=1.0)
"""The server closes a connection that rests for five seconds, just when a question goes out on it perhaps."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a question was answered."""

    generation: str
    push: int
    found: frozenset[tuple[str, str]]
    """Documents and their texts."""


@dataclass(kw_only=True)
class Life:
    """A retriever on loopback, what was pushed to it, and what it answered."""

    client: httpx.Client
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    pushed: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Push number, document and text; no text where it was deleted."""
    down: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def call(self, method: str, path: str, body: object = None, *, key: str = BUILDER) -> httpx.Response:
        """Send a request."""
        headers = {"Authorization": f"Bearer {key}"}
        return self.client.request(method, path, json=body, headers=headers)

    def done(self, method: str, path: str, body: object = None, *, key: str = BUILDER) -> httpx.Response:
        """Send a request that must succeed."""
        answer = self.call(method, path, body, key=key)
        assert answer.is_success, answer.text
        return answer

    def push(self, name: str, text: str) -> None:
        """Push a document and note its number."""
        answer = self.done("POST", "/v1/documents", {"id": name, "text": text}, key=PUSHER).json()
        self.pushed[answer["push"]] = (answer["id"], text)

    def erase(self, name: str) -> None:
        """Delete a document, pushed or a source's, and note the number."""
        answer = self.done("DELETE", f"/v1/documents/{name}", key=PUSHER).json()
        self.pushed[answer["push"]] = (answer["id"], "")

    def begin(self, generation: str, token: str) -> None:
        """Begin a build."""
        self.done("POST", "/v1/builds", {"name": generation, "token": token})

    def add(self, generation: str, token: str, documents: range) -> httpx.Response:
        """Add documents to a build."""
        passages = [
            {"document": name, "position": 0, "text": text, "embedded": text, "source": "s", "access": ["public"]}
            for name, text in (of_generation(generation, number) for number in documents)
        ]
        return self.call("POST", f"/v1/builds/{generation}/{token}/passages", {"passages": passages})

    def finish(self, generation: str, token: str) -> None:
        """Seal a build and swap to it."""
        self.done("POST", f"/v1/builds/{generation}/{token}/seal", {})
        self.serve(generation)

    def serve(self, generation: str) -> None:
        """Swap, forward or back, and go on when questions were answered from there."""
        self.done("PUT", "/v1/serving", {"generation": generation})
        self.wait_for_answers(lambda answer: answer.generation == generation)

    def wait_for_answers(self, wanted: Callable[[Answer], bool]) -> None:
        """Return when a question that was asked from now on has been answered as wanted."""
        start = len(self.answers)
        until = threading.Event()
        for _ in range(6000):
            answered = self.answers[start:]
            if any(wanted(answer) for answer in answered):
                return
            until.wait(0.01)
        raise TimeoutError("no question was answered within a minute")

    def ask_on(self) -> None:
        """Ask until it is over."""
        headers = {"Authorization": f"Bearer {READER}"}
        question = {"query": "Which document is here?", "topK": ALL}
        while not self.over.is_set():
            down = self.down.is_set()
            try:
                answer = self.client.post("/v1/retrieve", json=question, headers=headers)
            except httpx.TransportError as error:
                if not (down or self.down.wait(1)):
                    self.failures.append(repr(error))
                self.over.wait(0.05)
                continue
            if answer.status_code == httpx.codes.OK:
                self.answers.append(parsed(answer.json()))
            else:
                self.failures.append(answer.text)

    def expected(self, answer: Answer) -> frozenset[tuple[str, str]]:
        """Return what an answer must hold: all of its generation and of the pushes up to its number."""
        documents = dict(of_generation(answer.generation, number) for number in range(DOCUMENTS))
        for number in sorted(self.pushed):
            if number <= answer.push:
                document, text = self.pushed[number]
                documents[document] = text
        return frozenset((document, text) for document, text in documents.items() if text)


def of_generation(generation: str, number: int) -> tuple[str, str]:
    """Return a document's name and its text in a generation."""
    return f"s/{number}", f"Document {number} of {generation} is here."


def parsed(answer: "dict[str, object]") -> Answer:
    """Return an answer's parts."""
    passages = answer["passages"]
    assert isinstance(passages, list)
    found = [(item["document"], item["text"]) for item in passages]
    assert len(found) == len(set(found))
    return Answer(generation=str(answer["generation"]), push=int(str(answer["push"])), found=frozenset(found))


@contextmanager
def asking(life: Life) -> Iterator[None]:
    """Ask in two threads meanwhile."""
    threads = [threading.Thread(target=life.ask_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        life.over.set()
        for thread in threads:
            thread.join()


def configured(folder: Path, embedding_url: str) -> Path:
    """Write the configuration with three keys."""
    scopes = ((BUILDER, "build"), (READER, "search"), (PUSHER, "push"))
    keys = [
        {"id": key, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": [scope], "access": ["public"]}
        for key, scope in scopes
    ]
    return write_config(folder, embedding_url=embedding_url, keys={"keys": keys})


def kill_builder(process: "Popen[bytes]") -> None:
    """Kill the process that a build runs in."""
    (builder,) = [
        child
        for child in psutil.Process(process.pid).children()
        if "nimblet_retriever.store.builder" in child.cmdline()
    ]
    builder.kill()


def test_no_answer_fails_is_empty_or_mixed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        config = configured(tmp_path, stack.enter_context(serving(EmbeddingServer().app())))
        port = free_port()
        process = stack.enter_context(retriever(config, port=port))
        client = stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=BRIEFLY_KEPT)
        )
        life = Life(client=client)
        # Given a serving generation, and questions from now on
        life.begin("g000001", "a")
        assert life.add("g000001", "a", range(DOCUMENTS)).is_success
        life.done("POST", "/v1/builds/g000001/a/seal", {})
        life.done("PUT", "/v1/serving", {"generation": "g000001"})
        asked = stack.enter_context(ExitStack())
        asked.enter_context(asking(life))
        life.push("a", "Document a was pushed.")
        # When an indexer is killed half way, another one takes over, and the first comes back as a zombie
        life.begin("g000002", "old")
        assert life.add("g000002", "old", range(6)).is_success
        life.begin("g000002", "new")
        zombie = life.add("g000002", "old", range(6, DOCUMENTS))
        assert zombie.status_code in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT)
        assert life.add("g000002", "new", range(DOCUMENTS)).is_success
        life.finish("g000002", "new")
        # When documents are pushed, replaced and erased, and the index is rolled back and forward
        life.push("b", "Document b was pushed.")
        life.push("a", "Document a was pushed again.")
        life.erase("s/3")
        life.serve("g000001")
        life.erase("b")
        life.serve("g000002")
        life.done("DELETE", "/v1/generations/g000001")
        # When the builder is killed, the build goes on
        life.begin("g000003", "a")
        assert life.add("g000003", "a", range(6)).is_success
        kill_builder(process)
        assert life.add("g000003", "a", range(6, DOCUMENTS)).status_code == httpx.codes.INTERNAL_SERVER_ERROR
        life.begin("g000003", "a")
        assert life.add("g000003", "a", range(6, DOCUMENTS)).is_success
        # When the retriever is killed in the middle of that, it comes back with all that it acknowledged
        life.push("c", "Document c was pushed.")
        life.down.set()
        process.kill()
        process.wait()
        stack.enter_context(retriever(config, port=port))
        life.down.clear()
        life.wait_for_answers(lambda answer: answer.push == max(life.pushed))
        life.begin("g000003", "a")
        life.finish("g000003", "a")
        life.push("b", "Document b is back.")
        life.wait_for_answers(lambda answer: answer.push == max(life.pushed))
        asked.close()
    # Then every answer was whole: one generation, and exactly the pushes up to its number
    assert life.failures == []
    assert {answer.generation for answer in life.answers} == {"g000001", "g000002", "g000003"}
    for answer in life.answers:
        assert answer.found == life.expected(answer)
