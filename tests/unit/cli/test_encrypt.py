# SPDX-License-Identifier: Apache-2.0
"""`nimblet encrypt`: what it makes is what the loader decrypts with its key, and errors say what to do."""

import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from loader_testing.tiny import TinyModel, string
from nimblet.cli.main import main
from nimblet_egress.retry import Pace
from nimblet_loader.age import parse_identities
from nimblet_loader.claim import ClaimConnector
from nimblet_loader.contract import Encryption, FetchPolicy, Source
from nimblet_loader.fetch import Fetch, fetch
from nimblet_loader.progress import Progress
from nimblet_loader.sealed import MANIFEST, EncryptionManifest, resolve_sealed
from nimblet_loader.trust import Trusted

NAMES = ["--model", "acme/tiny", "--revision", "7"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a model's folder."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "tiny.gguf").write_bytes(TinyModel().file())
    (model / "README.md").write_text("hello")
    return model


def run(argv: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main([str(item) for item in ["encrypt", *argv]])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_what_was_encrypted_is_what_the_loader_decrypts(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, key, models = tmp_path / "sealed", tmp_path / "tiny.key", tmp_path / "models"
    code, text, progress = run([folder, "--out", out, *NAMES, "--new-identity", key], capsys)
    assert code == 0
    assert "100 % of" in progress
    assert f"{hashlib.sha256(TinyModel().file()).hexdigest()}  tiny.gguf" in text
    assert "nimblet sign" in text
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, "tiny.gguf.age"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    secret = key.read_text().splitlines()[-1]
    assert secret not in text + progress

    digest = hashlib.sha256((out / MANIFEST).read_bytes()).hexdigest()
    source = Source(
        version=1,
        uri="pvc://sealed/",
        sha256={MANIFEST: digest},
        encryption=Encryption(model="acme/tiny", revision="7"),
    )
    connector, policy = ClaimConnector(out, uri=source.uri), FetchPolicy(version=1)
    artifact = resolve_sealed(Trusted(source), connector, policy, Pace(attempts=1))
    models.mkdir()
    fetch(
        Fetch(
            artifact=artifact,
            connector=connector,
            policy=policy,
            root=models,
            uid="uid-1",
            pace=Pace(attempts=1),
            progress=Progress(),
            now=lambda: 0.0,
            identities=parse_identities(key.read_text()),
        )
    )
    assert (models / "tiny.gguf").read_bytes() == TinyModel().file()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["{model}", "--out", "{out}", *NAMES], "--new-identity"),
        (["{model}", "--out", "{out}", *NAMES, "--recipient", "age1nobody"], "begin with age1"),
        (["{model}", "--out", "{model}/sealed", *NAMES, "--new-identity", "{key}"], "found it inside"),
        (["{model}/none", "--out", "{out}", *NAMES, "--new-identity", "{key}"], "correct the path"),
        (["{model}", "--out", "{out}", "--model", "a b", "--revision", "7", "--new-identity", "{key}"], "letters"),
        (["{model}", "--out", "{out}", *NAMES, "--new-identity", "{model}/tiny.gguf"], "give another path"),
        (["{model}", "--out", "{out}", *NAMES, "--new-identity", "{key}", "--quantization", "Q9"], "quantization"),
    ],
)
def test_errors_say_what_to_do_and_leave_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    names = {"model": folder, "out": tmp_path / "sealed", "key": tmp_path / "tiny.key"}
    code, text, error = run([item.format(**names) for item in argv], capsys)
    assert (code, text) == (1, "")
    assert said in error
    assert not list((tmp_path / "sealed").glob("*"))
    assert not (tmp_path / "tiny.key").exists(), "the same command could not be given again, corrected"
    assert (folder / "tiny.gguf").read_bytes() == TinyModel().file()


def test_an_adapter_is_encrypted_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out, key = tmp_path / "adapter", tmp_path / "sealed", tmp_path / "legal.key"
    folder.mkdir()
    halves = (("blk.0.attn_q.weight.lora_a", (64, 4)), ("blk.0.attn_q.weight.lora_b", (4, 64)))
    pairs = [("general.architecture", "llama"), ("general.type", "adapter"), ("adapter.type", "lora")]
    lora = TinyModel(pairs=tuple(string(*pair) for pair in pairs), tensors=halves)
    (folder / "legal.gguf").write_bytes(lora.file())
    argv = [folder, "--out", out, *NAMES, "--new-identity", key]
    assert run(argv, capsys)[0] == 1, "it is no model"
    code, _, error = run([*argv, "--adapter"], capsys)
    assert code == 0, error
    manifest = EncryptionManifest.model_validate_json((out / MANIFEST).read_bytes())
    assert manifest.plaintext.header.adapter is not None
    assert manifest.plaintext.header.adapter.rank == 4


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["encrypt", "--help"])
    assert "nimblet encrypt ./models/tuned" in capsys.readouterr().out
