# SPDX-License-Identifier: Apache-2.0
"""Searches the serving generation and the pushed documents as one, and keeps the latter's vectors up to date.

When a generation by another model serves, pushed documents are embedded anew in the background; until then they
are found by their words. One that the model refuses is told and left as it is; the others go on. Knows no HTTP and
no keys.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from nimblet_retriever.embedding import Embedder, Kind
from nimblet_retriever.errors import EmbeddingRefused, EmbeddingUnavailable
from nimblet_retriever.spaces import CANARY, space_like
from nimblet_retriever.store.chunk import Chunk, Search, StoreError
from nimblet_retriever.store.fusion import Fused, search_both
from nimblet_retriever.store.generation import Manifest
from nimblet_retriever.store.interface import Overlay, Store
from nimblet_retriever.store.pushed import Outdated, Space

log = logging.getLogger(__name__)
AT_ONCE: Final = 16
"""Documents that are renewed before the next ones are read."""
PAUSE_SECONDS: Final = 5.0
"""How long a renewal that failed is left alone."""
REFUSED_SECONDS: Final = 300.0
"""How long one is left alone that did all it could: what is left are documents that the model refused."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A pushed document that is found by its words only, and why."""

    document: str
    message: str


class Overlaid:
    """The store as questions see it."""

    def __init__(self, store: Store, model_of: Callable[[str], Embedder], *, clock: Callable[[], float]) -> None:
        """`model_of` returns the model of a fingerprint: an earlier one where its generation serves still."""
        self._store = store
        self._model_of = model_of
        self._clock = clock
        self._renewal: asyncio.Task[None] | None = None
        self._pause = ("", -math.inf)
        self._refused: dict[str, Refused] = {}
        self._space: tuple[Manifest, Space] | None = None
        self._named: tuple[Space, str] | None = None

    async def search(self, manifest: Manifest, search: Search) -> Fused:
        """Search a generation, by a model that embeds as it was built, and all pushes up to now."""
        overlay = await self._store.overlay()
        space = space_like(self._space_of(manifest), await overlay.spaces())
        fused = await search_both(self._store, overlay, manifest.name, search, self._id_of(space))
        if not fused.outdated:
            self._refused = {}
        elif self._renewal is None and not self._is_paused(space):
            self._renewal = asyncio.create_task(self._renew(space))
        return fused

    async def settled(self) -> None:
        """Wait for the renewal that is under way, if one is."""
        if self._renewal is not None:
            await self._renewal

    async def close(self) -> None:
        """Stop renewing: the next process goes on."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    def _space_of(self, manifest: Manifest) -> Space:
        """Return a generation's space; that of the last one is kept, since every question asks for it."""
        if self._space is None or self._space[0] is not manifest:
            space = Space(embedding=manifest.embedding, canary=manifest.canary, language=manifest.language)
            self._space = (manifest, space)
        return self._space[1]

    def _id_of(self, space: Space) -> str:
        """Return a space's id; that of the last one is kept, since it is a hash over the canary."""
        if self._named is None or self._named[0] is not space:
            self._named = (space, space.id)
        return self._named[1]

    def refused(self) -> tuple[Refused, ...]:
        """Return the documents that the model refused when they were to be embedded anew."""
        return tuple(self._refused.values())

    def _is_paused(self, space: Space) -> bool:
        """Tell whether a renewal into this space is left alone for now."""
        paused, until = self._pause
        return paused == self._id_of(space) and self._clock() < until

    async def _renew(self, space: Space) -> None:
        seconds = REFUSED_SECONDS
        try:
            await self._renew_all(space)
        except (EmbeddingUnavailable, EmbeddingRefused, StoreError) as error:
            seconds = PAUSE_SECONDS
            log.warning("pushed documents are found by words only until they are embedded anew: %s", error)
        finally:
            self._pause = (space.id, self._clock() + seconds)
            self._renewal = None

    async def _renew_all(self, space: Space) -> None:
        overlay = await self._store.overlay()
        model = self._model_of(space.embedding)
        refused: dict[str, Refused] = {}  # those of earlier times are tried again: the model may take them now
        while batch := await overlay.outdated(space.id, AT_ONCE, but=refused.keys()):
            for item in batch:
                document = item.entry.document
                try:
                    await self._renew_one(overlay, model, item, space)
                except EmbeddingRefused as error:
                    await model.embed([CANARY], Kind.PASSAGE)  # raises where it is not this document's fault
                    refused[document] = Refused(document=document, message=str(error))
                    self._refused[document] = refused[document]
                    log.warning("a pushed document can't be embedded anew, see the status: %s", error)
        self._refused = refused

    async def _renew_one(self, overlay: Overlay, model: Embedder, item: Outdated, space: Space) -> None:
        vectors = await model.embed_passages([embedded_text(chunk) for chunk in item.chunks])
        renewed = [replace(chunk, vector=vector) for chunk, vector in zip(item.chunks, vectors, strict=True)]
        await overlay.renew(item.entry, renewed, space)


def embedded_text(chunk: Chunk) -> str:
    """Return what the model sees of a pushed passage."""
    return f"{chunk.context}\n{chunk.text}" if chunk.context else chunk.text
