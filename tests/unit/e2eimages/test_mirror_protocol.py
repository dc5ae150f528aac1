# SPDX-License-Identifier: Apache-2.0
"""The mirror's answers, without a socket."""

import hashlib
import json
from http import HTTPStatus
from pathlib import Path

import pytest

from e2e.mirror.catalog import Fault, Hub, HubFile, read_file, read_hub
from e2e.mirror.protocol import Request, Response, Slice, respond
from e2e.mirror.server import sent_bytes

TOKEN = "hf_made_for_tests"


def header(response: Response, name: str) -> str | None:
    return dict(response.headers).get(name)


def error_code(response: Response) -> str | None:
    return header(response, "X-Error-Code")


def slice_of(response: Response) -> tuple[int, int]:
    assert isinstance(response.body, Slice)
    return response.body.start, response.body.length


def cdn_target(hub: Hub, repo: str = "org/tiny") -> str:
    location = header(respond(hub, Request(f"/{repo}/resolve/main/tiny.gguf")), "Location")
    assert location is not None
    return location.removeprefix("http://localhost")


def test_model_lists_size_and_digest_of_large_files_when_blobs_are_wanted(hub: Hub, model_file: HubFile) -> None:
    response = respond(hub, Request("/api/models/org/tiny?blobs=true"))
    assert isinstance(response.body, bytes)
    facts = json.loads(response.body)
    siblings = {entry["rfilename"]: entry for entry in facts["siblings"]}
    assert facts["sha"] == hub.repos["org/tiny"].commit
    assert facts["gated"] is False
    assert siblings["tiny.gguf"]["lfs"]["sha256"] == model_file.sha256
    assert siblings["tiny.gguf"]["size"] == model_file.size_bytes
    assert "lfs" not in siblings["docs/README.md"]


def test_model_lists_names_alone_when_blobs_are_not_wanted(hub: Hub) -> None:
    response = respond(hub, Request("/api/models/org/tiny"))
    assert isinstance(response.body, bytes)
    assert {"rfilename": "tiny.gguf"} in json.loads(response.body)["siblings"]


@pytest.mark.parametrize("revision", ["main", "refs%2Fpr%2F1"])
def test_model_names_the_same_commit_by_any_of_its_refs(hub: Hub, revision: str) -> None:
    response = respond(hub, Request(f"/api/models/org/tiny/revision/{revision}"))
    assert isinstance(response.body, bytes)
    assert json.loads(response.body)["sha"] == hub.repos["org/tiny"].commit


def test_large_file_redirects_with_commit_size_and_digest(hub: Hub, model_file: HubFile) -> None:
    response = respond(hub, Request("/org/tiny/resolve/main/tiny.gguf"))
    assert response.status is HTTPStatus.FOUND
    assert header(response, "X-Repo-Commit") == hub.repos["org/tiny"].commit
    assert header(response, "X-Linked-Etag") == f'"{model_file.sha256}"'
    assert header(response, "X-Linked-Size") == str(model_file.size_bytes)


def test_small_file_comes_at_once_with_gits_blob_id(hub: Hub) -> None:
    response = respond(hub, Request("/org/tiny/resolve/main/docs/README.md"))
    expected = hashlib.sha1(b"blob 7\0# Tiny\n", usedforsecurity=False).hexdigest()
    assert response.status is HTTPStatus.OK
    assert header(response, "ETag") == f'"{expected}"'
    assert header(response, "X-Linked-Etag") is None


@pytest.mark.parametrize(
    ("target", "token", "status", "code"),
    [
        ("/api/models/no/such", None, 401, "RepoNotFound"),
        ("/api/models/no/such", TOKEN, 404, "RepoNotFound"),
        ("/no/such/resolve/main/tiny.gguf", TOKEN, 404, "RepoNotFound"),
        ("/api/models/org/tiny/revision/none", None, 404, "RevisionNotFound"),
        ("/org/tiny/resolve/none/tiny.gguf", None, 404, "RevisionNotFound"),
        ("/org/tiny/resolve/main/none.gguf", None, 404, "EntryNotFound"),
        ("/faults/gated/resolve/main/tiny.gguf", None, 401, "GatedRepo"),
        ("/faults/gated/resolve/main/tiny.gguf", TOKEN, 302, None),
        ("/faults/closed/resolve/main/tiny.gguf", TOKEN, 403, "GatedRepo"),
        ("/faults/forbidden/resolve/main/tiny.gguf", TOKEN, 403, None),
        ("/org/tiny-5/resolve/main/tiny.gguf", TOKEN, 404, "RepoNotFound"),
        ("/org/tiny/resolve/main/tiny.gguf", "wrong", 401, None),
        ("/nowhere", None, 404, None),
        ("/files/none", None, 404, None),
    ],
)
def test_refusal_has_the_hubs_status_and_code(
    hub: Hub, target: str, token: str | None, status: int, code: str | None
) -> None:
    response = respond(hub, Request(target, token=token))
    assert (response.status, error_code(response)) == (status, code)


