# SPDX-License-Identifier: Apache-2.0
"""`nimblet digest` and `nimblet sign`: what they make is what the loader checks, and errors say what to do."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from loader_testing.signing import BEGINS, SIGNER, a_certificate, a_key, public_pem
from nimblet.api.compactmodel import ArtifactFile, ArtifactStatus, CompactModelSpec, CompactModelStatus
from nimblet.cli import trust
from nimblet.cli.errors import CommandError
from nimblet.cli.main import main
from nimblet.cluster.named import trust_text
from nimblet.plan.integrity import parse_manifest
from nimblet_loader.contract import Signature
from nimblet_loader.signature import verify_signature
from tests.builders import DIGEST, a_model

KEY = a_key()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a model's folder, with what belongs to no model."""
    model = tmp_path / "model"
    (model / "parts").mkdir(parents=True)
    (model / ".git").mkdir()
    for name in ("config.json", "parts/a b.gguf", ".gitattributes", ".git/HEAD", "model.sig"):
        (model / name).write_text(name)
    return model


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "builds.key"
    path.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


DIGESTS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("config.json", "parts/a b.gguf")}


def run(argv: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main([str(item) for item in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("output", ["sha256sum", "json"])
def test_digests_are_read_back_as_a_manifest(
    folder: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, _ = run(["digest", folder, "-o", output], capsys)
    assert code == 0
    assert parse_manifest(text) == DIGESTS


def test_a_config_map_of_digests_is_one_that_the_operator_reads(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text, _ = run(["digest", folder, "-o", "configmap", "--name", "sums", "-n", "team"], capsys)
    body = yaml.safe_load(text)
    found = trust_text(body, key=trust.MANIFEST_KEY)
    assert found.usable
    assert parse_manifest(found.text) == DIGESTS
    assert (body["metadata"]["name"], body["metadata"]["namespace"]) == ("sums", "team")


def test_digests_as_a_part_of_the_spec(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = run(["digest", folder / "config.json", "-o", "spec"], capsys)
    spec = CompactModelSpec.model_validate({"source": {"uri": "hf://org/repo"}, **yaml.safe_load(text)})
    assert spec.integrity is not None
    assert spec.integrity.sha256 == {"config.json": DIGESTS["config.json"]}


def test_a_signature_is_one_that_the_loader_verifies(
    folder: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.sig"
    code, text, _ = run(["sign", folder, "--key", key, "--out", out], capsys)
    assert code == 0
    assert f"{DIGESTS['config.json']}  config.json" in text
    signed = verify_signature(Signature(method="Key", bundle=out.read_text(), trust=public_pem(KEY)), BEGINS)
    assert signed.digests == DIGESTS

    code, _, error = run(["sign", folder, "--key", key, "--out", out], capsys)
    assert code == 1
    assert "--force" in error
    assert run(["sign", folder, "--key", key, "--out", out, "--force"], capsys)[0] == 0


def test_a_signature_by_a_certificate_is_one_that_the_loader_verifies(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = a_certificate("root")
    leaf = a_certificate("signer", root)
    (tmp_path / "leaf.pem").write_text(leaf.pem)
    private = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "leaf.key").write_bytes(private)
    argv = [
        "sign",
        folder,
        "--key",
        tmp_path / "leaf.key",
        "--certificate",
        tmp_path / "leaf.pem",
        "-o",
        "configmap",
    ]
    _, text, _ = run(argv, capsys)
    bundle = trust_text(yaml.safe_load(text), key=trust.SIGNATURE_FILE).text
    asked = Signature(method="Certificate", bundle=bundle, trust=root.pem, identity=SIGNER)
    assert verify_signature(asked, BEGINS).digests == DIGESTS
    assert private.decode().splitlines()[1] not in text


def test_the_files_of_a_resolved_model() -> None:
    files = [ArtifactFile(path="m.gguf", size=1, sha256=DIGEST)]
    status = CompactModelStatus(artifact=ArtifactStatus(files=files))
    assert trust.resolved_digests(a_model(status=status)) == {"m.gguf": DIGEST}
    with pytest.raises(CommandError, match="not resolved"):
        trust.resolved_digests(a_model())
    unknown = CompactModelStatus(artifact=ArtifactStatus(files=[ArtifactFile(path="m.gguf", size=1)]))
    with pytest.raises(CommandError, match=r"found none of m\.gguf"):
        trust.resolved_digests(a_model(status=unknown))


def test_links_are_refused(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "link.gguf").symlink_to(folder / "config.json")
    for command in (["digest", folder], ["sign", folder, "--key", key], ["digest", folder / "link.gguf"]):
        code, _, error = run(command, capsys)
        assert code == 1
        assert "link" in error
    (folder / "link.gguf").unlink()
    (folder / "linked").symlink_to(folder / "parts")
    assert run(["digest", folder], capsys)[0] == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["digest"], "PATH or --model"),
        (["digest", "x", "--model", "m"], "not both"),
        (["digest", "nowhere"], "found nothing"),
        (["sign", __file__, "--key", "nowhere"], "expected a file nowhere"),
    ],
)
def test_wrong_usage_is_told(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(argv, capsys)
    assert code == 1
    assert said in error


@pytest.mark.parametrize("kind", ["encrypted", "RSA", "none", "another certificate"])
def test_keys_that_can_not_sign_are_told(
    folder: Path, key: Path, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest: list[str | Path] = []
    if kind == "encrypted":
        secret = BestAvailableEncryption(b"x")
        key.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    elif kind == "RSA":
        rsa = generate_private_key(65537, 2048)
        key.write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    elif kind == "none":
        key.write_text("no key")
    else:
        (tmp_path / "root.pem").write_text(a_certificate("root").pem)
        rest = ["--certificate", tmp_path / "root.pem"]
    code, _, error = run(["sign", folder, "--key", key, *rest], capsys)
    assert code == 1
    assert "expected an unencrypted private key in PEM" in error
