# SPDX-License-Identifier: Apache-2.0
"""Every kind of source under every fault: one table, in which a hole must be explained or the suite fails.

A column is a kind of source, a row is what can happen to it. Each cell resolves a model of that kind, spoils it as
the row says, and fetches it.
"""

import gzip
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.hub import IMAGE, Fault, body, cut, endless, flip, header, sound, stall, status
from loader_testing.packing import model_car, model_pack
from loader_testing.server import Reply, Request
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.policy import AllowRule
from nimblet_loader.connectors import SCHEMES
from nimblet_loader.contract import Artifact, FetchReport


@dataclass(frozen=True)
class Column:
    """A kind of source: its URI, the hub's routes for its listing and its bytes, and the digests it needs."""

    scheme: str
    uri: str
    listing: str = ""
    bytes_: str = ""
    pack: str = ""
    needs_digest: bool = False


COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "hf": Column("hf", "hf://acme/tiny", "api", "file"),
        "https": Column("https", "{base}/cdn/" + MODEL, "cdn", "cdn", needs_digest=True),
        "s3": Column("s3", "s3://bucket/models", "list", "s3"),
        "ollama": Column("ollama", "ollama://tiny:q4", "manifest", "ollama"),
        "oci": Column("oci", "oci://{host}/" + IMAGE + ":raw", "index", "blob", pack="raw"),
        "oci-tar": Column("oci", "oci://{host}/" + IMAGE + ":tar", "index", "blob", pack="tar"),
        "oci-gzip": Column("oci", "oci://{host}/" + IMAGE + ":gzip", "index", "blob", pack="gzip"),
        "pvc": Column("pvc", "pvc://weights/llm"),
    }
)
NO_HTTP = {"pvc": "a claim is read through the kernel, by no address and no protocol of ours"}


@dataclass
class Trial:
    """One column on its bench."""

    bench: Bench
    column: Column
    _artifact: list[Artifact] = field(default_factory=list)

    def prepare(self) -> None:
        content = self.bench.content
        packs = {
            "raw": lambda: model_pack(MODEL, content),
            "tar": lambda: model_car(MODEL, content, zipped=False),
            "gzip": lambda: model_car(MODEL, content, zipped=True),
        }
        if self.column.pack:
            self.bench.hub.packages = {self.column.pack: packs[self.column.pack]()}
        if self.column.scheme == "pvc":
            self.bench.claim = self.bench.root.parent / "claim"
            self.file.parent.mkdir(parents=True)
            self.file.write_bytes(content)

    @property
    def file(self) -> Path:
        return self.bench.claim / "llm" / MODEL

    @property
    def blob(self) -> str:
        """Name the bytes that the source's route serves, as the hub's own download host knows them."""
        if not self.column.pack:
            return MODEL
        blobs = self.bench.hub.packages[self.column.pack].blobs
        return max(blobs, key=lambda name: len(blobs[name]))

    def resolve(self) -> Artifact:
        uri = self.column.uri.format(base=self.bench.base(), host=self.bench.authority())
        digests = {MODEL: self.bench.digest} if self.column.needs_digest else {}
        return self.bench.resolve(uri=uri, sha256=digests)

    @property
    def artifact(self) -> Artifact:
        if not self._artifact:
            self._artifact.append(self.resolve())
        return self._artifact[0]

    def fail(self, *faults: Fault) -> None:
        """Resolve soundly, then line up faults for the bytes."""
        assert self.artifact
        self.bench.server.requests.clear()
        self.bench.hub.fail(self.column.bytes_, *faults)

    def fetch(self) -> FetchReport:
        return self.bench.fetch(self.artifact)

    def arrives(self) -> FetchReport:
        report = self.fetch()
        path = self.artifact.files[0].path
        assert (self.bench.root / path).read_bytes() == self.bench.content
        assert report.sha256 == {path: self.bench.digest}
        return report

    def refused(self) -> Reason:
        with pytest.raises(SourceError) as caught:
            self.fetch()
        assert not (self.bench.root / self.artifact.files[0].path).exists()
        return caught.value.reason

    def unresolved(self) -> Reason:
        with pytest.raises(SourceError) as caught:
            self.resolve()
        return caught.value.reason


