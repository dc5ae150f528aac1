# SPDX-License-Identifier: Apache-2.0
"""The gateway as a process on loopback with a model and a retriever: for tests that need real HTTP."""

import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from nimblet_tls.folder import TLSFolder
from retriever_testing.process import START_SECONDS, free_port

ASSISTANT, KEY, OPERATOR = "helpdesk", "client-key", "operator-key"
BUILDER, SEARCHER = "builder", "searcher"
END_SECONDS = 60
HOLD_SECONDS = 60.0
"""What comes about within a moment may take this long where the machine is busy."""
PORTS = 3
NEW_EACH_TIME = httpx.Limits(max_keepalive_connections=0)
"""A connection that is kept may be closed by the server just when the next request goes out on it."""
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A running gateway."""

    url: str
    folder: Path
    process: "subprocess.Popen[bytes]"
    client: httpx.Client

    @property
    def log(self) -> str:
        """What it logged so far."""
        return (self.folder / "gateway.log").read_text()

    def post(self, path: str, body: object, *, key: str = KEY) -> httpx.Response:
        """Send a request with a key."""
        headers = {"Authorization": f"Bearer {key}"}
        return self.client.post(path, json=body, headers=headers)

    def get(self, path: str, *, key: str = KEY) -> httpx.Response:
        """Ask with a key."""
        return self.client.get(path, headers={"Authorization": f"Bearer {key}"})

    def chat(self, *turns: str, key: str = KEY, **fields: object) -> httpx.Response:
        """Ask for an answer; turns are the user's and the assistant's by turns."""
        return self.post("/v1/chat/completions", chat_body(*turns, **fields), key=key)

    def stream(self, *turns: str, key: str = KEY, **fields: object) -> list[Json]:
        """Return the events of a streamed answer, without the last one's mark."""
        answer = self.chat(*turns, key=key, stream=True, **fields)
        if not answer.headers["content-type"].startswith("text/event-stream"):
            raise ValueError(f"expected a stream, found {answer.text}")
        lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        return [json.loads(line) for line in lines if line != "[DONE]"]

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample of the metrics, 0 where there is none."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.get("/metrics").text.splitlines():
            head, _, value = line.rpartition(" ")
            found, _, rest = head.partition("{")
            if found == name and wanted <= set(rest.removesuffix("}").split(",")):
                return float(value)
        return 0.0


def chat_body(*turns: str, **fields: object) -> Json:
    """Return a request's body."""
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(turns)]
    return {"model": ASSISTANT, "messages": messages, **fields}


def text_of(events: Sequence[Json]) -> str:
    """Return a stream's text."""
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ()))


def gateway_config(folder: Path, *, model_url: str, **changes: object) -> Path:
    """Write a configuration, keys too where none are there; return its path."""
    keys = folder / "keys"
    if not keys.exists():
        keys.mkdir()
        (keys / "client").write_text(f"{KEY}\n")
    config = {
        "version": 1,
        "assistant": ASSISTANT,
        "configuration": "c1",
        "grounding": "Off",
        "model": {"url": f"{model_url}/v1", "name": "m", "contextLength": 2048, "parallel": 2},
        "keysDir": str(keys),
        "operatorKey": {"sha256": hashlib.sha256(OPERATOR.encode()).hexdigest()},
        **changes,
    }
    path = folder / "gateway.json"
    path.write_text(json.dumps(config))
    return path


def index_config(folder: Path, url: str, *, name: str = "docs", key: str = SEARCHER) -> Json:
    """Return an index's part of the configuration; writes its key."""
    path = folder / f"{name}.key"
    path.write_text(key)
    return {"name": name, "url": url, "keyFile": str(path)}


@contextmanager
def gateway(config: Path, *, tls: Path | None = None) -> Iterator[Running]:
    """Run the gateway with a configuration until the block ends. `tls`: the folder with its certificate."""
    folder = config.parent
    process, url = next(
        started for started in (_started(config, tls) for _ in range(PORTS)) if started is not None
    )
    try:
        with httpx.Client(base_url=url, timeout=60, limits=NEW_EACH_TIME, verify=_verified(tls)) as client:
            yield Running(url=url, folder=folder, process=process, client=client)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=END_SECONDS)
        finally:
            process.kill()
            process.wait()


def _verified(tls: Path | None) -> ssl.SSLContext | bool:
    return TLSFolder(tls).client() if tls is not None else True


def _started(config: Path, tls: Path | None) -> "tuple[subprocess.Popen[bytes], str] | None":
    """Return a gateway that serves; None where somebody else took its port in between."""
    port, log = free_port(), config.parent / "gateway.log"
    command = [sys.executable, "-m", "nimblet_gateway", "--config", str(config), "--host", "127.0.0.1"]
    command += ["--tls", str(tls)] if tls is not None else []
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stderr=out,
            stdout=out,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
    eventually(lambda: process.poll() is not None or b"Uvicorn running" in log.read_bytes(), seconds=START_SECONDS)
    url = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
    return (process, url) if process.poll() is None else None


def eventually(condition: Callable[[], bool], *, seconds: float = HOLD_SECONDS) -> float:
    """Wait until a condition holds; return how long it took."""
    begun = time.monotonic()
    late = False
    while not late:
        late = (
            time.monotonic() - begun >= seconds
        )  # before the last look: a machine that stood still has missed none
        if condition():
            return time.monotonic() - begun
        time.sleep(0.01)
    raise TimeoutError(f"the condition did not hold within {seconds} s")


def retriever_keys() -> Json:
    """Return the key file of a retriever for the tests."""
    return {
        "keys": [
            {"id": "indexer", "sha256": hashlib.sha256(BUILDER.encode()).hexdigest(), "scopes": ["build"]},
            {
                "id": "gateway",
                "sha256": hashlib.sha256(SEARCHER.encode()).hexdigest(),
                "scopes": ["search"],
                "access": ["public", "board"],
            },
        ]
    }


def build(url: str, passages: Sequence[Mapping[str, object]], *, generation: str = "g000001") -> None:
    """Build a generation of a running retriever and serve it."""
    filled = [
        {"position": 0, "source": "wiki", "access": ["public"], "embedded": item["text"], **item}
        for item in passages
    ]
    base, token = f"{url}/v1/builds", f"{generation}/a"
    steps = [
        ("POST", base, {"name": generation, "token": "a"}),
        ("POST", f"{base}/{token}/passages", {"passages": filled}),
        ("POST", f"{base}/{token}/seal", {}),
        ("PUT", f"{url}/v1/serving", {"generation": generation}),
    ]
    for method, address, body in steps:
        headers = {"Authorization": f"Bearer {BUILDER}"}
        httpx.request(method, address, json=body, headers=headers, timeout=60).raise_for_status()
