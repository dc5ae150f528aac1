# SPDX-License-Identifier: Apache-2.0
"""Models in a mounted claim: measured, copied, and never read through a link."""

import itertools
import os
from pathlib import Path

import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.tiny import TinyModel
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.claim import ClaimConnector
from nimblet_loader.connector import Span

URI = "pvc://weights/llm"


@pytest.fixture
def claim(bench: Bench, tmp_path: Path) -> Path:
    bench.claim = tmp_path / "claim"
    (bench.claim / "llm").mkdir(parents=True)
    (bench.claim / "llm" / MODEL).write_bytes(bench.content)
    return bench.claim


def refusal(bench: Bench, uri: str = URI, **source: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        bench.resolve(uri=uri, **source)
    return caught.value


@pytest.mark.parametrize("uri", [URI, f"{URI}/", f"{URI}/{MODEL}"])
def test_a_file_is_measured_and_copied(bench: Bench, claim: Path, uri: str) -> None:
    artifact = bench.resolve(uri=uri)
    (file,) = artifact.files
    assert (file.path, file.size, file.sha256) == (MODEL, len(bench.content), bench.digest)
    assert (artifact.digest_source, file.tag) == ("Resolver", None)
    assert bench.fetch(artifact).sha256 == {MODEL: bench.digest}
    assert (bench.root / MODEL).read_bytes() == bench.content
    assert bench.server.requests == []


def test_the_whole_claim_may_be_the_source(bench: Bench, claim: Path) -> None:
    (claim / "lost+found").mkdir()
    assert bench.resolve(uri="pvc://weights").files[0].path == f"llm/{MODEL}"


def test_the_users_digest_is_the_source_of_trust(bench: Bench, claim: Path) -> None:
    assert bench.resolve(uri=URI, sha256={MODEL: bench.digest}).digest_source == "Spec"
    assert refusal(bench, sha256={MODEL: "0" * 64}).reason is Reason.DigestMismatch


def test_equal_files_give_equal_commits(bench: Bench, claim: Path) -> None:
    before = bench.resolve(uri=URI)
    os.utime(claim / "llm" / MODEL, (1, 1))
    assert bench.resolve(uri=URI) == before


def test_files_below_folders_are_offered_in_order(bench: Bench, claim: Path) -> None:
    (claim / "llm" / "more").mkdir()
    (claim / "llm" / "more" / "tiny-Q8_0.gguf").write_bytes(TinyModel().file())
    assert refusal(bench).reason is Reason.QuantizationAmbiguous
    assert bench.resolve(uri=URI, quantization="Q8_0").files[0].path == "more/tiny-Q8_0.gguf"


def test_links_are_left_out_of_the_listing(bench: Bench, claim: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.gguf").write_bytes(bench.content)
    (claim / "llm" / "secret.gguf").symlink_to(outside / "secret.gguf")
    (claim / "llm" / "folder").symlink_to(outside)
    os.mkfifo(claim / "llm" / "pipe.gguf")
    assert [file.path for file in bench.resolve(uri=URI).files] == [MODEL]


@pytest.mark.parametrize(
    "uri", ["pvc://weights/linked", f"pvc://weights/linked/{MODEL}", "pvc://weights/one.gguf"]
)
def test_a_link_on_the_way_is_refused(bench: Bench, claim: Path, uri: str) -> None:
    (claim / "linked").symlink_to(claim / "llm")
    (claim / "one.gguf").symlink_to(claim / "llm" / MODEL)
    assert refusal(bench, uri).reason is Reason.UnsafePath


def test_a_file_that_becomes_a_link_after_resolving_is_refused(bench: Bench, claim: Path, tmp_path: Path) -> None:
    artifact = bench.resolve(uri=URI)
    outside = tmp_path / "outside.gguf"
    (claim / "llm" / MODEL).rename(outside)
    (claim / "llm" / MODEL).symlink_to(outside)
    with pytest.raises(SourceError) as caught:
        bench.fetch(artifact)
    assert caught.value.reason is Reason.UnsafePath


def test_a_pipe_does_not_hold_the_loader(bench: Bench, claim: Path) -> None:
    os.mkfifo(claim / "pipe.gguf")
    connector = ClaimConnector(claim, uri="pvc://weights")
    with pytest.raises(SourceError) as caught, connector.open("pipe.gguf", commit="", span=Span()):
        pass
    assert caught.value.reason is Reason.UnsafePath


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("pvc://weights/absent", Reason.FileNotFound),
        ("pvc://weights/absent.gguf", Reason.FileNotFound),
        ("pvc://weights/empty", Reason.RepositoryNotFound),
        ("pvc://weights/../etc", Reason.ConfigInvalid),
        ("pvc://weights//llm", Reason.ConfigInvalid),
        ("pvc://Weights/llm", Reason.ConfigInvalid),
        ("pvc://", Reason.ConfigInvalid),
    ],
)
def test_what_is_not_there(bench: Bench, claim: Path, uri: str, reason: Reason) -> None:
    (claim / "empty").mkdir()
    assert refusal(bench, uri).reason is reason


def test_too_deep_a_tree_is_not_walked(bench: Bench, claim: Path) -> None:
    (claim / "llm" / "/".join("d" * 20)).mkdir(parents=True)
    assert refusal(bench).reason is Reason.TooManyFiles


def test_a_file_that_is_written_to_while_it_is_measured_is_told(
    bench: Bench, claim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of the claim stands in for its writer: each read of the file is followed by a write."""
    path, read = claim / "llm" / MODEL, os.read
    times = itertools.count(1)

    def read_and_touch(descriptor: int, count: int) -> bytes:
        moment = next(times)
        os.utime(path, (moment, moment))
        return read(descriptor, count)

    connector = ClaimConnector(claim, uri=URI)
    (entry,) = connector.snapshot().entries
    monkeypatch.setattr(os, "read", read_and_touch)
    with pytest.raises(SourceError) as caught:
        connector.measure(entry)
    assert caught.value.reason is Reason.SourceChanged


def test_a_span_ends_where_it_should(claim: Path, bench: Bench) -> None:
    connector = ClaimConnector(claim, uri=URI)
    with connector.open(MODEL, commit="", span=Span(4, 10)) as body:
        assert b"".join(body.chunks()) == bench.content[4:10]
        assert (body.start, body.total) == (4, len(bench.content))
