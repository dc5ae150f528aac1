# SPDX-License-Identifier: Apache-2.0
"""The two ways to build an image: Docker where it runs, else buildah without a daemon. Pure command lines.

Nothing here runs a command: `argv` in, `argv` out, so that both ways are tested on any machine.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Engine(StrEnum):
    """What builds the images."""

    DOCKER = "docker"
    BUILDAH = "buildah"


@dataclass(frozen=True)
class Store:
    """buildah's own storage inside the cache, apart from the machine's."""

    root: Path

    @property
    def buildah(self) -> list[str]:
        """The command up to the sub-command."""
        return ["buildah", "--root", str(self.root / "storage"), "--runroot", str(self.root / "run")]


BUILDAH_ENV = {"BUILDAH_ISOLATION": "chroot"}
"""buildah's isolation without a container runtime, cgroups or namespaces of its own (buildah-build(1))."""


@dataclass(frozen=True)
class Build:
    """One image to build: everything in `context`, the Containerfile included."""

    reference: str
    context: Path
    archive: Path
    base: str
    """Reference that replaces the Containerfile's BASE argument; empty keeps its default."""


def build_argvs(engine: Engine, build: Build, *, store: Store) -> list[list[str]]:
    """The commands that turn a context into an archive that containerd and kind can import."""
    return _docker_argvs(build) if engine is Engine.DOCKER else _buildah_argvs(build, store=store)


_FAST_COMPRESSION = ("--compression-format", "zstd", "--compression-level", "1")
"""buildah always compresses OCI archives; zstd takes a third of gzip's time, containerd reads it since 1.5."""


def _docker_argvs(build: Build) -> list[list[str]]:
    containerfile = str(build.context / "Containerfile")
    base = ["--build-arg", f"BASE={build.base}"] if build.base else []
    return [
        ["docker", "build", "--tag", build.reference, "--file", containerfile, *base, str(build.context)],
        ["docker", "save", "--output", str(build.archive), build.reference],
    ]


def _buildah_argvs(build: Build, *, store: Store) -> list[list[str]]:
    containerfile = str(build.context / "Containerfile")
    base = ["--build-arg", f"BASE={build.base}"] if build.base else []
    head = [*store.buildah, "bud", "--pull-never", "--timestamp", "0", "--disable-compression"]
    push = [*store.buildah, "push", *_FAST_COMPRESSION, build.reference]
    return [
        [*head, "--tag", build.reference, "--file", containerfile, *base, str(build.context)],
        [*push, f"oci-archive:{build.archive}:{build.reference}"],
        [*store.buildah, "rmi", build.reference],
    ]


BASE_PACKAGES = ("python3", "ca-certificates", "libgomp1", "libstdc++6")
"""What the images need of Debian: an interpreter, the public CAs, and llama-server's libraries."""

BASE_SUITE = "bookworm"

_UNNEEDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def base_rootfs_argv(target: Path) -> list[str]:
    """The command that writes a small Debian root filesystem as a tar file (mmdebstrap(1))."""
    excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNNEEDED]
    head = ["mmdebstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}", *excluded]
    return [*head, BASE_SUITE, str(target)]