Run = Callable[[Trial], None]


@dataclass(frozen=True)
class Case:
    """A row: what to do in each column, and why it can't happen in the columns that are left out."""

    run: Run
    absent: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, Run] = field(default_factory=dict)
    """What stands for it in a column where it happens in another way."""


def ends(*faults: Fault, reason: Reason, differently: Mapping[str, Reason] = MappingProxyType({})) -> Run:
    """Return a cell: these faults while the bytes come end in this reason."""

    def run(trial: Trial) -> None:
        trial.fail(*faults)
        names = {column: name for name, column in COLUMNS.items()}
        assert trial.refused() is differently.get(names[trial.column], reason)

    return run


def unlisted(*faults: Fault, reason: Reason, https: Reason | None = None) -> Run:
    """Return a cell: these faults while the source is listed end in this reason."""

    def run(trial: Trial) -> None:
        trial.bench.hub.fail(trial.column.listing, *faults)
        assert trial.unresolved() is (https if https and trial.column.scheme == "https" else reason)

    return run


def spoiled(spoil: Callable[[Path], object], reason: Reason) -> Run:
    """Return a cell of the claim: its file is spoiled between resolving and fetching."""

    def run(trial: Trial) -> None:
        assert trial.artifact
        spoil(trial.file)
        assert trial.refused() is reason

    return run


def digest_told(trial: Trial) -> None:
    trial.arrives()


def resumes_after_a_break(trial: Trial) -> None:
    trial.fail(cut(100_000), cut(50_000))
    report = trial.arrives()
    asked = [request for request in trial.bench.server.requests if "manifests" not in request.path]
    assert len(asked) == 3
    assert report.downloaded_bytes == len(trial.bench.content)


def resumes_what_an_earlier_pod_left(trial: Trial) -> None:
    path = trial.artifact.files[0].path
    known = trial.artifact.files[0].sha256 is not None
    (trial.bench.root / f".{path}.uid-1.part").write_bytes(trial.bench.content[:70_000])
    rest = len(trial.bench.content) - (70_000 if known else 0)
    assert trial.arrives().downloaded_bytes == rest


def follows_a_redirect(trial: Trial) -> None:
    target = f"{trial.bench.base('cdn.test')}/cdn/{trial.blob}"
    trial.fail(status(302, Location=target))
    trial.arrives()
    hosts = [request.headers["host"].partition(":")[0] for request in trial.bench.server.requests]
    assert hosts[-1] == "cdn.test"


def waits_out_passing_trouble(trial: Trial) -> None:
    trial.fail(status(503), status(429, Retry_After="9"), sound)
    trial.arrives()
    assert trial.bench.naps == [0.5, 9.0]


def trickle(_request: Request, reply: Reply) -> Reply:
    """Answer in four pieces with silence between them, shorter than the loader's patience."""
    raw = b"".join(reply.body)
    quarter = len(raw) // 4 + 1

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(raw), quarter):
            threading.Event().wait(0.1)
            yield raw[start : start + quarter]

    return replace(reply, body=pieces())


def slow_but_steady(trial: Trial) -> None:
    trial.fail(trickle)
    trial.bench.stall_seconds = 0.3
    trial.arrives()


def silent(trial: Trial) -> None:
    trial.fail(*[stall(0)] * 3)
    trial.bench.stall_seconds = 0.2
    assert trial.refused() is Reason.DownloadStalled


