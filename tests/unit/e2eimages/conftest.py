# SPDX-License-Identifier: Apache-2.0
"""Small made files in place of models, and a mirror that serves them on loopback."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.mirror.catalog import Access, Fault, Hub, HubFile, PlainFile, Repo, read_file
from e2e.mirror.server import MirrorServer, serve

TOKEN = "hf_made_for_tests"
CONTENT = bytes(range(256)) * 400


@pytest.fixture
def model_file(tmp_path: Path) -> HubFile:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF" + CONTENT)
    return read_file(path)


@pytest.fixture
def readme_file(tmp_path: Path) -> HubFile:
    path = tmp_path / "README.md"
    path.write_text("# Tiny\n", encoding="utf-8")
    return read_file(path)


@pytest.fixture
def hub(model_file: HubFile, readme_file: HubFile) -> Hub:
    files = {model_file.path.name: model_file, "docs/README.md": readme_file}

    def repo(repo_id: str, *, access: Access = Access.PUBLIC, fault: Fault | None = None) -> Repo:
        return Repo(repo_id, files, access=access, refs=("main", "refs/pr/1"), fault=fault or Fault())

    repos = (
        repo("org/tiny"),
        replace(repo("org/direct"), redirect=False),
        repo("faults/gated", access=Access.TOKEN),
        repo("faults/closed", access=Access.CLOSED),
        repo("faults/forbidden", access=Access.FORBIDDEN),
        repo("faults/sized"),
        repo("faults/wrong-digest", fault=Fault(flip_byte=True)),
        repo("faults/cut", fault=Fault(cut_after_bytes=1000)),
        repo("faults/stalled", fault=Fault(stall_at_byte=1000)),
        repo("faults/no-range", fault=Fault(ignore_range=True)),
        repo("faults/unavailable", fault=Fault(unavailable=True)),
    )
    plain = {"tiny.gguf": PlainFile(model_file)}
    return Hub({entry.id: entry for entry in repos}, plain=plain, token=TOKEN)


@pytest.fixture
def mirror(hub: Hub) -> Iterator[MirrorServer]:
    with serve(hub) as server:
        yield server


@pytest.fixture
def source_tree(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Write files by relative path into a new tree and return its root."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / "tree"

    return write
