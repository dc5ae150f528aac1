# SPDX-License-Identifier: Apache-2.0
"""Installs absent Debian packages where this user may; on other machines it leaves the telling to its callers."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path


def absent(programs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the packages of the programs (program → package) that are not on the PATH, sorted."""
    return tuple(sorted({package for program, package in programs.items() if shutil.which(program) is None}))


def absent_files(files: Mapping[str, str]) -> tuple[str, ...]:
    """Return the packages of the files (path → package) that are not there, sorted."""
    return tuple(sorted({package for path, package in files.items() if not Path(path).exists()}))


def can_install() -> bool:
    """Tell whether packages can be installed here: apt-get and root rights."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Iterable[str], *, say: Callable[[str], None]) -> None:
    """Install packages by apt-get; CalledProcessError with its output where that fails."""
    wanted = tuple(packages)
    if not wanted:
        return
    say(f"installing {' '.join(wanted)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (("apt-get", "update"), ("apt-get", "install", "-y", "--no-install-recommends", *wanted)):
        subprocess.run(argv, env=environment, check=True, capture_output=True)
