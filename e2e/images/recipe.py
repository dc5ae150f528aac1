# SPDX-License-Identifier: Apache-2.0
"""What each image is made of, and the fingerprint by which an unchanged image is not built again."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e import adapter
from e2e.images.llamaserver import server_recipe
from e2e.images.sitepackages import PYTHON
from e2e.models import MODELS

_IGNORED_FOLDERS = frozenset({"__pycache__", "tests", "build", "dist", ".venv", ".mypy_cache", ".ruff_cache"})
_KEY_DIGITS = 16
_LIBRARIES = {
    "operator": ("images/attestation",),
    "loader": ("images/attestation", "images/egress"),
    "indexer": ("images/egress", "images/tls"),
    "retriever": ("images/indexer", "images/egress", "images/relevance", "images/tls"),
    "gateway": ("images/relevance", "images/tls"),
}
"""Workspace members that an image uses besides its own."""
_BUILDERS = tuple(f"e2e/images/{module}.py" for module in ("base", "context", "engine", "sitepackages"))
"""Code that decides what ends up in an image: a change of it builds anew."""


@dataclass(frozen=True)
class Recipe:
    """An image's inputs; paths are relative to the repository."""

    name: str
    containerfile: str
    sources: tuple[str, ...]
    """Files and folders whose contents end up in the image, or decide what does."""
    dist: str = ""
    """The workspace member that a Python image installs."""
    members: tuple[str, ...] = ()
    """The folders of that member and of the libraries of the workspace that it uses."""
    ingredients: tuple[str, ...] = ()
    """Inputs from outside the repository, by version and digest."""


@dataclass(frozen=True)
class BuiltImage:
    """An image ready to be loaded into a cluster."""

    name: str
    reference: str
    """`nimblet.local/<name>:<fingerprint>`: a changed image never hides behind an old tag."""
    archive: Path
    """A tar file that `ctr images import` and `kind load image-archive` read."""


def recipes() -> dict[str, Recipe]:
    """Every image by name, in building order."""
    weights = (*(f"{model.file}@{model.sha256}" for model in MODELS.values()), f"{adapter.FILE}@{adapter.SHA256}")
    listed = (
        _python_recipe("operator", dist="nimblet", project="operator"),
        _python_recipe("loader", dist="nimblet-loader", project="images/loader"),
        _python_recipe("retriever", dist="nimblet-retriever", project="images/retriever"),
        _python_recipe("indexer", dist="nimblet-indexer", project="images/indexer"),
        _python_recipe("gateway", dist="nimblet-gateway", project="images/gateway"),
        Recipe("llamacpp", "images/llamacpp/Containerfile", (), ingredients=(server_recipe(),)),
        Recipe("mirror", "e2e/mirror/Containerfile", ("e2e/mirror", "e2e/splitmodel.py"), ingredients=weights),
    )
    return {recipe.name: recipe for recipe in listed}


IMAGE_NAMES = ("operator", "loader", "retriever", "indexer", "gateway", "llamacpp", "mirror")


def fingerprint(recipe: Recipe, *, root: Path, base: str) -> str:
    """A short digest of everything that decides an image's contents."""
    digest = hashlib.sha256("\0".join((recipe.name, recipe.dist, base, *recipe.ingredients)).encode())
    for source in sorted({recipe.containerfile, *recipe.sources, *_BUILDERS}):
        for path in source_files(root / source):
            digest.update(f"\0{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_KEY_DIGITS]


def source_files(source: Path) -> Iterator[Path]:
    """The files of a source in a fixed order, without what tools leave behind and without tests."""
    if source.is_file():
        yield source
        return
    if not source.is_dir():
        raise FileNotFoundError(f"expected {source} as an image's source, found nothing")
    for path in sorted(source.iterdir()):
        if path.name in _IGNORED_FOLDERS or path.suffix == ".egg-info":
            continue
        yield from source_files(path)


def built_image(name: str, *, key: str, cache: Path) -> BuiltImage:
    """Where the image with this fingerprint is or will be."""
    return BuiltImage(name, f"nimblet.local/{name}:{key}", cache / "images" / f"{name}-{key}.tar")


def _python_recipe(name: str, *, dist: str, project: str) -> Recipe:
    members = (project, *_LIBRARIES.get(name, ()))
    return Recipe(
        name,
        f"images/{name}/Containerfile",
        (*members, "uv.lock"),
        dist=dist,
        members=members,
        ingredients=(f"python{PYTHON}",),
    )