def test_repository_of_a_claimed_size_tells_it_everywhere(hub: Hub) -> None:
    listing = respond(hub, Request("/api/models/faults/sized-900000?blobs=true")).body
    assert isinstance(listing, bytes)
    sizes = [entry["size"] for entry in json.loads(listing)["siblings"]]
    assert sizes == [900_000, 900_000]
    assert (
        header(respond(hub, Request("/faults/sized-900000/resolve/main/tiny.gguf")), "X-Linked-Size") == "900000"
    )
    part = respond(hub, Request(cdn_target(hub, "faults/sized-900000"), range="bytes=0-9"))
    assert header(part, "Content-Range") == "bytes 0-9/900000"
    assert slice_of(part) == (0, 10)


@pytest.mark.parametrize(
    ("wanted", "start", "length"),
    [("bytes=10-19", 10, 10), ("bytes=100-", 100, -100), ("bytes=-5", -5, 5), ("bytes=0-99999999", 0, 0)],
)
def test_range_gives_the_part_that_was_asked_for(
    hub: Hub, model_file: HubFile, wanted: str, start: int, length: int
) -> None:
    size = model_file.size_bytes
    begin, count = start % size, (length if length > 0 else size + length)
    response = respond(hub, Request(cdn_target(hub), range=wanted))
    assert response.status is HTTPStatus.PARTIAL_CONTENT
    assert slice_of(response) == (begin, count)
    assert header(response, "Content-Range") == f"bytes {begin}-{begin + count - 1}/{size}"
    assert header(response, "Content-Length") == str(count)


def test_range_behind_the_end_is_not_satisfiable(hub: Hub, model_file: HubFile) -> None:
    response = respond(hub, Request(cdn_target(hub), range=f"bytes={model_file.size_bytes}-"))
    assert response.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    assert header(response, "Content-Range") == f"bytes */{model_file.size_bytes}"


@pytest.mark.parametrize("wanted", ["bytes=0-1,4-5", "lines=1-2", "bytes=-", "", None])
def test_range_that_is_not_one_range_of_bytes_gives_the_whole_file(hub: Hub, wanted: str | None) -> None:
    assert respond(hub, Request(cdn_target(hub), range=wanted)).status is HTTPStatus.OK


def test_range_of_a_file_that_changed_gives_the_whole_file(hub: Hub) -> None:
    request = Request(cdn_target(hub), range="bytes=10-", if_range='"another"')
    assert respond(hub, request).status is HTTPStatus.OK


def test_fault_ignores_the_range(hub: Hub) -> None:
    request = Request(cdn_target(hub, "faults/no-range"), range="bytes=10-")
    assert respond(hub, request).status is HTTPStatus.OK


def test_fault_is_unavailable(hub: Hub) -> None:
    assert respond(hub, Request(cdn_target(hub, "faults/unavailable"))).status is HTTPStatus.SERVICE_UNAVAILABLE


@pytest.mark.parametrize(
    ("fault", "start", "sent"),
    [
        (Fault(), 0, 100),
        (Fault(cut_after_bytes=30), 50, 30),
        (Fault(stall_at_byte=30), 0, 30),
        (Fault(stall_at_byte=30), 50, 0),
        (Fault(cut_after_bytes=10, stall_at_byte=30), 0, 10),
        (Fault(end_at_byte=30), 0, 30),
        (Fault(end_at_byte=30), 50, 0),
    ],
)
def test_cut_counts_from_the_response_and_stall_from_the_file(
    model_file: HubFile, fault: Fault, start: int, sent: int
) -> None:
    assert sent_bytes(Slice(model_file, start=start, length=100, fault=fault)) == sent


def test_commit_changes_with_contents_alone(hub: Hub) -> None:
    commits = {repo.commit for repo in hub.repos.values()}
    assert len(commits) == 1
    assert len(commits.pop()) == 40


def test_hub_is_read_from_its_file(tmp_path: Path, model_file: HubFile) -> None:
    repo = {"id": "a/b", "files": {"m.gguf": "tiny.gguf"}, "access": "token", "fault": {"flip_byte": True}}
    config = tmp_path / "hub.json"
    config.write_text(json.dumps({"repos": [repo], "plain": [{"name": "x", "path": "tiny.gguf"}]}), "utf-8")
    hub = read_hub(config, token=TOKEN)
    assert hub.repos["a/b"].files == {"m.gguf": model_file}
    assert hub.repos["a/b"].fault.flip_byte
    assert hub.plain["x"].file == read_file(model_file.path)


@pytest.mark.parametrize("text", ["[]", '{"repos": [{}]}', '{"repos": [{"id": "a/b", "files": []}]}', "{"])
def test_hub_file_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    config = tmp_path / "hub.json"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"hub\.json"):
        read_hub(config)
