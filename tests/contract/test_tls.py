# SPDX-License-Identifier: Apache-2.0
"""Gateway, retriever and indexer as processes over HTTPS, with certificates as the operator makes them.

Each is told no more than the folder that the operator mounts; servers are asked by a name of their certificate.
"""

import hashlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from gateway_testing.process import (
    BUILDER,
    SEARCHER,
    Running,
    eventually,
    gateway,
    gateway_config,
    index_config,
    retriever_keys,
)
from gateway_testing.upstream import ModelServer
from nimblet.cluster.pki import Authority
from retriever_testing.embeddings import EmbeddingServer
from retriever_testing.process import free_port, retriever, serving, write_config
from retriever_testing.restserver import RestServer
from tls_testing.mounted import MountedSecret, new_authority, trusting

pytestmark = pytest.mark.timeout(240)
HOST = "localhost"
ROTATIONS = 1


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Everything behind a gateway, each with a certificate of its own."""

    authority: Authority
    model: MountedSecret
    retriever: MountedSecret
    model_url: str
    embedding_url: str
    index_url: str
    folder: Path

    def build(self, trusted: Path, *, patience: float = 60) -> "subprocess.CompletedProcess[bytes]":
        """Run the indexer, which trusts what a folder says, and waits so many seconds for a retriever."""
        documents, key = self.folder / "documents", self.folder / "key"
        documents.mkdir(exist_ok=True)
        (documents / "bike.md").write_text("# Bicycles\n\nA bicycle may be parked in the yard.\n")
        key.write_text(BUILDER)
        config = {
            "version": 1,
            "generation": "g000001",
            "token": "t1",
            "retriever": {"url": self.index_url, "keyFile": str(key), "patienceSeconds": patience},
            "sources": [{"name": "wiki", "folder": str(documents), "access": ["public"]}],
            "serve": True,
        }
        path, report = self.folder / "build.json", self.folder / "report.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "nimblet_indexer", "--config", str(path), "--progress-port", "0"]
        return subprocess.run([*command, "--report", str(report), "--tls", str(trusted)], check=False)

    def gateway_config(self, folder: Path) -> Path:
        """Write the configuration of a gateway in front of all."""
        index = index_config(folder, self.index_url, key=SEARCHER)
        return gateway_config(folder, model_url=self.model_url, indexes=[index])


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A model, an embedding model and a retriever, all over HTTPS."""
    folder, authority, port = tmp_path_factory.mktemp("tls"), new_authority(), free_port()
    secrets = {name: MountedSecret(folder / name, host=HOST) for name in ("model", "embedding", "retriever")}
    for secret in secrets.values():
        secret.mount(authority)
    with ExitStack() as stack:
        embedding = stack.enter_context(serving(EmbeddingServer().app(), tls=secrets["embedding"].folder))
        model_url = stack.enter_context(serving(ModelServer().app(), tls=secrets["model"].folder))
        config = write_config(folder, embedding_url=embedding, keys=retriever_keys())
        stack.enter_context(retriever(config, port=port, tls=secrets["retriever"].folder))
        yield Plane(
            authority=authority,
            model=secrets["model"],
            retriever=secrets["retriever"],
            model_url=model_url,
            embedding_url=embedding,
            index_url=f"https://{HOST}:{port}",
            folder=folder,
        )


