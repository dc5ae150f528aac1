# SPDX-License-Identifier: Apache-2.0
"""Every remote source under every fault, on real servers on loopback: one table of source and fault.

`list` is the first thing a source is asked, `file` what holds a document's bytes. A reason ends the build, a
refusal leaves out one document.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import repeat
from types import MappingProxyType

import pytest

from indexer_testing.build import Bench
from indexer_testing.places import Fault, Places, places_of
from loader_testing.server import Reply, Request
from nimblet_egress.errors import Reason
from nimblet_indexer.document import Refusal

DOCUMENTS = {"a.txt": b"Document a.", "deep/b.txt": b"Document b.", "deep/c.md": b"# Title\n\nDocument c."}
KINDS = ("Git", "S3", "Web")
TRIES = 2
STALL_SECONDS = 1.5
"""Whatever is not meant to stall answers sooner on a busy machine, too."""


@pytest.fixture
def places() -> Iterator[Places]:
    """The documents, served."""
    with places_of(DOCUMENTS) as made:
        yield made


def source(kind: str, places: Places) -> dict[str, object]:
    """Return a source of a kind."""
    own: Mapping[str, Mapping[str, object]] = {
        "Git": {"url": f"{places.url}/repo.git", "revision": "main"},
        "S3": {"bucket": "docs", "prefix": "wiki"},
        "Web": {"sitemap": f"{places.url}/sitemap.xml"},
    }
    return {"type": kind, "name": "wiki", **own[kind]}


def egress(places: Places, **fields: object) -> dict[str, object]:
    """Return the administrator's policy: loopback by name of its address, and the bucket's service."""
    rule = {"host": "127.0.0.1", "cidr": "127.0.0.0/8", "allowHTTP": True}
    policy = {"allow": [rule], "s3": {"endpoint": places.url}, "stallTimeoutSeconds": 30}
    return {**policy, "connectTimeoutSeconds": 30, **fields}


def status(code: int, **headers: str) -> Fault:
    """Answer with a status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request, _reply: Reply(code, {"Content-Length": "0", **named})


