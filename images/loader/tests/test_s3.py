# SPDX-License-Identifier: Apache-2.0
"""The S3 connector against a real service that checks its signatures, and what a faulty one may answer."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.hub import Fault, body, endless, status
from loader_testing.s3 import BUCKET, ROLE, S3, SUMMED, admit, serving_s3
from loader_testing.tiny import TinyModel
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.policy import S3Policy
from nimblet_egress.sigv4 import AccessKey
from nimblet_loader.s3 import S3Connector
from nimblet_loader.webidentity import assumed_key

pytestmark = pytest.mark.timeout(180)
CONTENT = TinyModel(tensors=(("token_embd.weight", (64, 4000)),)).file()
OBJECTS = {
    f"models/{MODEL}": CONTENT,
    "models/notes/a b+c.txt": b"hello",
    "elsewhere/other-Q8_0.gguf": CONTENT,
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with serving_s3(OBJECTS, folder=tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def stored(bench: Bench, service: S3) -> Bench:
    bench.s3_endpoint = f"http://hub.test:{service.port}"
    bench.access_key = service.key
    return bench


def refusal(bench: Bench, uri: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        bench.resolve(uri=uri)
    return caught.value


@pytest.mark.parametrize(
    "uri", [f"s3://{BUCKET}/models", f"s3://{BUCKET}/models/", f"s3://{BUCKET}/models/{MODEL}"]
)
def test_a_prefix_is_resolved_and_fetched(stored: Bench, uri: str) -> None:
    artifact = stored.resolve(uri=uri)
    (file,) = artifact.files
    assert (file.path, file.size, file.sha256) == (MODEL, len(CONTENT), None)
    assert (artifact.digest_source, file.tag is not None) == ("None", True)
    report = stored.fetch(artifact)
    assert report.sha256 == {MODEL: stored.digest}
    assert (stored.root / MODEL).read_bytes() == CONTENT


def test_the_users_digest_makes_it_sure(stored: Bench) -> None:
    artifact = stored.resolve(uri=f"s3://{BUCKET}/models", sha256={MODEL: stored.digest})
    assert artifact.digest_source == "Spec"


def test_an_object_that_was_replaced_is_not_loaded(stored: Bench) -> None:
    artifact = stored.resolve(uri=f"s3://{BUCKET}/models")
    (file,) = artifact.files
    other = artifact.model_copy(update={"files": (file.model_copy(update={"tag": '"0123"'}),)})
    with pytest.raises(SourceError) as caught:
        stored.fetch(other)
    assert caught.value.reason is Reason.SourceChanged
    assert not (stored.root / MODEL).exists()


def test_a_wrong_key_is_refused_by_the_service(stored: Bench) -> None:
    assert stored.access_key is not None
    stored.access_key = replace(stored.access_key, secret="wrong")
    assert refusal(stored, f"s3://{BUCKET}/models").reason is Reason.AccessDenied


def test_the_sha256_that_an_object_carries_is_its_digest(stored: Bench) -> None:
    artifact = stored.resolve(uri=f"s3://{BUCKET}/{SUMMED}")
    assert (artifact.files[0].sha256, artifact.digest_source) == (stored.digest, "Source")
    assert stored.fetch(artifact).sha256 == {MODEL: stored.digest}


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"x-amz-checksum-sha256": b64encode(b"d" * 32).decode()}, True),
        ({"x-amz-checksum-sha256": b64encode(b"d" * 32).decode() + "-3"}, False),
        (
            {"x-amz-checksum-sha256": b64encode(b"d" * 32).decode(), "x-amz-checksum-type": "COMPOSITE"},
            False,
        ),
        ({"x-amz-checksum-sha256": "short"}, False),
        ({}, False),
    ],
)
def test_only_a_checksum_of_the_whole_object_counts(bench: Bench, headers: dict[str, str], told: bool) -> None:
    bench.hub.fail("s3", lambda _, reply: replace(reply, headers={**reply.headers, **headers}))
    source = S3Connector(bench.client(), bench.policy().s3, uri="s3://bucket/models")
    measured = source.measure(next(entry for entry in source.snapshot().entries if entry.path == MODEL))
    assert measured.sha256 == ((b"d" * 32).hex() if told else None)


def identity(folder: Path) -> Path:
    path = folder / "identity" / "token"
    path.parent.mkdir()
    path.write_text("header.canary.signature\n")
    return path


def exchanged(bench: Bench, policy: S3Policy, path: Path) -> AccessKey:
    client = bench.client()
    try:
        return assumed_key(client, policy, role=ROLE, identity=path)
    finally:
        client.close()


def test_a_role_reads_the_bucket_with_the_pods_own_token(stored: Bench, service: S3, tmp_path: Path) -> None:
    base = f"http://hub.test:{service.port}"
    admit(service.port, unsigned=1)
    stored.access_key = exchanged(stored, S3Policy(endpoint=base, sts_endpoint=base), identity(tmp_path))
    assert stored.access_key.session
    assert stored.resolve(uri=f"s3://{BUCKET}/models").files[0].path == MODEL


def test_the_token_goes_in_a_body_to_the_sts_endpoint_alone(bench: Bench, tmp_path: Path) -> None:
    path = identity(tmp_path)
    bench.hub.fail("file", status(307, Location=f"{bench.base('cdn.test')}/"))
    with pytest.raises(SourceError) as caught:
        exchanged(bench, S3Policy(sts_endpoint=bench.base()), path)
    assert caught.value.reason is Reason.UnexpectedResponse
    (request,) = bench.server.requests
    assert (request.method, request.target) == ("POST", "/")
    assert b"canary" in request.body
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(400), Reason.AccessDenied),
        (status(403), Reason.AccessDenied),
        (status(429), Reason.RateLimited),
        (status(503), Reason.SourceUnavailable),
        (body([b"<a/>"]), Reason.UnexpectedResponse),
        (body([b"<!DOCTYPE x><a/>"]), Reason.UnexpectedResponse),
        (body([b"no xml"]), Reason.UnexpectedResponse),
        (endless(b" " * 2**20), Reason.UnexpectedResponse),
    ],
)
def test_what_the_sts_endpoint_answers(bench: Bench, tmp_path: Path, fault: Fault, reason: Reason) -> None:
    bench.hub.fail("file", fault)
    with pytest.raises(SourceError) as caught:
        exchanged(bench, S3Policy(sts_endpoint=bench.base()), identity(tmp_path))
    assert caught.value.reason is reason


def test_a_pod_without_the_token_says_so(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        exchanged(bench, S3Policy(), tmp_path / "token")
    assert caught.value.reason is Reason.ConfigInvalid


def test_a_key_is_not_sent_to_a_host_that_the_secret_does_not_name(bench: Bench) -> None:
    bench.access_key = AccessKey("id", "canary")
    bench.s3_endpoint = bench.base("cdn.test")
    bench.resolve(uri="s3://bucket/models")
    assert bench.server.requests
    assert all("authorization" not in request.headers for request in bench.server.requests)


def listing(text: str) -> Fault:
    raw = f"<ListBucketResult>{text}</ListBucketResult>".encode()
    return body([raw], Content_Length=str(len(raw)))


def item(key: str, size: str = "5", tag: str = "t") -> str:
    return f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{tag}</ETag></Contents>"


def test_a_listing_is_read_page_by_page(bench: Bench) -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>a+b/c=</NextContinuationToken>"
    bench.hub.fail("list", listing(item("models/one.gguf") + more), listing(item("models/two.gguf")))
    policy = bench.policy().s3
    entries = S3Connector(bench.client(), policy, uri="s3://bucket/models").snapshot().entries
    assert [entry.path for entry in entries] == ["one.gguf", "two.gguf"]
    assert "continuation-token=a%2Bb%2Fc%3D" in bench.server.requests[1].target


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(403), Reason.AccessDenied),
        (status(404), Reason.RepositoryNotFound),
        (status(429), Reason.RateLimited),
        (status(503), Reason.SourceUnavailable),
        (listing(""), Reason.RepositoryNotFound),
        (listing("<IsTruncated>true</IsTruncated>"), Reason.UnexpectedResponse),
        (listing(item("models/a.gguf", size="-1")), Reason.UnexpectedResponse),
        (listing(item("models/../../a.gguf")), Reason.UnsafePath),
        (listing(item("other/a.gguf")), Reason.RepositoryNotFound),
        (body([b"<!DOCTYPE x><ListBucketResult/>"]), Reason.UnexpectedResponse),
        (body([b"<Error/>"]), Reason.UnexpectedResponse),
        (body([b"no xml"]), Reason.UnexpectedResponse),
        (endless(b" " * 2**20), Reason.UnexpectedResponse),
    ],
)
def test_what_the_listing_answers(bench: Bench, fault: Fault, reason: Reason) -> None:
    bench.hub.fail("list", *[fault] * 3)
    assert refusal(bench, "s3://bucket/models").reason is reason


@pytest.mark.parametrize("uri", ["s3://", "s3://A/b", "s3://bucket/../x", "s3://bucket:80/x"])
def test_names_that_are_none(bench: Bench, uri: str) -> None:
    assert refusal(bench, uri).reason is Reason.ConfigInvalid
