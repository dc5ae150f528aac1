# SPDX-License-Identifier: Apache-2.0
"""Adapters and drafting model in a model's pods: what brings each, and what the server is told of it. Pure.

Without a cache each has a loader and a volume of its own. With one a container checks its folder, and the server
has the whole claim at the place of each: confidential runtimes mount no subPath.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nimblet.manifests.cache import CacheMount
from nimblet.manifests.deployment import AdapterMount
from nimblet.plan.adapters import Adapters
from nimblet.plan.artifact import Artifact
from nimblet.plan.cache import cache_folder
from nimblet.plan.draft import Draft
from nimblet.plan.further import Further
from nimblet.plan.runtime.interface import LoadedAdapter, Serve
from nimblet.plan.sizing import scratch_volume_bytes

CONFIG: Final = "config.json"
"""What a model in another format than GGUF is loaded by."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What a pod has beside its model's weights, in the order of its containers."""

    pieces: tuple[tuple[Further, Artifact], ...]
    cache: CacheMount | None

    @property
    def total_bytes(self) -> int:
        """Size of the files."""
        return sum(artifact.total_bytes for _, artifact in self.pieces)

    @property
    def mounts(self) -> tuple[AdapterMount, ...]:
        """Return what brings or checks them."""
        return tuple(
            AdapterMount(
                loader=piece.loader,
                volume_bytes=0 if self.cache is not None else scratch_volume_bytes(artifact.total_bytes),
                cache=self._mount(artifact),
            )
            for piece, artifact in self.pieces
        )

    def _mount(self, artifact: Artifact) -> CacheMount | None:
        return replace(self.cache, folder=cache_folder(artifact)) if self.cache is not None else None

    def below(self, artifact: Artifact, path: str) -> str:
        """Return where a path of the files is, below the place that the server has them at."""
        folder = cache_folder(artifact) if self.cache is not None else ""
        return "/".join(part for part in (folder, path) if part)


def beside_of(adapters: Adapters, draft: Draft | None, *, cache: CacheMount | None) -> Beside:
    """Return what is known of them; `cache` holds them where the model has one."""
    found: Sequence[Further] = (*adapters.pieces, *((draft,) if draft is not None else ()))
    pieces = tuple((piece, piece.artifact) for piece in found if piece.artifact is not None)
    return Beside(pieces=pieces, cache=cache)


def told(serve: Serve, beside: Beside, adapters: Adapters, draft: Draft | None) -> Serve:
    """Return what the server depends on, with what it is told of its adapters and where it finds what drafts."""
    loaded = []
    for piece in adapters.pieces:
        file, artifact = piece.weights, piece.artifact
        if file is not None and artifact is not None and artifact.header.adapter is not None:
            path, rank = beside.below(artifact, file.path), artifact.header.adapter.rank
            loaded.append(LoadedAdapter(name=piece.adapter.name, file=path, rank=rank))
    serve = replace(serve, adapters=tuple(loaded))
    if draft is None or draft.artifact is None or serve.speculation is None:
        return serve
    artifact, first = draft.artifact, min(file.path for file in draft.artifact.files)
    speculation = replace(
        serve.speculation,
        model_file=beside.below(artifact, first),
        folder=beside.below(artifact, config_folder(artifact)),
    )
    return replace(serve, speculation=speculation)


def config_folder(artifact: Artifact) -> str:
    """Return the folder of the model's config.json: the uppermost, since modules below have some of their own."""
    folders = [folder for file in artifact.files if (folder := _folder_of(file.path, CONFIG)) is not None]
    return min(folders, key=lambda folder: (folder.count("/"), len(folder), folder), default="")


def _folder_of(path: str, name: str) -> str | None:
    folder, _, last = path.rpartition("/")
    return folder if last == name else None
