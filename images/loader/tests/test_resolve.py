# SPDX-License-Identifier: Apache-2.0
"""Resolving against a hub and a web server on loopback: what is pinned, and each way it can fail."""

import json

import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.hub import COMMIT, Fault, body, cut, endless, flip, header, stall, status
from loader_testing.tiny import TinyModel, model_pairs, split_pairs, split_parts
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.contract import MAX_MESSAGE_BYTES, Artifact, encode, parse_artifact, parse_source
from nimblet_loader.message import to_message
from nimblet_loader.trust import check_artifact


def refusal(bench: Bench, **source: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        bench.resolve(**source)
    return caught.value


def test_a_repository_is_pinned_to_commit_size_and_digest(bench: Bench) -> None:
    artifact = bench.resolve()

    (file,) = artifact.files
    assert (artifact.commit, artifact.digest_source) == (COMMIT, "Source")
    assert (file.path, file.size, file.sha256) == (MODEL, len(bench.content), bench.digest)
    assert artifact.header.architecture == "llama"


def test_only_the_header_is_downloaded(bench: Bench) -> None:
    bench.resolve()
    (request,) = [r for r in bench.server.requests if "/resolve/" in r.path]
    assert request.headers["range"] == "bytes=0-524287"


def test_a_long_header_is_read_in_windows(bench: Bench) -> None:
    bench.hub.files[MODEL] = TinyModel(pairs=model_pairs(vocabulary=60_000)).file()
    artifact = bench.resolve()
    assert artifact.header.vocab_size == 60_000
    assert sum("/resolve/" in path for path in bench.server.paths()) == 2


def test_the_artifact_survives_the_termination_message(bench: Bench) -> None:
    artifact = bench.resolve()
    raw = encode(artifact)
    assert len(raw) <= MAX_MESSAGE_BYTES
    assert parse_artifact(raw.decode()) == artifact


def test_sixteen_long_names_fit_the_termination_message_packed(bench: Bench) -> None:
    stem = "x" * 150
    bench.hub.files = split_parts(stem, 16)
    artifact = bench.resolve()
    assert len(encode(artifact)) > MAX_MESSAGE_BYTES >= len(to_message(artifact))


def test_a_split_model_is_pinned_in_all_its_parts(bench: Bench) -> None:
    bench.hub.files = split_parts("m", 2)
    artifact = bench.resolve()
    assert [file.path for file in artifact.files] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    assert all(file.sha256 is not None for file in artifact.files)
    assert artifact.header.parameters == 2 * (64 * 40 + 64 * 128)


def test_parts_under_each_others_names_are_refused(bench: Bench) -> None:
    one, two = split_parts("m", 2).values()
    bench.hub.files = {"m-00001-of-00002.gguf": two, "m-00002-of-00002.gguf": one}
    error = refusal(bench)
    assert error.reason is Reason.HeaderInvalid
    assert "its header says part 2 of 2" in error.message


def test_whole_files_under_the_names_of_parts_are_refused(bench: Bench) -> None:
    bench.hub.files = {f"m-0000{number}-of-00002.gguf": bench.content for number in (1, 2)}
    error = refusal(bench)
    assert error.reason is Reason.HeaderInvalid
    assert "its header says none" in error.message


def test_parts_of_two_splittings_are_refused(bench: Bench) -> None:
    last = TinyModel(pairs=(*model_pairs(), *split_pairs(2, 2, tensors=4)), tensors=()).file()
    bench.hub.files = {**split_parts("m", 2), "m-00002-of-00002.gguf": last}
    error = refusal(bench)
    assert error.reason is Reason.HeaderInvalid
    assert "Expected 4 tensors in the 2 parts" in error.message


def test_a_part_under_another_name_is_no_whole_model(bench: Bench) -> None:
    bench.hub.files = {"first.gguf": split_parts("m", 3)["m-00001-of-00003.gguf"]}
    error = refusal(bench)
    assert error.reason is Reason.PartMissing
    assert "one of 3 parts by its header" in error.message


def test_a_url_names_one_part_alone(bench: Bench) -> None:
    part = "m-00001-of-00003.gguf"
    bench.hub.files = split_parts("m", 3)
    with pytest.raises(SourceError) as caught:
        bench.resolve(uri=f"{bench.base()}/cdn/{part}", sha256={part: "0" * 64})
    assert caught.value.reason is Reason.PartMissing


def test_more_parts_than_a_message_can_tell_of_are_refused(bench: Bench) -> None:
    bench.hub.files = split_parts("big", 49)
    error = refusal(bench)
    assert error.reason is Reason.TooManyFiles
    assert "has 49 parts" in error.message


def test_the_users_digest_is_the_source_of_trust(bench: Bench) -> None:
    assert bench.resolve(sha256={MODEL: bench.digest}).digest_source == "Spec"


def test_without_any_digest_that_is_said(bench: Bench) -> None:
    listing = {"sha": COMMIT, "siblings": [{"rfilename": MODEL}]}
    bench.hub.fail("api", body([json.dumps(listing).encode()]))
    bench.hub.fail("file", header("X-Linked-Etag", '"not-a-sha256"'))
    artifact = bench.resolve()
    assert artifact.digest_source == "None"
    assert artifact.files[0].size == len(bench.content)


def test_a_url_is_pinned_by_its_digest(bench: Bench) -> None:
    artifact = web(bench, sha256={MODEL: bench.digest})
    assert (artifact.commit, artifact.digest_source) == (f"sha256:{bench.digest}", "Spec")


def web(bench: Bench, **source: object) -> Artifact:
    return bench.resolve(uri=f"{bench.base()}/cdn/{MODEL}?signature=secret", **source)


@pytest.mark.parametrize("digests", [{}, {"other.gguf": "0" * 64}])
def test_a_url_without_its_digest_is_refused(bench: Bench, digests: dict[str, str]) -> None:
    with pytest.raises(SourceError) as caught:
        web(bench, sha256=digests)
    assert caught.value.reason is Reason.DigestRequired


def test_a_url_that_is_gone(bench: Bench) -> None:
    bench.hub.fail("cdn", status(404))
    with pytest.raises(SourceError) as caught:
        web(bench, sha256={MODEL: bench.digest})
    assert caught.value.reason is Reason.FileNotFound
    assert "signature" not in caught.value.message


def test_a_server_without_ranges_is_read_as_far_as_needed(bench: Bench) -> None:
    whole = body([bench.content], Content_Length=str(len(bench.content)))
    bench.hub.fail("cdn", whole, whole)
    assert web(bench, sha256={MODEL: bench.digest}).header.architecture == "llama"


def test_a_url_that_tells_no_length(bench: Bench) -> None:
    bench.hub.fail("cdn", *[body([bench.content])] * 3)
    with pytest.raises(SourceError) as caught:
        web(bench, sha256={MODEL: bench.digest})
    assert caught.value.reason is Reason.UnexpectedResponse


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(404), Reason.RepositoryNotFound),
        (status(404, X_Error_Code="RepoNotFound"), Reason.RepositoryNotFound),
        (status(401, X_Error_Code="RepoNotFound"), Reason.RepositoryNotFound),
        (status(404, X_Error_Code="RevisionNotFound"), Reason.RevisionNotFound),
        (status(401), Reason.AccessDenied),
        (status(403), Reason.AccessDenied),
        (status(401, X_Error_Code="GatedRepo"), Reason.GatedRepository),
        (status(403, X_Error_Code="GatedRepo"), Reason.GatedRepository),
        (status(401, X_Error_Message="Invalid credentials in Authorization header"), Reason.TokenInvalid),
        (body([b'{"sha": "main"}']), Reason.UnexpectedResponse),
        (body([b"<html>log in</html>"]), Reason.UnexpectedResponse),
        (status(418), Reason.UnexpectedResponse),
        (status(429), Reason.RateLimited),
        (status(503), Reason.SourceUnavailable),
        (cut(20), Reason.DownloadTruncated),
    ],
)
def test_what_the_listing_answers(bench: Bench, fault: Fault, reason: Reason) -> None:
    bench.hub.fail("api", *[fault] * 3)
    assert refusal(bench).reason is reason


