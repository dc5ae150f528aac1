# SPDX-License-Identifier: Apache-2.0
"""A Python image's packages, installed on this machine from the lock file, with hashes and compiled modules.

The image itself then runs no installer and needs no network while it is built.
"""

import hashlib
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e.images.command import run

PYTHON = "3.11"
"""The interpreter of the base images: compiled modules only fit the same minor version."""

_ENV = {"PYC_INVALIDATION_MODE": "UNCHECKED_HASH"}
"""Compiled modules that stay valid when the image build sets all file times to zero (PEP 552)."""


_KEY_DIGITS = 12


def export_argv(dist: str, *, root: Path, output: Path) -> list[str]:
    """The command that writes the locked requirements of one workspace member, without the member itself."""
    head = ["uv", "export", "--quiet", "--frozen", "--no-dev", "--no-emit-workspace", "--project", str(root)]
    return [*head, "--package", dist, "--output-file", str(output)]


def install_argv(target: Path, *what: str) -> list[str]:
    """The command that installs packages into a folder for Linux on this machine's kind of CPU."""
    head = ["uv", "pip", "install", "--quiet", "--no-deps", "--python", PYTHON, "--link-mode", "copy"]
    system = ["--python-platform", f"{_machine()}-unknown-linux-gnu", "--compile-bytecode"]
    return [*head, *system, "--target", str(target), *what]


@dataclass(frozen=True)
class Project:
    """A workspace member to install."""

    dist: str
    folders: tuple[Path, ...]
    """Its own, and those of the members that it is made of: the export names no workspace member."""
    root: Path
    """The workspace, which holds the lock file."""


def install_site_packages(project: Project, *, target: Path, cache: Path, log: Path) -> None:
    """Install a workspace member and its locked dependencies into the new folder `target`.

    The dependencies, which are most of the work, are kept in the cache until the lock changes them.
    """
    run(install_argv(target, *map(str, project.folders)), log=log, env=_ENV)
    dependencies = _ensure_dependencies(project, cache=cache, log=log)
    shutil.copytree(dependencies, target, copy_function=_link_new, dirs_exist_ok=True)


def _ensure_dependencies(project: Project, *, cache: Path, log: Path) -> Path:
    parent = cache / "site-packages"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{project.dist}-") as folder:
        requirements = Path(folder) / "requirements.txt"
        run(export_argv(project.dist, root=project.root, output=requirements), log=log)
        kept = parent / f"{project.dist}-{dependencies_key(requirements.read_text(encoding='utf-8'))}"
        if kept.is_dir():
            return kept
        partial = Path(folder) / "packages"
        partial.mkdir()
        what = ("--require-hashes", "--requirement", str(requirements))
        run(install_argv(partial, *what), log=log, env=_ENV)
        for older in parent.glob(f"{project.dist}-{'[0-9a-f]' * _KEY_DIGITS}"):
            shutil.rmtree(older)
        partial.rename(kept)
    return kept


def _link_new(source: str, target: str) -> None:
    """Give a kept file a second name; the member's own files stay."""
    if not Path(target).exists():
        os.link(source, target)


def dependencies_key(requirements: str) -> str:
    """A short digest of locked requirements and of the platform; comments in them do not count."""
    lines = [line for line in requirements.splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join((PYTHON, _machine(), *lines))
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def _machine() -> str:
    return {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
