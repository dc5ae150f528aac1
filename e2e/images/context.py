# SPDX-License-Identifier: Apache-2.0
"""Filling an image's build context: the Containerfile and what it copies, and nothing else."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.images.llamaserver import ensure_llama_server
from e2e.images.recipe import Recipe, source_files
from e2e.images.sitepackages import Project, install_site_packages
from e2e.mirror.demo import BROKEN_CONTENT, BROKEN_FILE, ModelEntry, hub_document
from e2e.models import MODELS, model_path


@dataclass(frozen=True)
class Workplace:
    """Where an image is put together."""

    root: Path
    """The repository."""
    context: Path
    """An empty folder on the cache's file system."""
    cache: Path
    log: Path


def fill_context(recipe: Recipe, place: Workplace) -> None:
    """Put everything that the image's Containerfile copies into the context."""
    shutil.copyfile(place.root / recipe.containerfile, place.context / "Containerfile")
    fillers: dict[str, Callable[[], None]] = {
        "llamacpp": lambda: _add_llama_server(place),
        "mirror": lambda: _add_mirror(place),
    }
    fillers.get(recipe.name, lambda: _add_site_packages(recipe, place))()


def _add_site_packages(recipe: Recipe, place: Workplace) -> None:
    project = Project(
        dist=recipe.dist, folders=tuple(place.root / member for member in recipe.members), root=place.root
    )
    install_site_packages(project, target=place.context / "site-packages", cache=place.cache, log=place.log)


def _add_llama_server(place: Workplace) -> None:
    _link(ensure_llama_server(place.cache, log=place.log), place.context / "llama-server")


def _add_mirror(place: Workplace) -> None:
    package = place.root / "e2e" / "mirror"
    app = place.context / "app" / "e2e" / "mirror"
    app.mkdir(parents=True)
    for path in source_files(package):
        if path.suffix == ".py":
            shutil.copyfile(path, app / path.name)
    hub = place.context / "hub"
    hub.mkdir()
    for model in MODELS.values():
        _link(model_path(model.name), hub / model.file)
    entries = tuple(ModelEntry(repo=model.repo, file=model.file) for model in MODELS.values())
    (hub / BROKEN_FILE).write_bytes(BROKEN_CONTENT)
    (hub / "hub.json").write_text(json.dumps(hub_document(entries), indent=2), encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    """Give a large file a second name instead of copying it; both are in the cache."""
    os.link(source, target)
