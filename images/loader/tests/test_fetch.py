# SPDX-License-Identifier: Apache-2.0
"""Fetching, the same for every connector: verified files or none, resumed where that is sound."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.hub import Fault, body, cut, endless, flip, header, sound, stall, status
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.contract import Artifact, ArtifactFile
from nimblet_loader.progress import Progress, served
from retriever_testing.process import free_port


@dataclass
class Kind:
    """One kind of source: the hub's route that serves its bytes, and its artifacts."""

    bench: Bench
    route: str

    @property
    def uri(self) -> str:
        uris = {
            "cdn": f"{self.bench.base()}/cdn/{MODEL}",
            "s3": "s3://bucket/models",
            "ollama": "ollama://tiny:q4",
        }
        return uris.get(self.route, "hf://acme/tiny")

    def tag(self, sha256: str | None) -> str | None:
        md5 = hashlib.md5(self.bench.content, usedforsecurity=False).hexdigest()
        return {"s3": f'"{md5}"', "ollama": f"sha256:{sha256 or self.bench.digest}"}.get(self.route)

    def fail(self, *faults: Fault) -> None:
        self.bench.hub.fail(self.route, *faults)

    def artifact(self, *, sha256: str | None = "", size: int = 0) -> Artifact:
        return self.bench.artifact(uri=self.uri, sha256=sha256, size=size, tag=self.tag(sha256))

    def fetch(self, artifact: Artifact | None = None) -> int:
        return self.bench.fetch(artifact or self.artifact()).downloaded_bytes

    def refusal(self, artifact: Artifact | None = None) -> Reason:
        with pytest.raises(SourceError) as caught:
            self.fetch(artifact)
        assert not (self.bench.root / MODEL).exists()
        return caught.value.reason

    def ranges(self) -> list[str | None]:
        return [request.headers.get("range") for request in self.bench.server.requests]


@pytest.fixture(params=["file", "cdn", "s3", "ollama"], ids=["hf", "https", "s3", "ollama"])
def kind(bench: Bench, request: pytest.FixtureRequest) -> Kind:
    return Kind(bench, str(request.param))


def test_a_file_arrives_whole_under_its_name(kind: Kind) -> None:
    size = len(kind.bench.content)
    assert kind.fetch() == size
    assert (kind.bench.root / MODEL).read_bytes() == kind.bench.content
    assert [path.name for path in kind.bench.root.iterdir()] == [MODEL]


def test_the_digest_is_told_even_where_nobody_knew_it(kind: Kind) -> None:
    report = kind.bench.fetch(kind.artifact(sha256=None))
    assert report.sha256 == {MODEL: kind.bench.digest}


def test_what_is_there_and_verified_is_kept(kind: Kind) -> None:
    kind.fetch()
    asked = len(kind.bench.server.requests)
    assert kind.fetch() == 0
    assert len(kind.bench.server.requests) == asked


def test_a_corrupted_file_is_replaced(kind: Kind) -> None:
    path = kind.bench.root / MODEL
    path.write_bytes(bytes(len(kind.bench.content)))
    kind.fetch()
    assert path.read_bytes() == kind.bench.content


def test_a_cut_is_resumed_where_it_broke_off(kind: Kind) -> None:
    kind.fail(cut(100_000), cut(50_000))
    kind.fetch()
    assert kind.ranges() == [None, "bytes=100000-", "bytes=150000-"]
    assert (kind.bench.root / MODEL).read_bytes() == kind.bench.content


def test_what_an_earlier_run_left_is_resumed(kind: Kind) -> None:
    kind.bench.partial.write_bytes(kind.bench.content[:70_000])
    assert kind.fetch() == len(kind.bench.content) - 70_000
    assert (kind.bench.root / MODEL).read_bytes() == kind.bench.content


def test_foreign_bytes_left_by_an_earlier_run_are_thrown_away(kind: Kind) -> None:
    kind.bench.partial.write_bytes(b"GGUF" + bytes(70_000))
    kind.fetch()
    assert (kind.bench.root / MODEL).read_bytes() == kind.bench.content


def test_without_a_digest_old_bytes_are_not_trusted(kind: Kind) -> None:
    kind.bench.partial.write_bytes(kind.bench.content[:70_000])
    assert kind.fetch(kind.artifact(sha256=None)) == len(kind.bench.content)


@pytest.mark.parametrize("digest", ["", None])
def test_an_etag_that_changed_between_tries_starts_anew(kind: Kind, digest: str | None) -> None:
    kind.fail(cut(100_000), header("ETag", '"changed"'), sound)
    kind.fetch(kind.artifact(sha256=digest))
    # The name of a layer is its digest: no header of the registry says more.
    assert kind.ranges()[:3] == [None, "bytes=100000-", *([] if kind.route == "ollama" else [None])]
    assert (kind.bench.root / MODEL).read_bytes() == kind.bench.content


def test_a_server_that_refuses_to_resume_sends_all(kind: Kind) -> None:
    size = str(len(kind.bench.content))
    kind.fail(cut(100_000), body([kind.bench.content], Content_Length=size))
    kind.fetch()
    assert (kind.bench.root / MODEL).read_bytes() == kind.bench.content


def test_pieces_that_do_not_fit_are_fetched_anew_once(kind: Kind) -> None:
    kind.fail(cut(100_000), flip(5), sound)
    kind.fetch()
    assert (kind.bench.root / MODEL).read_bytes() == kind.bench.content


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ([status(401)], Reason.AccessDenied),
        ([status(403)], Reason.AccessDenied),
        ([status(404)], Reason.FileNotFound),
        ([status(429)] * 3, Reason.RateLimited),
        ([status(500)] * 3, Reason.SourceUnavailable),
        ([cut(0)] * 3, Reason.DownloadTruncated),
        ([flip(200_000)], Reason.DigestMismatch),
        ([flip(1)], Reason.NotGGUF),
        ([body([b"GGUF"], Content_Length="4")], Reason.SizeMismatch),
        ([header("Content-Encoding", "br")] * 3, Reason.UnexpectedResponse),
        ([endless(b"GGUF" * 50_000)], Reason.SizeMismatch),
    ],
)
def test_faults_of_the_source(kind: Kind, faults: list[Fault], reason: Reason) -> None:
    kind.fail(*faults)
    assert kind.refusal() is reason