def test_an_unknown_repository(bench: Bench) -> None:
    error = refusal(bench, uri="hf://acme/nothing")
    assert error.reason is Reason.RepositoryNotFound
    assert "acme/nothing" in error.message


def test_an_unknown_revision(bench: Bench) -> None:
    assert refusal(bench, revision="v9").reason is Reason.RevisionNotFound


def test_a_token_opens_a_gated_repository(bench: Bench) -> None:
    bench.hub.token = "hf_canary"
    assert refusal(bench).reason is Reason.GatedRepository
    bench.token = "hf_canary"
    assert bench.resolve().commit == COMMIT


def test_a_refused_token_is_told_from_a_missing_one(bench: Bench) -> None:
    bench.token = "hf_canary"
    bench.hub.fail("api", status(401))
    assert refusal(bench).reason is Reason.TokenInvalid


def test_passing_trouble_is_waited_out(bench: Bench) -> None:
    bench.hub.fail("api", status(503), status(429, Retry_After="17"))
    assert bench.resolve().commit == COMMIT
    assert bench.naps == [0.5, 17.0]


def test_an_endless_listing_is_cut_off(bench: Bench) -> None:
    bench.attempts = 1
    bench.hub.fail("api", endless(b" " * 2**20))
    assert refusal(bench).reason is Reason.UnexpectedResponse


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(404, X_Error_Code="EntryNotFound"), Reason.FileNotFound),
        (header("X-Repo-Commit", "f" * 40), Reason.SourceChanged),
        (header("X-Linked-Etag", f'"{"0" * 64}"'), Reason.DigestMismatch),
        (header("X-Linked-Size", "5"), Reason.SizeMismatch),
        (header("Content-Range", "bytes 7-9/100"), Reason.UnexpectedResponse),
        (header("Content-Encoding", "gzip"), Reason.UnexpectedResponse),
        (flip(0), Reason.NotGGUF),
        (flip(23), Reason.HeaderInvalid),
        (status(416), Reason.SourceChanged),
    ],
)
def test_what_the_file_answers(bench: Bench, fault: Fault, reason: Reason) -> None:
    bench.hub.fail("file", *[fault] * 3)
    assert refusal(bench).reason is reason


