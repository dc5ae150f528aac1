# SPDX-License-Identifier: Apache-2.0
"""The base image of builds without Docker: a minimal Debian, made once from its packages and cached."""

import hashlib
import tempfile
from pathlib import Path

from e2e.images.command import run, succeeds
from e2e.images.engine import BASE_PACKAGES, BASE_SUITE, BUILDAH_ENV, Store, base_rootfs_argv

_CONTAINERFILE = "FROM scratch\nADD base.tar /\n"


def base_key() -> str:
    """A short digest of what the base is made of; Debian's own updates do not change it."""
    return hashlib.sha256(" ".join(base_rootfs_argv(Path("base.tar"))).encode()).hexdigest()[:12]


def base_reference() -> str:
    """The local name of the base image."""
    return f"nimblet.local/base:{base_key()}"


def ensure_base(cache: Path, *, store: Store, log: Path) -> str:
    """Make the base image in `store` unless it is there, and return its reference."""
    reference = base_reference()
    if succeeds([*store.buildah, "inspect", "--type", "image", reference]):
        return reference
    rootfs = _ensure_rootfs(cache, log=log)
    with tempfile.TemporaryDirectory(dir=rootfs.parent) as folder:
        context = Path(folder)
        (context / "Containerfile").write_text(_CONTAINERFILE, encoding="utf-8")
        (context / "base.tar").hardlink_to(rootfs)
        argv = [*store.buildah, "bud", "--disable-compression", "--tag", reference]
        run([*argv, "--file", str(context / "Containerfile"), str(context)], log=log, env=BUILDAH_ENV)
    return reference


def _ensure_rootfs(cache: Path, *, log: Path) -> Path:
    rootfs = cache / "base" / f"{BASE_SUITE}-{base_key()}.tar"
    if rootfs.is_file():
        return rootfs
    print(f"base: fetching Debian {BASE_SUITE} with {', '.join(BASE_PACKAGES)} (about a minute, once)", flush=True)
    rootfs.parent.mkdir(parents=True, exist_ok=True)
    partial = rootfs.with_name(f".partial-{rootfs.name}")
    run(base_rootfs_argv(partial), log=log)
    partial.replace(rootfs)
    return rootfs