def test_a_build_a_search_and_an_answer_pass_over_https(plane: Plane, tmp_path: Path) -> None:
    assert plane.build(plane.retriever.folder).returncode == 0
    own = MountedSecret(tmp_path / "gateway-tls", host=HOST)
    own.mount(plane.authority)
    with gateway(plane.gateway_config(tmp_path), tls=own.folder) as running:
        eventually(lambda: running.chat("hello").status_code == httpx.codes.OK)
        found = running.post("/v1/retrieve", {"query": "bicycle"}).json()
        assert [item["text"] for item in found["passages"]] == ["A bicycle may be parked in the yard."]
        with pytest.raises(httpx.HTTPError):  # plain HTTP is not answered
            httpx.get(running.url.replace("https://", "http://") + "/livez", timeout=60)


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
def test_a_build_lands_on_qdrant_servers_over_https_alone(plane: Plane, tmp_path: Path) -> None:
    """The server is the make-believe one of the retriever's tests; TLS, programs and mounted folders are real."""
    shown, strange = (MountedSecret(tmp_path / name, host=HOST) for name in ("qdrant", "strange"))
    shown.mount(plane.authority)
    strange.mount(new_authority())
    server, port = RestServer(), free_port()
    with serving(server.app(), tls=shown.folder) as url:

        def on_servers(trusted: MountedSecret) -> Path:
            config = write_config(tmp_path, embedding_url=plane.embedding_url, keys=retriever_keys())
            store = {"type": "Server", "url": url, "prefix": "docs", "tlsFolder": str(trusted.folder)}
            config.write_text(json.dumps({**json.loads(config.read_text()), "store": store}))
            return config

        before = server.requests
        with retriever(on_servers(shown), port=port, tls=plane.retriever.folder):
            here = replace(plane, index_url=f"https://{HOST}:{port}", folder=tmp_path)
            assert here.build(plane.retriever.folder).returncode == 0
        built = server.requests
        assert built > before
        # a retriever that trusts another authority tells such servers nothing, and ends
        command = [sys.executable, "-m", "nimblet_retriever", "--config", str(on_servers(strange))]
        done = subprocess.run([*command, "--port", str(port)], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "the store can't be opened" in done.stderr
        assert server.requests == built


def test_a_rotation_under_load_fails_no_request(plane: Plane, tmp_path: Path) -> None:
    """The gateway's and the retriever's certificates change while answers and searches come in."""
    own = MountedSecret(tmp_path / "gateway-tls", host=HOST)
    own.mount(plane.authority)
    trust = trusting(plane.authority)
    with gateway(plane.gateway_config(tmp_path), tls=own.folder) as running:
        eventually(lambda: running.chat("hello").status_code == httpx.codes.OK)
        load = _Load(running, plane)
        load.start()
        for _ in range(ROTATIONS):
            for secret, url in ((own, running.url), (plane.retriever, plane.index_url)):
                before = _shown(url, trust)
                asked = load.done
                secret.mount(plane.authority)
                eventually(partial(_differs, url, trust, before))
                eventually(partial(load.is_past, asked + 1))
        load.stop()
    assert load.failed == []
    assert load.done > ROTATIONS


def test_who_trusts_another_authority_gets_nothing(plane: Plane, tmp_path: Path) -> None:
    stranger, own = new_authority(), MountedSecret(tmp_path / "gateway-tls", host=HOST)
    own.mount(stranger)
    with gateway(plane.gateway_config(tmp_path), tls=own.folder) as running:
        refused = running.chat("hello")
        assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert plane.build(own.folder, patience=1).returncode != 0


def test_a_program_without_its_certificate_says_so_and_ends(tmp_path: Path) -> None:
    empty = tmp_path / "tls"
    empty.mkdir()
    config = gateway_config(tmp_path, model_url="https://localhost:1")
    command = [sys.executable, "-m", "nimblet_gateway", "--config", str(config), "--tls", str(empty)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 2
    assert "ca.crt" in done.stderr


class _Load(threading.Thread):
    """Asks gateway and retriever until it is stopped, over a new connection each time, as clients come and go."""

    def __init__(self, running: Running, plane: Plane) -> None:
        super().__init__()
        self._running, self._plane, self._going = running, plane, True
        self.failed: list[str] = []
        self.done = 0

    def run(self) -> None:
        """Ask."""
        trust = trusting(self._plane.authority)
        while self._going:
            try:
                with httpx.Client(verify=trust, timeout=60) as client:
                    found = client.post(
                        f"{self._running.url}/v1/retrieve",
                        json={"query": "bicycle"},
                        headers={"Authorization": "Bearer client-key"},
                    )
            except httpx.HTTPError as error:
                self.failed.append(type(error).__name__)
                return
            if found.status_code != httpx.codes.OK:
                self.failed.append(found.text)
                return
            self.done += 1

    def is_past(self, count: int) -> bool:
        """Tell whether more than so many were answered, or one failed."""
        return self.done > count or bool(self.failed)

    def stop(self) -> None:
        """End."""
        self._going = False
        self.join()


def _differs(url: str, trust: ssl.SSLContext, before: str) -> bool:
    return _shown(url, trust) != before


def _shown(url: str, trust: ssl.SSLContext) -> str:
    """Return a hash of the certificate that a server shows to a new connection."""
    port = int(url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        trust.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
    return hashlib.sha256(shown or b"").hexdigest()
