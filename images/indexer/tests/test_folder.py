# SPDX-License-Identifier: Apache-2.0
"""Which files of a volume are indexed: globs, the kubelet's links, and nothing outside."""

import os
from pathlib import Path

import pytest

from nimblet_egress.errors import Reason, SourceError
from nimblet_indexer.config import FileLimits, FolderSource
from nimblet_indexer.document import FileRefused, Refusal
from nimblet_indexer.parse.worker import Limits, ParserProcess
from nimblet_indexer.source.folder import FolderReader
from nimblet_indexer.source.listing import Listing


def source(folder: Path, **fields: object) -> FolderSource:
    """Return a source over a folder."""
    return FolderSource.model_validate({"name": "wiki", "folder": folder, "access": ["public"], **fields})


def listed(folder: Path, **fields: object) -> Listing:
    """Return the listing."""
    return FolderReader(source(folder, **fields), FileLimits()).list()


def names(folder: Path, **fields: object) -> list[str]:
    """Return what is listed."""
    return [file.name for file in listed(folder, **fields).files]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A volume with files of several kinds."""
    for name in ("a.md", "b.txt", "sub/c.MD", "sub/deep/d.pdf", ".hidden.md", ".git/e.md", "f.exe", "sub/g"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path / "tree"


def test_files_that_a_parser_knows_are_listed_by_name(tree: Path) -> None:
    assert names(tree) == ["a.md", "b.txt", "sub/c.MD", "sub/deep/d.pdf"]
    assert listed(tree).files[0].document == "wiki/a.md"


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.md"], [], ["a.md"]),
        (["**/*.MD", "**/*.md"], [], ["a.md", "sub/c.MD"]),
        (["sub/**"], [], ["sub/c.MD", "sub/deep/d.pdf"]),
        (["**/*"], ["sub/**"], ["a.md", "b.txt"]),
        (["**/deep/*"], [], ["sub/deep/d.pdf"]),
        (["../**"], [], []),
    ],
)
def test_globs_choose(tree: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    assert names(tree, include=include, exclude=exclude) == expected


def test_config_map_is_read_through_the_kubelets_links(tmp_path: Path) -> None:
    # Given a volume as the kubelet makes it: names that lead through a link to a hidden folder
    volume = tmp_path / "volume"
    (volume / "..2026").mkdir(parents=True)
    (volume / "..2026" / "a.md").write_text("x")
    (volume / "..data").symlink_to("..2026")
    (volume / "a.md").symlink_to("..data/a.md")
    # Then each file is listed once
    assert names(volume) == ["a.md"]


def test_link_out_of_the_volume_is_left_out(tmp_path: Path) -> None:
    # Given links to a file and a folder beside the volume, and a ring
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.md").write_text("x")
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file.md").symlink_to(tmp_path / "outside" / "secret.md")
    (volume / "folder").symlink_to(tmp_path / "outside")
    (volume / "ring").symlink_to(volume)
    (volume / "gone.md").symlink_to("nowhere")
    assert names(volume) == []
    # Then the one that could be read is told
    assert [(error.file, error.reason) for error in listed(volume).refused] == [("wiki/file.md", "Link")]


def test_volume_of_too_many_files_is_refused_before_it_fills_the_memory(tree: Path) -> None:
    with pytest.raises(SourceError) as caught:
        FolderReader(source(tree), FileLimits(source_files=3)).list()
    assert caught.value.reason is Reason.TooManyFiles


def test_link_that_leads_to_itself_is_told(tree: Path) -> None:
    (tree / "ring.md").symlink_to("ring.md")
    listing = listed(tree)
    assert len(listing.files) == 4
    assert [(error.file, error.reason) for error in listing.refused] == [("wiki/ring.md", "Link")]


def test_folder_that_can_not_be_listed_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given folders within each other, deeper than a path may be long
    monkeypatch.chdir(tree)
    for _ in range(25):
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    Path("deep.md").write_text("x")
    # Then the others' files are listed, and it is said that some could not be
    listing = listed(tree)
    assert len(listing.files) == 4
    assert [error.reason for error in listing.refused] == ["Unreadable"]


def test_file_that_can_not_be_looked_at_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a folder whose path is just short enough, and a file in it
    monkeypatch.chdir(tree)
    while len(str(Path.cwd())) < 3850:
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    Path(f"{'f' * 247}.md").write_text("x")
    # Then it is left out alone
    listing = listed(tree)
    assert len(listing.files) == 4
    assert [error.reason for error in listing.refused] == ["Unreadable"]


def test_volume_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        names(tmp_path / "none")


def test_file_that_becomes_a_link_after_listing_is_refused(tree: Path, tmp_path: Path) -> None:
    # Given a listing, and somebody who then puts links in the place of a file and of a folder, and a pipe
    secret = tmp_path / "key" / "c.MD"
    secret.parent.mkdir()
    secret.write_text("the indexer's own key")
    reader = FolderReader(source(tree), FileLimits())
    files = {file.name: file for file in reader.list().files}
    (tree / "a.md").unlink()
    (tree / "a.md").symlink_to(secret)
    (tree / "b.txt").unlink()
    os.mkfifo(tree / "b.txt")
    (tree / "sub").rename(tmp_path / "aside")
    (tree / "sub").symlink_to(secret.parent)
    # Then what is behind them is not read
    with ParserProcess(Limits()) as parser:
        for name in ("a.md", "b.txt", "sub/c.MD"):
            with reader.fetch(files[name]) as fetched, pytest.raises(FileRefused) as refused:
                parser.parse(fetched.path, name=fetched.parse_as)
            assert refused.value.reason is Refusal.LINK
