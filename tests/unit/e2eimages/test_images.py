# SPDX-License-Identifier: Apache-2.0
"""What decides that an image is built again, and the command lines of both builders."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.images.build import build_images
from e2e.images.command import BuildError, done_tenths, run
from e2e.images.engine import Build, Engine, Store, base_rootfs_argv, build_argvs
from e2e.images.llamaserver import cmake_flags
from e2e.images.recipe import IMAGE_NAMES, Recipe, fingerprint, recipes, source_files
from e2e.images.sitepackages import dependencies_key, export_argv, install_argv

Tree = Callable[[dict[str, str]], Path]

BUILDERS = {f"e2e/images/{name}.py": "" for name in ("base", "context", "engine", "sitepackages")}
FILES = {"images/x/Containerfile": "FROM scratch", "src/a.py": "a = 1", "uv.lock": "1", **BUILDERS}
RECIPE = Recipe("x", "images/x/Containerfile", ("src", "uv.lock"), ingredients=("weights@1",))


def build(base: str = "") -> Build:
    return Build(reference="nimblet.local/x:1", context=Path("/c"), archive=Path("/a.tar"), base=base)


def key(root: Path, recipe: Recipe = RECIPE, base: str = "base:1") -> str:
    return fingerprint(recipe, root=root, base=base)


@pytest.mark.parametrize(
    "change",
    [
        {"src/a.py": "a = 2"},
        {"src/b.py": ""},
        {"images/x/Containerfile": "FROM other"},
        {"uv.lock": "2"},
        {"e2e/images/engine.py": "changed"},
    ],
)
def test_fingerprint_changes_with_each_input(source_tree: Tree, change: dict[str, str]) -> None:
    before = key(source_tree(FILES))
    assert key(source_tree(change)) != before


def test_fingerprint_changes_with_base_and_ingredients(source_tree: Tree) -> None:
    root = source_tree(FILES)
    other = Recipe("x", "images/x/Containerfile", ("src", "uv.lock"), ingredients=("weights@2",))
    assert len({key(root), key(root, base="base:2"), key(root, other)}) == 3


def test_fingerprint_ignores_tests_and_what_tools_leave_behind(source_tree: Tree) -> None:
    before = key(source_tree(FILES))
    after = key(source_tree({"src/__pycache__/a.pyc": "x", "src/tests/test_a.py": "x"}))
    assert after == before


def test_fingerprint_does_not_depend_on_where_the_repository_is(source_tree: Tree, tmp_path: Path) -> None:
    before = key(source_tree(FILES))
    moved = source_tree(FILES).rename(tmp_path / "moved")
    assert key(moved) == before


def test_source_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected .*nothing"):
        list(source_files(tmp_path / "none"))


def test_every_name_has_a_recipe_and_a_containerfile() -> None:
    root = Path(__file__).parents[3]
    assert tuple(recipes()) == IMAGE_NAMES
    for recipe in recipes().values():
        text = (root / recipe.containerfile).read_text(encoding="utf-8")
        assert "ARG BASE=" in text
        assert "USER 65532:65532" in text


def test_docker_builds_with_the_containerfiles_own_base_and_saves_an_archive() -> None:
    assert build_argvs(Engine.DOCKER, build(), store=Store(Path("/s"))) == [
        ["docker", "build", "--tag", "nimblet.local/x:1", "--file", "/c/Containerfile", "/c"],
        ["docker", "save", "--output", "/a.tar", "nimblet.local/x:1"],
    ]


def test_buildah_builds_in_its_own_store_on_the_local_base() -> None:
    bud, push, remove = build_argvs(Engine.BUILDAH, build("nimblet.local/base:1"), store=Store(Path("/s")))
    own = ["buildah", "--root", "/s/storage", "--runroot", "/s/run"]
    assert [argv[:5] for argv in (bud, push, remove)] == [own, own, own]
    assert bud[bud.index("--build-arg") + 1] == "BASE=nimblet.local/base:1"
    assert "--pull-never" in bud
    assert push[-2:] == ["nimblet.local/x:1", "oci-archive:/a.tar:nimblet.local/x:1"]
    assert remove[5:] == ["rmi", "nimblet.local/x:1"]


def test_base_has_an_interpreter_and_the_servers_libraries() -> None:
    argv = base_rootfs_argv(Path("/base.tar"))
    assert argv[0] == "mmdebstrap"
    assert "--include=python3,ca-certificates,libgomp1,libstdc++6" in argv
    assert argv[-2:] == ["bookworm", "/base.tar"]


def test_llama_server_is_portable_and_uses_vector_units_where_the_cpu_has_them() -> None:
    assert {"-DGGML_NATIVE=OFF", "-DLLAMA_OPENSSL=ON"} <= set(cmake_flags("aarch64"))
    assert "-DGGML_AVX2=ON" in cmake_flags("x86_64")
    assert "-DGGML_AVX2=ON" not in cmake_flags("aarch64")


def test_packages_come_from_the_lock_with_hashes_and_compiled(tmp_path: Path) -> None:
    export = export_argv("nimblet", root=tmp_path, output=tmp_path / "r.txt")
    install = install_argv(tmp_path, "--require-hashes")
    assert {"--frozen", "--no-dev", "--no-emit-workspace"} <= set(export)
    assert {"--compile-bytecode", "--no-deps", "--require-hashes"} <= set(install)


def test_kept_dependencies_change_with_requirements_and_not_with_comments() -> None:
    assert dependencies_key("# made by a\nx==1") == dependencies_key("# made by b\nx==1")
    assert dependencies_key("x==1") != dependencies_key("x==2")


@pytest.mark.parametrize(
    ("line", "tenths"), [("[21/208] Building", 1), ("[208/208] Linking", 10), ("warning: x", 0), ("[a/b]", 0)]
)
def test_progress_is_read_off_ninjas_lines(line: str, tenths: int) -> None:
    assert done_tenths(line) == tenths


def test_failing_command_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="ended with 1"):
        run(["false"], log=tmp_path / "log")


def test_missing_command_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="apt-get install"):
        run(["no-such-tool-anywhere"], log=tmp_path / "log")


def test_unknown_image_is_refused_with_those_there_are() -> None:
    with pytest.raises(BuildError, match=", ".join(IMAGE_NAMES)):
        build_images(name for name in ("none",))


def test_fingerprint_is_a_valid_image_tag(source_tree: Tree) -> None:
    assert re.fullmatch("[0-9a-f]{16}", key(source_tree(FILES)))
