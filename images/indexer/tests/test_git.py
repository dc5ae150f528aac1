# SPDX-License-Identifier: Apache-2.0
"""A repository as a source: which commit, which files of it, and what a hostile one may put there."""

from collections.abc import Iterator

import pytest

from indexer_testing.build import Bench
from indexer_testing.places import Places, commit, places_of
from nimblet_egress.errors import Reason

DOCUMENTS = {"a.txt": b"Document a.", "docs/b.txt": b"Document b."}


@pytest.fixture
def places() -> Iterator[Places]:
    """A repository of two documents."""
    with places_of(DOCUMENTS) as made:
        yield made


def source(places: Places, **fields: object) -> dict[str, object]:
    """Return a source over the repository."""
    return {"type": "Git", "name": "repo", "url": f"{places.url}/repo.git", **fields}


def head(places: Places) -> str:
    """Return the commit of the default branch."""
    return places.repo.refs[next(iter(places.repo.refs.keys()))].decode()


@pytest.mark.parametrize("revision", [None, "main", "commit"])
def test_revision_is_resolved_to_a_commit_that_is_told(bench: Bench, places: Places, revision: str | None) -> None:
    wanted = head(places) if revision == "commit" else revision
    ending = bench.build(source(places, **({} if wanted is None else {"revision": wanted})))
    assert ending.failed is None
    assert ending.report.sources[0].revision == head(places)


def test_changed_branch_gives_its_newest_commit_without_what_was_deleted(bench: Bench, places: Places) -> None:
    first = bench.build(source(places, revision="main"))
    newest = commit(places.repo, {"docs/b.txt": b"Document b, changed."})
    bench.retriever.passages.clear()
    second = bench.build(source(places, revision="main"), generation="g000003")
    assert second.report.sources[0].revision == newest != first.report.sources[0].revision
    assert second.report.sources[0].hash != first.report.sources[0].hash
    assert bench.retriever.documents() == {"repo/docs/b.txt"}


def test_folder_of_a_repository(bench: Bench, places: Places) -> None:
    assert bench.build(source(places, path="docs")).report.served
    assert bench.retriever.documents() == {"repo/b.txt"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"revision": "none"}, Reason.RevisionNotFound),
        ({"path": "none"}, Reason.FileNotFound),
        ({"path": "a.txt"}, Reason.FileNotFound),
    ],
)
def test_what_the_repository_has_not_is_told(
    bench: Bench, places: Places, fields: dict[str, str], reason: Reason
) -> None:
    ending = bench.build(source(places, **fields))
    assert ending.failed is not None
    assert ending.failed.reason is reason


def test_links_submodules_and_odd_names_are_told_and_nothing_leaves_the_scratch_folder(
    bench: Bench, places: Places
) -> None:
    # Given a repository with a link to a secret, a submodule, a hidden folder and a name with a line break
    secret = bench.folder / "secret.txt"
    secret.write_text("canary")
    files = {
        "link.txt": str(secret).encode(),
        "sub": b"",
        "line\nbreak.txt": b"x",
        ".git.txt": b"hidden",
        "large.txt": b"x" * 5000,
        "good.txt": b"Good.",
    }
    commit(places.repo, files, odd={"link.txt": 0o120000, "sub": 0o160000})
    ending = bench.build(source(places), limits={"fileBytes": 1000})
    # Then the good file is indexed, and the others are told
    assert bench.retriever.documents() == {"repo/good.txt"}
    assert {(error.file, error.reason) for error in ending.report.errors} == {
        ("repo/link.txt", "Link"),
        ("repo/sub", "Submodule"),
        ("repo/line\nbreak.txt", "UnsafeName"),
        ("repo/large.txt", "TooLarge"),
    }
    assert "canary" not in str(bench.retriever.passages)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"sourceBytes": 100}, Reason.FileTooLarge), ({"sourceFiles": 1}, Reason.TooManyFiles)],
)
def test_repository_beyond_the_limits_is_refused(
    bench: Bench, places: Places, limits: dict[str, int], reason: Reason
) -> None:
    ending = bench.build(source(places), limits=limits)
    assert ending.failed is not None
    assert ending.failed.reason is reason


def test_repository_that_unpacks_to_too_much_ends_its_own_process_alone(bench: Bench, places: Places) -> None:
    # Given a small pack with half a gigabyte of zeros, and a process that may have no more
    commit(places.repo, {"bomb.txt": bytes(2**29)})
    ending = bench.build(source(places), limits={"memoryBytes": 2**29})
    assert ending.failed is not None
    assert ending.failed.reason is Reason.FileTooLarge
