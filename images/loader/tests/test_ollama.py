# SPDX-License-Identifier: Apache-2.0
"""Resolving a tag of an Ollama registry: the model layer alone, pinned by its digest."""

import json

import pytest

from loader_testing.bench import Bench
from loader_testing.hub import Fault, body, endless, status
from nimblet_egress.errors import Reason, SourceError

URI = "ollama://tiny:q4"
ZEROS = "sha256:" + "0" * 64


def manifest(*layers: dict[str, object]) -> Fault:
    raw = json.dumps({"layers": layers}).encode()
    return body([raw], Content_Length=str(len(raw)))


def test_a_tag_is_pinned_to_its_layer(bench: Bench) -> None:
    artifact = bench.resolve(uri=URI)
    (file,) = artifact.files
    assert (file.path, file.size, file.sha256) == ("tiny-q4.gguf", len(bench.content), bench.digest)
    assert (artifact.digest_source, file.tag) == ("Source", f"sha256:{bench.digest}")
    assert artifact.commit.startswith("sha256:")


def test_a_tag_that_moved_does_not_move_a_pinned_model(bench: Bench) -> None:
    artifact = bench.resolve(uri=URI)
    bench.hub.fail("manifest", status(404))
    assert bench.fetch(artifact).sha256 == {"tiny-q4.gguf": bench.digest}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(404), Reason.RepositoryNotFound),
        (status(401), Reason.AccessDenied),
        (status(429), Reason.RateLimited),
        (status(500), Reason.SourceUnavailable),
        (body([b"<html>"]), Reason.UnexpectedResponse),
        (endless(b" " * 2**20), Reason.UnexpectedResponse),
        (manifest(), Reason.UnsupportedFormat),
        (manifest({"mediaType": "x", "digest": "../..", "size": 1}), Reason.UnexpectedResponse),
        (
            manifest(*[{"mediaType": "application/vnd.ollama.image.model", "digest": ZEROS, "size": 1}] * 2),
            Reason.UnsupportedFormat,
        ),
    ],
)
def test_what_the_registry_answers(bench: Bench, fault: Fault, reason: Reason) -> None:
    bench.hub.fail("manifest", *[fault] * 3)
    with pytest.raises(SourceError) as caught:
        bench.resolve(uri=URI)
    assert caught.value.reason is reason


@pytest.mark.parametrize("uri", ["ollama://", "ollama://a/b/c", "ollama://../x:y", "ollama://a:b:c"])
def test_names_that_are_none(bench: Bench, uri: str) -> None:
    with pytest.raises(SourceError) as caught:
        bench.resolve(uri=uri)
    assert caught.value.reason is Reason.ConfigInvalid
