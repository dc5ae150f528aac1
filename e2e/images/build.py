# SPDX-License-Identifier: Apache-2.0
"""Building images: skip what is unchanged, else context, build, archive, rename. One build at a time."""

import fcntl
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from e2e import debian
from e2e.images.base import base_reference, ensure_base
from e2e.images.command import BuildError, missing_tool, run, succeeds
from e2e.images.context import Workplace, fill_context
from e2e.images.engine import BUILDAH_ENV, Build, Engine, Store, build_argvs
from e2e.images.recipe import BuiltImage, Recipe, built_image, fingerprint, recipes
from e2e.packages import cache_root

DOCKER_PROBE: Final = ["docker", "version", "--format", "{{.Server.Version}}"]
COMPILERS: Final = {"cmake": "cmake", "ninja": "ninja-build", "g++": "g++", "strip": "binutils"}
LIBRARIES: Final = {"/usr/include/openssl/ssl.h": "libssl-dev"}
"""File to Debian package: what llama-server is linked with."""
BUILDERS: Final = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
"""Program to Debian package: for llama-server on any machine, and for images where Docker does not run."""

_ROOT = Path(__file__).resolve().parents[2]
_ATTEMPTS = 3
"""Builds before giving up on sources that change meanwhile: a tag must name what is in the image."""


def build_images(names: Iterable[str]) -> list[BuiltImage]:
    """Return the images called `names`, building those whose inputs changed. Needs Docker, or buildah as root."""
    engine = detect_engine()
    cache = cache_root()
    return [_ensure_image(recipe, engine=engine, cache=cache) for recipe in _chosen(names)]


def install_tools() -> None:
    """Install the Debian packages that building needs, where they are absent and this user may."""
    docker = succeeds(DOCKER_PROBE)
    absent = debian.absent(COMPILERS if docker else {**COMPILERS, **BUILDERS})
    if debian.can_install():
        debian.install((*absent, *debian.absent_files(LIBRARIES)), say=lambda line: print(line, flush=True))


def list_images(names: Iterable[str]) -> list[BuiltImage]:
    """Return what `build_images` would, without building; an archive may not be there yet."""
    base = _base_of(detect_engine())
    return [_planned(recipe, base=base, cache=cache_root()) for recipe in _chosen(names)]


def detect_engine() -> Engine:
    """Docker if its daemon answers, else buildah; BuildError when there is neither."""
    if succeeds(DOCKER_PROBE):
        return Engine.DOCKER
    if succeeds(["buildah", "--version"]):
        return Engine.BUILDAH
    raise missing_tool("buildah")


def _chosen(names: Iterable[str]) -> list[Recipe]:
    known = recipes()
    wanted = tuple(names)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise BuildError(f"expected images among {', '.join(known)}, found {', '.join(unknown)}")
    return [known[name] for name in wanted]


def _base_of(engine: Engine) -> str:
    """The reference that replaces a Containerfile's own base; Docker keeps that."""
    return base_reference() if engine is Engine.BUILDAH else ""


def _planned(recipe: Recipe, *, base: str, cache: Path) -> BuiltImage:
    return built_image(recipe.name, key=fingerprint(recipe, root=_ROOT, base=base), cache=cache)


def _ensure_image(recipe: Recipe, *, engine: Engine, cache: Path) -> BuiltImage:
    base = _base_of(engine)
    for _ in range(_ATTEMPTS):
        image = _planned(recipe, base=base, cache=cache)
        if image.archive.is_file():
            return image
        image.archive.parent.mkdir(parents=True, exist_ok=True)
        with _only_builder(cache / "images" / ".lock"):
            if not image.archive.is_file():
                _build(recipe, image, engine=engine, cache=cache)
        if _planned(recipe, base=base, cache=cache) == image:
            return image
        image.archive.unlink()
        print(f"{recipe.name}: its sources changed while it was built; once more", flush=True)
    raise BuildError(
        f"expected the sources of the image {recipe.name} to stay as they are while it is built, but they changed "
        f"during each of {_ATTEMPTS} attempts; build again when nobody edits them"
    )


def _build(recipe: Recipe, image: BuiltImage, *, engine: Engine, cache: Path) -> None:
    started = time.monotonic()
    print(f"{recipe.name}: building {image.reference}", flush=True)
    log = cache / "logs" / f"image-{recipe.name}.log"
    store = Store(cache / "containers")
    base = ensure_base(cache, store=store, log=log) if engine is Engine.BUILDAH else ""
    with tempfile.TemporaryDirectory(dir=image.archive.parent, prefix=f".{recipe.name}-") as folder:
        context = Path(folder) / "context"
        context.mkdir()
        fill_context(recipe, Workplace(root=_ROOT, context=context, cache=cache, log=log))
        partial = Path(folder) / "image.tar"
        build = Build(reference=image.reference, context=context, archive=partial, base=base)
        for argv in build_argvs(engine, build, store=store):
            run(argv, log=log, env=BUILDAH_ENV)
        partial.replace(image.archive)
    _remove_older(image)
    size = image.archive.stat().st_size / 1e6
    print(f"{recipe.name}: {size:.0f} MB in {time.monotonic() - started:.1f} s: {image.archive}", flush=True)


def _remove_older(image: BuiltImage) -> None:
    for other in image.archive.parent.glob(f"{image.name}-*.tar"):
        if other != image.archive:
            other.unlink()


@contextmanager
def _only_builder(lock: Path) -> Iterator[None]:
    """Let one process build at a time; the kernel releases the lock of one that dies."""
    with lock.open("w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another image build to end ({lock})", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
