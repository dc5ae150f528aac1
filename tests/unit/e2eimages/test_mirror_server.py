# SPDX-License-Identifier: Apache-2.0
"""The mirror over real sockets: the hub's own client, and the faults as a plain client sees them."""

import hashlib
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from e2e.mirror.catalog import Hub, HubFile
from e2e.mirror.protocol import Request, Response
from e2e.mirror.server import Listener, MirrorServer, serve

TOKEN = "hf_made_for_tests"


@pytest.fixture
def client(mirror: MirrorServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=mirror.url, follow_redirects=True, timeout=60, trust_env=False) as http:
        yield http


def fetch(mirror: MirrorServer, repo: str, file: str, *, into: Path, token: str | bool = False) -> Path:
    return Path(hf_hub_download(repo, file, endpoint=mirror.url, cache_dir=into, token=token))


@pytest.mark.parametrize("repo", ["org/tiny", "org/direct"])
def test_hub_client_downloads_a_large_file(
    mirror: MirrorServer, model_file: HubFile, tmp_path: Path, repo: str
) -> None:
    path = fetch(mirror, repo, "tiny.gguf", into=tmp_path / "cache")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == model_file.sha256
    assert path.parent.name == mirror.site.hub.repos[repo].commit


def test_hub_client_downloads_a_small_file_in_a_folder(mirror: MirrorServer, tmp_path: Path) -> None:
    path = fetch(mirror, "org/tiny", "docs/README.md", into=tmp_path / "cache")
    assert path.read_text(encoding="utf-8") == "# Tiny\n"


def test_hub_client_resolves_a_branch_to_a_commit(mirror: MirrorServer, model_file: HubFile) -> None:
    info = HfApi(endpoint=mirror.url, token=False).model_info(
        "org/tiny", revision="refs/pr/1", files_metadata=True
    )
    large = {sibling.rfilename: sibling.lfs for sibling in info.siblings or []}["tiny.gguf"]
    assert info.sha == mirror.site.hub.repos["org/tiny"].commit
    assert large is not None
    assert (large.sha256, large.size) == (model_file.sha256, model_file.size_bytes)


@pytest.mark.parametrize(
    ("repo", "file", "error"),
    [
        ("no/such", "tiny.gguf", RepositoryNotFoundError),
        ("org/tiny", "none.gguf", EntryNotFoundError),
        ("faults/gated", "tiny.gguf", GatedRepoError),
    ],
)
def test_hub_client_understands_the_refusal(
    mirror: MirrorServer, tmp_path: Path, repo: str, file: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        fetch(mirror, repo, file, into=tmp_path / "cache")


def test_hub_client_understands_an_unknown_revision(mirror: MirrorServer) -> None:
    with pytest.raises(RevisionNotFoundError):
        HfApi(endpoint=mirror.url, token=False).model_info("org/tiny", revision="none")


def test_hub_client_enters_a_gated_repository_with_the_token(mirror: MirrorServer, tmp_path: Path) -> None:
    path = fetch(mirror, "faults/gated", "tiny.gguf", into=tmp_path / "cache", token=TOKEN)
    assert path.read_bytes().startswith(b"GGUF")


def test_hub_client_is_told_that_its_token_does_not_open_the_gate(mirror: MirrorServer, tmp_path: Path) -> None:
    with pytest.raises(GatedRepoError, match="403"):
        fetch(mirror, "faults/closed", "tiny.gguf", into=tmp_path / "cache", token=TOKEN)


def test_head_has_the_headers_and_no_body(client: httpx.Client, model_file: HubFile) -> None:
    response = client.head("/files/tiny.gguf")
    assert response.headers["Content-Length"] == str(model_file.size_bytes)
    assert response.content == b""


def test_cut_transfer_ends_early_and_a_range_goes_on(client: httpx.Client, model_file: HubFile) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|closed connection"):
        client.get("/faults/cut/resolve/main/tiny.gguf")
    rest = client.get("/faults/cut/resolve/main/tiny.gguf", headers={"Range": "bytes=1000-1999"})
    assert rest.content == model_file.path.read_bytes()[1000:2000]


def test_wrong_digest_changes_one_byte_and_keeps_the_size(client: httpx.Client, model_file: HubFile) -> None:
    body = client.get("/faults/wrong-digest/resolve/main/tiny.gguf").content
    true = model_file.path.read_bytes()
    assert len(body) == len(true)
    assert [at for at in range(len(true)) if body[at] != true[at]] == [len(true) // 2]


def test_stalled_transfer_sends_no_more_and_keeps_the_connection(client: httpx.Client) -> None:
    redirect = client.get("/faults/stalled/resolve/main/tiny.gguf", follow_redirects=False)
    place = urlsplit(redirect.headers["location"])
    with closing(HTTPConnection(place.netloc, timeout=60)) as connection:
        connection.request("GET", place._replace(scheme="", netloc="").geturl())
        response = connection.getresponse()
        assert len(response.read(1000)) == 1000
        # how long to listen on is told only now: what comes before may take as long as it will
        assert connection.sock is not None
        connection.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            response.read(1)


def test_client_that_leaves_in_the_middle_is_no_error(
    mirror: MirrorServer, client: httpx.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    with client.stream("GET", "/faults/stalled/resolve/main/tiny.gguf") as response:
        next(response.iter_raw())
    client.close()
    linger = struct.pack("ii", 1, 0)  # close with a reset instead of an orderly end
    with socket.create_connection(("127.0.0.1", mirror.port)) as raw:
        raw.sendall(b"GET /files/tiny.gguf HTTP/1.1\r\n\r\nGET ")
        raw.recv(1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert httpx.get(f"{mirror.url}/healthz", trust_env=False, timeout=60).status_code == 200
    assert capfd.readouterr().err == ""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mirror")])
    day = timedelta(days=1)
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = tmp_path / "server.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def test_https_serves_and_redirects_to_https(hub: Hub, certificate: Path, model_file: HubFile) -> None:
    trust = ssl.create_default_context(cafile=str(certificate))
    with (
        serve(hub, listener=Listener(certificate=certificate)) as server,
        httpx.Client(verify=trust, trust_env=False, follow_redirects=True, timeout=60) as http,
    ):
        response = http.get(f"{server.url}/org/tiny/resolve/main/tiny.gguf")
    assert response.url.scheme == "https"
    assert response.content == model_file.path.read_bytes()


def test_observer_sees_each_answer_and_no_secret_in_its_target(hub: Hub) -> None:
    seen: list[tuple[str, str, int]] = []

    def observe(method: str, request: Request, response: Response) -> None:
        seen.append((method, request.target, response.status))

    with serve(hub, observe=observe) as server, httpx.Client(trust_env=False, timeout=60) as http:
        http.get(f"{server.url}/healthz", headers={"Authorization": f"Bearer {TOKEN}"})
    assert seen == [("GET", "/healthz", 200)]