def cut(_: Request, reply: Reply) -> Reply:
    """Break off in the middle."""
    data = b"".join(reply.body)
    return replace(
        reply, headers={**reply.headers, "Content-Length": str(len(data))}, body=(data[: len(data) // 2],)
    )


def stall(_: Request, reply: Reply) -> Reply:
    """Fall silent in the middle."""
    data = b"".join(reply.body)
    headers = {**reply.headers, "Content-Length": str(len(data))}
    return replace(reply, headers=headers, body=(data[: len(data) // 2],), hold=True)


def endless(_: Request, reply: Reply) -> Reply:
    """Never end."""
    headers = {name: value for name, value in reply.headers.items() if name != "Content-Length"}
    return replace(reply, headers=headers, body=repeat(b"<!-- x -->" * 1000))


PRIVATE = status(302, Location="http://10.1.2.3/secret")
METADATA = status(302, Location="http://169.254.169.254/latest")
FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "401": status(401),
        "403": status(403),
        "404": status(404),
        "429": status(429, Retry_After="1"),
        "503": status(503),
        "cut": cut,
        "stall": stall,
        "endless": endless,
        "private": PRIVATE,
        "metadata": METADATA,
    }
)
LISTED: Mapping[str, Mapping[str, Reason]] = MappingProxyType(
    {
        "401": dict.fromkeys(KINDS, Reason.AccessDenied),
        "403": dict.fromkeys(KINDS, Reason.AccessDenied),
        "404": {"Git": Reason.RepositoryNotFound, "S3": Reason.RepositoryNotFound, "Web": Reason.FileNotFound},
        "429": dict.fromkeys(KINDS, Reason.RateLimited),
        "503": dict.fromkeys(KINDS, Reason.SourceUnavailable),
        "cut": dict.fromkeys(KINDS, Reason.DownloadTruncated),
        "stall": dict.fromkeys(KINDS, Reason.DownloadStalled),
        "endless": dict.fromkeys(KINDS, Reason.UnexpectedResponse),
        "private": dict.fromkeys(KINDS, Reason.RedirectRefused),
        "metadata": dict.fromkeys(KINDS, Reason.RedirectRefused),
    }
)
"""What a fault of the listing ends a build with."""
READ: Mapping[str, Mapping[str, Reason | Refusal]] = MappingProxyType(
    {
        "401": {"Git": Reason.AccessDenied, "S3": Refusal.ACCESS_DENIED, "Web": Refusal.ACCESS_DENIED},
        "403": {"Git": Reason.AccessDenied, "S3": Refusal.ACCESS_DENIED, "Web": Refusal.ACCESS_DENIED},
        "404": {"Git": Reason.RepositoryNotFound, "S3": Refusal.NOT_FOUND, "Web": Refusal.NOT_FOUND},
        "429": dict.fromkeys(KINDS, Reason.RateLimited),
        "503": {"Git": Reason.SourceUnavailable, "S3": Reason.SourceUnavailable, "Web": Refusal.UNREACHABLE},
        "cut": {"Git": Reason.DownloadTruncated, "S3": Reason.DownloadTruncated, "Web": Refusal.UNREACHABLE},
        "stall": {"Git": Reason.DownloadStalled, "S3": Reason.DownloadStalled, "Web": Refusal.UNREACHABLE},
        "endless": {"Git": Reason.UnexpectedResponse, "S3": Refusal.TOO_LARGE, "Web": Refusal.TOO_LARGE},
        "private": {"Git": Reason.UnexpectedResponse, "S3": Reason.RedirectRefused, "Web": Refusal.OTHER_SITE},
        "metadata": {"Git": Reason.UnexpectedResponse, "S3": Reason.RedirectRefused, "Web": Refusal.OTHER_SITE},
    }
)
"""What a fault of one document does."""


@pytest.mark.parametrize("kind", KINDS)
def test_documents_arrive(bench: Bench, places: Places, kind: str) -> None:
    ending = bench.build(source(kind, places), egress=egress(places))
    assert ending.failed is None
    assert bench.retriever.documents() == {f"wiki/{name}" for name in DOCUMENTS}
    (told,) = ending.report.sources
    assert (told.documents, told.refused) == (3, 0)
    assert bool(told.revision) is (kind != "Web")  # these pages have no ETags


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", LISTED)
def test_source_that_can_not_be_listed_ends_the_build(bench: Bench, places: Places, kind: str, fault: str) -> None:
    places.fail("list", *[FAULTS[fault]] * TRIES)
    limits = {"fetchSeconds": 100}
    patience = STALL_SECONDS if fault == "stall" else 30
    ending = bench.build(source(kind, places), egress=egress(places, stallTimeoutSeconds=patience), limits=limits)
    assert ending.failed is not None
    assert (ending.failed.reason, ending.failed.source) == (LISTED[fault][kind], "wiki")
    assert bench.retriever.sealed == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", READ)
def test_document_that_can_not_be_read(bench: Bench, places: Places, kind: str, fault: str) -> None:
    places.spoiled["git-upload-pack" if kind == "Git" else "/a.txt"] = FAULTS[fault]
    limits = {"fileBytes": 10**6, "sourceBytes": 3 * 10**6}
    patience = STALL_SECONDS if fault == "stall" else 30
    ending = bench.build(source(kind, places), egress=egress(places, stallTimeoutSeconds=patience), limits=limits)
    expected = READ[fault][kind]
    if isinstance(expected, Reason):
        assert ending.failed is not None
        assert (ending.failed.reason, bench.retriever.sealed) == (expected, [])
        return
    # that document is told, and the rest is indexed
    assert ending.failed is None
    assert [(error.file, error.reason) for error in ending.report.errors] == [("wiki/a.txt", expected)]
    assert (ending.report.documents, ending.report.served) == (len(DOCUMENTS) - 1, True)


@pytest.mark.parametrize("kind", KINDS)
def test_short_trouble_is_waited_out(bench: Bench, places: Places, kind: str) -> None:
    places.fail("list", status(503))
    places.fail("file", status(503))
    if kind == "Git":  # both requests are one try
        places.faults["file"].clear()
    assert bench.build(source(kind, places), egress=egress(places)).report.documents == len(DOCUMENTS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rule",
    [
        {"host": "other.test"},
        {"host": "127.0.0.1", "allowHTTP": True},
        {"host": "127.0.0.1", "allowPrivate": True, "allowHTTP": True},
        {"host": "127.0.0.1", "cidr": "127.0.0.0/8"},
        {"host": "127.0.0.1", "cidr": "10.0.0.0/8", "allowHTTP": True},
    ],
)
def test_places_that_the_administrator_does_not_allow_are_never_asked(
    bench: Bench, places: Places, kind: str, rule: dict[str, object]
) -> None:
    ending = bench.build(source(kind, places), egress=egress(places, allow=[rule]))
    assert ending.failed is not None
    assert ending.failed.reason is Reason.HostNotAllowed
    assert places.server is not None
    assert places.server.requests == []


@pytest.mark.parametrize("kind", ["Git", "Web"])
def test_credential_goes_to_the_hosts_that_the_secret_names(bench: Bench, places: Places, kind: str) -> None:
    # Given a server that asks for a credential
    folder = bench.folder / "secret"
    folder.mkdir()
    (folder / "token").write_text("canary")
    places.authorization = {"Git": "Basic Z2l0OmNhbmFyeQ==", "Web": "Bearer canary"}[kind]
    # Then it gets the one that names it
    named = {"folder": str(folder), "hosts": [places.authority]}
    assert bench.build({**source(kind, places), "credentials": named}, egress=egress(places)).report.documents == 3
    # And not the one for somebody else
    assert places.server is not None
    places.server.requests.clear()
    other = {"folder": str(folder), "hosts": ["elsewhere.test"]}
    wrong = {**source(kind, places), "credentials": other}
    ending = bench.build(wrong, egress=egress(places), generation="g000003")
    assert ending.failed is not None
    assert ending.failed.reason is Reason.AccessDenied
    assert not any("authorization" in request.headers for request in places.server.requests)


@pytest.mark.parametrize("kind", KINDS)
def test_refused_credential_is_told_without_it(bench: Bench, places: Places, kind: str) -> None:
    folder = bench.folder / "secret"
    folder.mkdir()
    for name in ("token", "accessKeyId", "secretAccessKey"):
        (folder / name).write_text("canary")
    places.authorization = "Bearer another"
    named = {"folder": str(folder), "hosts": [places.authority]}
    ending = bench.build({**source(kind, places), "credentials": named}, egress=egress(places))
    assert ending.failed is not None
    assert ending.failed.reason is Reason.TokenInvalid
    assert "canary" not in ending.report.model_dump_json()


def test_secret_for_another_s3_service_is_told(bench: Bench, places: Places) -> None:
    folder = bench.folder / "secret"
    folder.mkdir()
    for name in ("accessKeyId", "secretAccessKey"):
        (folder / name).write_text("canary")
    named = {"folder": str(folder), "hosts": ["elsewhere.test"]}
    ending = bench.build({**source("S3", places), "credentials": named}, egress=egress(places))
    assert ending.failed is not None
    assert ending.failed.reason is Reason.AccessDenied
    assert places.authority in ending.failed.message