def test_a_file_changed_while_its_header_is_read(bench: Bench) -> None:
    bench.hub.files[MODEL] = TinyModel(pairs=model_pairs(vocabulary=60_000)).file()
    bench.hub.fail("file", *[header("ETag", '"one"'), header("ETag", '"two"')] * 3)
    assert refusal(bench).reason is Reason.SourceChanged


def test_a_silent_source_stalls(bench: Bench) -> None:
    bench.stall_seconds, bench.attempts = 0.2, 1
    bench.hub.fail("file", stall(10))
    assert refusal(bench).reason is Reason.DownloadStalled


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"sha256": {MODEL: "0" * 64}}, Reason.DigestMismatch),
        ({"sha256": {"other.gguf": "0" * 64}}, Reason.FileNotFound),
        ({"quantization": "Q8_0"}, Reason.QuantizationNotFound),
        ({"files": ["*.bin"]}, Reason.FileNotFound),
        ({"uri": "ftp://host.test/m.gguf"}, Reason.ConfigInvalid),
        ({"uri": "hf://justone"}, Reason.ConfigInvalid),
        ({"uri": "hf://a/../b"}, Reason.ConfigInvalid),
        ({"uri": "https://user:pw@hub.test/m.gguf", "sha256": {"m.gguf": "0" * 64}}, Reason.ConfigInvalid),
        ({"uri": "https://hub.test/..%2fm", "sha256": {"m": "0" * 64}}, Reason.UnsafePath),
        ({"uri": "https://unlisted.test/m.gguf", "sha256": {"m.gguf": "0" * 64}}, Reason.HostNotAllowed),
    ],
)
def test_what_the_user_asked_for(bench: Bench, source: dict[str, object], reason: Reason) -> None:
    assert refusal(bench, **source).reason is reason


def test_two_models_are_ambiguous(bench: Bench) -> None:
    bench.hub.files["tiny-Q8_0.gguf"] = bench.content
    assert refusal(bench).reason is Reason.QuantizationAmbiguous
    assert bench.resolve(quantization="q8_0").files[0].path == "tiny-Q8_0.gguf"


def test_a_repository_without_gguf(bench: Bench) -> None:
    bench.hub.files = {"model.onnx": b"x"}
    assert refusal(bench).reason is Reason.UnsupportedFormat


def test_digests_for_some_files_only_are_refused(bench: Bench) -> None:
    bench.hub.files["tiny-Q8_0.gguf"] = bench.content
    error = refusal(bench, quantization="Q8_0", sha256={MODEL: bench.digest})
    assert error.reason is Reason.DigestRequired


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"uri": "hf://acme/other"}, Reason.ConfigInvalid),
        ({"revision": "f" * 40}, Reason.SourceChanged),
        ({"sha256": {MODEL: "0" * 64}}, Reason.DigestMismatch),
        ({"sha256": {"other.gguf": "0" * 64}}, Reason.DigestRequired),
    ],
)
def test_a_forged_artifact_does_not_pass(bench: Bench, source: dict[str, object], reason: Reason) -> None:
    spec = parse_source(json.dumps({"version": 1, "uri": "hf://acme/tiny", **source}))
    with pytest.raises(SourceError) as caught:
        check_artifact(spec, bench.artifact())
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("files", "globs"),
    [
        (["pytorch_model.bin", "config.json"], []),
        (["model.pt"], []),
        (["weights.PKL"], []),
        (["model.tar.gz"], []),
        (["modeling.py"], []),
        ([MODEL, "pytorch_model.bin"], ["pytorch_model.bin"]),
        ([MODEL, "pytorch_model.bin"], [MODEL, "pytorch_model.bin"]),
        ([MODEL, "weights.pt"], ["*.pt"]),
    ],
)
def test_pickles_archives_and_programs_are_refused(bench: Bench, files: list[str], globs: list[str]) -> None:
    bench.hub.files = dict.fromkeys(files, bench.content)
    error = refusal(bench, files=globs)
    assert error.reason is Reason.UnsafeFormat
    assert not [path for path in bench.server.paths() if "/resolve/" in path]


def test_what_lies_beside_the_model_is_not_loaded(bench: Bench) -> None:
    bench.hub.files |= {"pytorch_model.bin": b"pickle", "modeling.py": b"import os"}
    assert [file.path for file in bench.resolve().files] == [MODEL]
    assert [file.path for file in bench.resolve(files=["*"]).files] == [MODEL]