def other_bytes(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def replaced_after_resolving(trial: Trial) -> None:
    """The source holds another file of the same name and size by now."""
    assert trial.artifact
    old, new = trial.bench.content, other_bytes(trial.bench.content)
    if trial.column.pack:
        (made,) = trial.bench.hub.packages.values()
        raw = made.blobs[trial.blob]
        swapped = (
            gzip.compress(gzip.decompress(raw).replace(old, new), 1)
            if trial.column.pack == "gzip"
            else raw.replace(old, new)
        )
        blobs = {**made.blobs, trial.blob: swapped}
        trial.bench.hub.packages = {trial.column.pack: replace(made, blobs=blobs)}
    trial.bench.hub.files[MODEL] = new
    expected = Reason.SourceChanged if trial.column.scheme == "s3" else Reason.DigestMismatch
    assert trial.refused() is expected


def changed_between_tries(trial: Trial) -> None:
    trial.fail(cut(100_000), flip(5), sound)
    trial.arrives()


def another_etag_between_tries(trial: Trial) -> None:
    trial.fail(cut(100_000), header("ETag", '"changed"'), sound)
    trial.arrives()


def to_a_private_address(trial: Trial) -> None:
    assert trial.artifact
    trial.bench.rules = (AllowRule(host="hub.test", allow_http=True),)
    trial.bench.addresses = {"hub.test": ["10.1.2.3"]}
    assert trial.refused() is Reason.HostNotAllowed
    assert trial.unresolved() is Reason.HostNotAllowed


def name_rebound(trial: Trial) -> None:
    """The name led to a permitted address while resolving, and leads to the metadata service now."""
    trial.fail()
    trial.bench.addresses = {"hub.test": ["169.254.169.254"]}
    assert trial.refused() is Reason.HostNotAllowed
    assert trial.bench.server.requests == []


@contextmanager
def nobody(path: Path) -> Iterator[None]:
    """Run inside the block as a user who may not read `path`: the tests may run as root."""
    path.chmod(0)
    before = os.geteuid()
    os.seteuid(65534 if before == 0 else before)
    try:
        yield
    finally:
        os.seteuid(before)


def unreadable(trial: Trial) -> None:
    with tempfile.TemporaryDirectory() as name:
        trial.bench.claim = Path(name)
        trial.bench.claim.chmod(0o755)
        trial.file.parent.mkdir()
        trial.file.write_bytes(trial.bench.content)
        with nobody(trial.file):
            assert trial.unresolved() is Reason.AccessDenied


GONE = {"pvc": spoiled(Path.unlink, Reason.FileNotFound)}
SHORTER = {"pvc": spoiled(lambda file: os.truncate(file, 1000), Reason.SizeMismatch)}
LONGER = {"pvc": spoiled(lambda file: file.write_bytes(file.read_bytes() + b"x"), Reason.SizeMismatch)}
SWAPPED = {"pvc": spoiled(lambda file: file.write_bytes(other_bytes(file.read_bytes())), Reason.DigestMismatch)}
IN_ARCHIVES = {"oci-tar": Reason.DigestMismatch, "oci-gzip": Reason.UnexpectedResponse}
STRAY = {"oci-tar": Reason.DownloadTruncated, "oci-gzip": Reason.UnexpectedResponse}

CASES: Mapping[str, Case] = MappingProxyType(
    {
        "digest reported": Case(digest_told),
        "resume after a break": Case(
            resumes_after_a_break,
            absent={**NO_HTTP, "oci-gzip": "a gzip stream has no middle to enter: see test_oci.py"},
        ),
        "resume of an earlier pod": Case(resumes_what_an_earlier_pod_left),
        "passing trouble": Case(waits_out_passing_trouble, absent=NO_HTTP),
        "401": Case(ends(status(401), reason=Reason.AccessDenied), own={"pvc": unreadable}),
        "403": Case(ends(status(403), reason=Reason.AccessDenied), own={"pvc": unreadable}),
        "404": Case(ends(status(404), reason=Reason.FileNotFound), own=GONE),
        "429": Case(ends(*[status(429)] * 3, reason=Reason.RateLimited), absent=NO_HTTP),
        "5xx": Case(ends(*[status(500)] * 3, reason=Reason.SourceUnavailable), absent=NO_HTTP),
        "listing 401": Case(unlisted(status(401), reason=Reason.AccessDenied), absent=NO_HTTP),
        "listing 403": Case(unlisted(status(403), reason=Reason.AccessDenied), absent=NO_HTTP),
        "listing 404": Case(
            unlisted(status(404), reason=Reason.RepositoryNotFound, https=Reason.FileNotFound), absent=NO_HTTP
        ),
        "listing 429": Case(unlisted(*[status(429)] * 3, reason=Reason.RateLimited), absent=NO_HTTP),
        "listing 5xx": Case(unlisted(*[status(503)] * 3, reason=Reason.SourceUnavailable), absent=NO_HTTP),
        "redirect": Case(follows_a_redirect, absent=NO_HTTP),
        "redirect elsewhere": Case(
            ends(status(302, Location="http://elsewhere.test/x.gguf"), reason=Reason.RedirectRefused),
            absent=NO_HTTP,
        ),
        "truncated": Case(ends(*[cut(0)] * 3, reason=Reason.DownloadTruncated), own=SHORTER),
        "endless": Case(
            ends(*[endless(b"GGUF" * 50_000)] * 3, reason=Reason.SizeMismatch, differently=IN_ARCHIVES),
            own=LONGER,
        ),
        "slow": Case(slow_but_steady, absent=NO_HTTP),
        "silent": Case(silent, absent=NO_HTTP),
        "changed since resolving": Case(replaced_after_resolving, own=SWAPPED),
        "changed between tries": Case(
            changed_between_tries,
            absent={**NO_HTTP, "oci-gzip": "no pieces: each try is whole"},
            own={"s3": another_etag_between_tries},
        ),
        "wrong length": Case(
            ends(*[body([b"GGUF"], Content_Length="4")] * 3, reason=Reason.SizeMismatch, differently=STRAY),
            own=SHORTER,
        ),
        "compressed on the way": Case(
            ends(*[header("Content-Encoding", "br")] * 3, reason=Reason.UnexpectedResponse), absent=NO_HTTP
        ),
        "private address": Case(to_a_private_address, absent=NO_HTTP),
        "rebinding": Case(name_rebound, absent=NO_HTTP),
    }
)
ISSUE_ROWS = (
    *("digest reported", "resume after a break", "401", "403", "404", "429", "5xx", "redirect", "truncated"),
    *("endless", "slow", "changed since resolving", "wrong length", "private address", "rebinding"),
)


CELLS = [(case, column) for case in CASES for column in COLUMNS if column not in CASES[case].absent]


@pytest.mark.parametrize(("case", "column"), CELLS, ids=[f"{column}-{case}" for case, column in CELLS])
def test_a_source_under_a_fault(bench: Bench, case: str, column: str) -> None:
    trial = Trial(bench, COLUMNS[column])
    trial.prepare()
    row = CASES[case]
    row.own.get(column, row.run)(trial)


def test_the_table_has_no_unexplained_hole() -> None:
    assert {column.scheme for column in COLUMNS.values()} | {"http"} == set(SCHEMES)
    assert set(ISSUE_ROWS) <= set(CASES)
    for case in CASES.values():
        assert set(case.absent) <= set(COLUMNS)
        assert all(len(why.split()) > 3 for why in case.absent.values())
    assert len(CELLS) == len(CASES) * len(COLUMNS) - sum(len(case.absent) for case in CASES.values())


def test_the_trial_really_serves_what_the_cells_compare(bench: Bench) -> None:
    trial = Trial(bench, COLUMNS["oci-tar"])
    trial.prepare()
    assert hashlib.sha256(bench.hub.packages["tar"].blobs[trial.blob]).hexdigest() in trial.blob
