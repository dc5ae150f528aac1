# SPDX-License-Identifier: Apache-2.0
"""A bucket as a source, at a real service that checks signatures."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from indexer_testing.build import Bench
from loader_testing.s3 import BUCKET, S3, serving_s3
from nimblet_egress.errors import Reason
from nimblet_egress.sigv4 import AccessKey
from nimblet_indexer.build import Ending

pytestmark = pytest.mark.timeout(180)
OBJECTS = {"wiki/a.txt": b"Document a.", "wiki/deep/b c+d.txt": b"Document b.", "other/c.txt": b"Document c."}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with serving_s3(OBJECTS, folder=tmp_path_factory.mktemp("s3")) as running:
        yield running


def built(bench: Bench, service: S3, key: AccessKey, **fields: object) -> Ending:
    """Build from the bucket with a key."""
    source: dict[str, object] = {"type": "S3", "name": "bucket", "bucket": BUCKET, **fields}
    folder: Path = bench.folder / "secret"
    folder.mkdir(exist_ok=True)
    (folder / "accessKeyId").write_text(key.key_id)
    (folder / "secretAccessKey").write_text(key.secret)
    source["credentials"] = {"folder": str(folder), "hosts": [f"127.0.0.1:{service.port}"]}
    rule = {"host": "127.0.0.1", "cidr": "127.0.0.0/8", "allowHTTP": True}
    return bench.build(source, egress={"allow": [rule], "s3": {"endpoint": f"http://127.0.0.1:{service.port}"}})


def test_objects_below_the_prefix_are_read(bench: Bench, service: S3) -> None:
    ending = built(bench, service, service.key, prefix="wiki/")
    assert ending.failed is None
    assert bench.retriever.documents() == {"bucket/a.txt", "bucket/deep/b c+d.txt"}
    assert ending.report.sources[0].revision.startswith("etags:")


def test_key_that_the_service_refuses_is_told(bench: Bench, service: S3) -> None:
    ending = built(bench, service, replace(service.key, secret="canary"))
    assert ending.failed is not None
    assert ending.failed.reason is Reason.AccessDenied
    assert "canary" not in ending.report.model_dump_json()


def test_bucket_that_is_not_there_is_told(bench: Bench, service: S3) -> None:
    ending = built(bench, service, service.key, bucket="another")
    assert ending.failed is not None
    assert ending.failed.reason is Reason.RepositoryNotFound