def test_passing_trouble_is_waited_out(kind: Kind) -> None:
    kind.fail(status(503), status(429, Retry_After="9"), sound)
    kind.fetch()
    assert kind.bench.naps == [0.5, 9.0]


def test_progress_pardons_earlier_failures(kind: Kind) -> None:
    kind.fail(*[cut(50_000)] * 5)
    kind.fetch()
    assert len(kind.bench.naps) == 5


def test_silence_is_a_stall(kind: Kind) -> None:
    kind.bench.stall_seconds = 0.2
    kind.fail(*[stall(0)] * 3)
    assert kind.refusal() is Reason.DownloadStalled


def test_a_stall_is_resumed(kind: Kind) -> None:
    kind.bench.stall_seconds = 1.5  # whatever is not meant to stall answers sooner on a busy machine, too
    kind.fail(stall(100_000))
    kind.fetch()
    assert kind.ranges()[1] == "bytes=100000-"


def test_a_wrong_digest_leaves_nothing_behind(kind: Kind) -> None:
    kind.bench.hub.fail("file", header("X-Linked-Etag", "none"))
    assert kind.refusal(kind.artifact(sha256="0" * 64)) is Reason.DigestMismatch
    assert list(kind.bench.root.iterdir()) == []


def test_a_file_whose_header_lies_is_refused_even_without_a_digest(kind: Kind) -> None:
    kind.bench.hub.files[MODEL] = kind.bench.content[:-64]
    assert kind.refusal(kind.artifact(sha256=None)) is Reason.HeaderInvalid


def test_a_size_beyond_the_disk_is_refused_before_any_request(kind: Kind) -> None:
    huge = kind.artifact(size=2**50)
    policy_allows = kind.bench.policy().model_copy(update={"max_file_bytes": 2**51})
    kind.bench.policy = lambda: policy_allows  # type: ignore[method-assign] # the bench's knob, not the loader's
    assert kind.refusal(huge) is Reason.DiskFull
    assert kind.bench.server.requests == []


def test_a_file_over_the_admins_limit_is_refused(kind: Kind) -> None:
    assert kind.refusal(kind.artifact(size=65 * 2**30)) is Reason.FileTooLarge


def test_a_link_in_the_folder_is_never_followed(kind: Kind, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (kind.bench.root / MODEL).symlink_to(victim)
    kind.bench.partial.symlink_to(victim)
    kind.fetch()
    assert victim.read_bytes() == b"precious"
    assert not (kind.bench.root / MODEL).is_symlink()


def test_a_hard_linked_partial_is_not_written_through(kind: Kind, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    kind.bench.partial.hardlink_to(victim)
    kind.fetch()
    assert victim.read_bytes() == b"precious"


def test_a_linked_folder_is_refused(bench: Bench, tmp_path: Path) -> None:
    (bench.root / "sub").symlink_to(tmp_path)
    bench.hub.files[f"sub/{MODEL}"] = bench.content
    inside = replace_path(bench.artifact(), f"sub/{MODEL}")
    with pytest.raises(SourceError) as caught:
        bench.fetch(inside)
    assert caught.value.reason is Reason.UnsafePath


def test_a_file_in_a_folder_arrives_there(bench: Bench) -> None:
    bench.hub.files[f"sub/{MODEL}"] = bench.content
    bench.fetch(replace_path(bench.artifact(), f"sub/{MODEL}"))
    assert (bench.root / "sub" / MODEL).read_bytes() == bench.content


def replace_path(artifact: Artifact, path: str) -> Artifact:
    (file,) = artifact.files
    moved = ArtifactFile(path=path, size=file.size, sha256=file.sha256)
    return artifact.model_copy(update={"files": (moved,)})


def test_the_redirect_carries_no_token_and_the_digest_is_checked(bench: Bench) -> None:
    bench.hub.download_base = bench.base("cdn.test")
    bench.token = "hf_canary"
    bench.fetch()
    first, second = bench.server.requests
    assert first.headers["authorization"] == "Bearer hf_canary"
    assert second.headers["host"].startswith("cdn.test")
    assert "authorization" not in second.headers


def test_progress_is_served_in_percent(bench: Bench) -> None:
    progress = Progress()
    bench.fetch(progress=progress)
    with served(progress, free_port()) as port, httpx.Client(timeout=60) as client:
        answer = client.get(f"http://127.0.0.1:{port}/progress").json()
        assert client.get(f"http://127.0.0.1:{port}/").status_code == 404
    size = len(bench.content)
    assert answer == {"percent": 100, "bytes": size, "total": size, "phase": "Done"}


def test_each_tenth_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench.hub.fail("file", cut(500_000))
    bench.fetch()
    tenths = [line for line in caplog.messages if " %" in line and "bytes)" in line]
    assert len(tenths) == len(set(tenths))
    assert tenths[-1].startswith("100 %")


def test_a_real_model_is_fetched(bench: Bench, real_model: Callable[[str], Path]) -> None:
    bench.hub.files = {MODEL: real_model("smollm2").read_bytes()}
    artifact = bench.resolve()
    assert bench.fetch(artifact).bytes == 98_362_432
    assert replace(bench, hub=bench.hub).fetch(artifact).downloaded_bytes == 0
