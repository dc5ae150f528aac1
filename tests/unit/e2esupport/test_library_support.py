# SPDX-License-Identifier: Apache-2.0
"""The pure parts behind the scenarios of sources, pushes and stores: objects, a signature, a commit, a table."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from e2e.support.desk import documents
from e2e.support.git_server import repository
from e2e.support.library import (
    GIT_IDS,
    bucket_manifests,
    git_manifests,
    library_manifests,
    rendered,
)
from e2e.support.manifests import Manifest
from e2e.support.s3_standin import listing, signature
from e2e.support.troubles import Trouble, table
from nimblet.api.assistant import AssistantSpec
from nimblet.api.compactmodel import CompactModelSpec
from nimblet.api.retrievalindex import RetrievalIndexSpec
from nimblet_egress.sigv4 import AccessKey, signed_headers
from nimblet_egress.target import Target

SPECS: dict[str, type[BaseModel]] = {
    "RetrievalIndex": RetrievalIndexSpec,
    "Assistant": AssistantSpec,
    "CompactModel": CompactModelSpec,
}
SERVERS = {
    "git": git_manifests("m:1"),
    "s3": bucket_manifests("m:1"),
}


def test_what_the_library_applies_is_what_the_kinds_take() -> None:
    made = library_manifests("team")
    kinds = [str(item["kind"]) for item in made]
    assert sorted(kinds) == [
        *sorted(["Assistant", "CompactModel", "RetrievalIndex"]),
        *["Secret"] * 3,
    ]
    for item in made:
        if str(item["kind"]) in SPECS:
            SPECS[str(item["kind"])].model_validate(item["spec"])


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_server_is_a_restricted_pod_with_its_program(server: list[Manifest]) -> None:
    config, deployment, service = server
    text = json.dumps(deployment)
    assert '"runAsNonRoot": true' in text
    assert '"readOnlyRootFilesystem": true' in text
    assert isinstance(config["data"], dict)
    (script,) = config["data"]
    assert f"/program/{script}" in text
    assert config["metadata"] == deployment["metadata"] == service["metadata"]


def test_the_commit_of_a_repository_depends_on_its_files_alone() -> None:
    files = rendered(documents(*GIT_IDS))
    assert repository(files)[1] == repository(dict(files))[1]
    assert repository(files)[1] != repository({**files, "more.md": b"# More"})[1]


def test_the_bucket_takes_what_our_signer_signs_and_nothing_else() -> None:
    target = Target("http", "s3.hub", 9000, "/papers?list-type=2&max-keys=1000&prefix=museum%2F")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    signed = signed_headers(target, AccessKey("id", "secret"), region="us-east-1", now=moment)
    headers = {name.lower(): value for name, value in signed.items()} | {"host": target.authority}
    given = headers["authorization"].rpartition("Signature=")[2]
    assert signature("GET", target.path, headers, "secret") == given
    assert signature("GET", target.path, headers, "another") != given
    assert b"<Key>museum/a.md</Key>" in listing({"museum/a.md": b"x", "other/b.md": b"y"}, "museum/")
    assert b"other" not in listing({"museum/a.md": b"x", "other/b.md": b"y"}, "museum/")


def test_a_table_has_a_line_for_each_trouble() -> None:
    row = Trouble(
        title="a store that is down",
        reason="StoreUnavailable",
        message="it is | away",
        recorded="its pod",
        told_seconds=-0.4,
        cure="start it",
        healed_seconds=2.0,
    )
    page = table([row])
    *_, line = page.splitlines()
    assert line.startswith("| a store that is down | `StoreUnavailable` | it is \\| away | its pod | 0.0 s |")
    # one that was not provoked again stays
    other = replace(row, title="a wrong key")
    assert table([other], before=page).splitlines()[-2:] == [line, line.replace(row.title, other.title)]
