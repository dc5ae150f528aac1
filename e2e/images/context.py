# SPDX-License-Identifier: Apache-2.0
"""Filling an image's build context: the Containerfile and what it copies, and nothing else."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e import adapter
from e2e.adapter import write_adapter
from e2e.images.llamaserver import ensure_llama_server
from e2e.images.recipe import Recipe, source_files
from e2e.images.sitepackages import Project, install_site_packages
from e2e.mirror.demo import BROKEN_CONTENT, BROKEN_FILE, ModelEntry, hub_document
from e2e.models import MODELS, SMOLLM2, model_path
from e2e.splitmodel import split_model


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
    write_adapter(hub / adapter.FILE)
    entries = (
        *(ModelEntry(repo=model.repo, file=model.file) for model in MODELS.values()),
        ModelEntry(repo=adapter.REPO, file=adapter.FILE),
    )
    tampered = (ModelEntry(repo=adapter.TAMPERED_REPO, file=adapter.FILE),)
    (hub / BROKEN_FILE).write_bytes(BROKEN_CONTENT)
    parts = smollm2_parts(place.cache)
    for part in parts:
        _link(part, hub / part.name)
    document = hub_document(entries, tampered, parts=tuple(part.name for part in parts))
    (hub / "hub.json").write_text(json.dumps(document, indent=2), encoding="utf-8")


def smollm2_parts(cache: Path) -> list[Path]:
    """Return SmolLM2 in parts, made once."""
    folder = cache / "models" / f"{SMOLLM2.name}-split" / SMOLLM2.sha256[:12]
    return split_model(model_path(SMOLLM2.name), folder=folder, name="SmolLM2-135M-Instruct-Q4_1")


def _link(source: Path, target: Path) -> None:
    """Give a large file a second name instead of copying it; both are in the cache."""
    os.link(source, target)
