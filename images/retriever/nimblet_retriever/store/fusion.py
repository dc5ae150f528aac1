# SPDX-License-Identifier: Apache-2.0
"""Joins what a generation and the overlay found into one ranking. Pure but for `search_both`, which asks both.

Cosines compare across the two, since both vectors come from one model; BM25 scores don't, since the rarity of a
word is each part's own. So the dense halves are merged by cosine, the lexical ones stay two rankings, and all are
fused by rank with the engine's constant, as it fuses within one generation.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nimblet_retriever.store.chunk import Hit, Mode, Search
from nimblet_retriever.store.interface import Overlay, Store
from nimblet_retriever.store.payload import RRF_K
from nimblet_retriever.store.pushed import Found, ranked


@dataclass(frozen=True, kw_only=True)
class Fused:
    """Passages of one generation and of the pushes up to one number."""

    push: int
    hits: tuple[Hit, ...]
    outdated: bool


async def search_both(store: Store, overlay: Overlay, name: str, search: Search, space: str | None) -> Fused:
    """Search a generation and the overlay, this one first: what it hides is hidden in the generation."""
    pushed = await overlay.search(search, space)
    seen = replace(search, selection=replace(search.selection, hidden=search.selection.hidden | pushed.hidden))
    if pushed.dense or pushed.lexical:
        hits = fuse(await _halves(store, name, seen), pushed, search)
    else:
        hits = await store.search(name, seen)
    return Fused(push=pushed.sequence, hits=hits, outdated=pushed.outdated)


def fuse(halves: Sequence[tuple[Hit, ...]], pushed: Found, search: Search) -> tuple[Hit, ...]:
    """Return the best of the generation's (dense, lexical) and the pushed passages; an equal text comes once."""
    dense, lexical = halves
    merged = ranked([*dense, *pushed.dense], search.candidates)
    if search.mode is Mode.DENSE:
        return _once(merged)[: search.limit]
    scores: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for ranking in (merged, lexical, pushed.lexical):
        for rank, hit in enumerate(ranking):
            hits.setdefault(hit.id, hit)
            scores[hit.id] = scores.get(hit.id, 0.0) + 1.0 / (RRF_K + rank)
    fused = ranked([replace(hit, score=scores[id_]) for id_, hit in hits.items()], len(hits))
    return _once(fused)[: search.limit]


async def _halves(store: Store, name: str, search: Search) -> Sequence[tuple[Hit, ...]]:
    """Return the generation's two rankings, each with as many candidates as the engine's own fusion would take."""
    modes = (Mode.DENSE, Mode.LEXICAL)
    asked = [
        store.search(name, replace(search, mode=mode, limit=search.candidates))
        for mode in modes
        if search.mode in (mode, Mode.HYBRID)
    ]
    found = list(await asyncio.gather(*asked))
    return [found.pop(0) if search.mode in (mode, Mode.HYBRID) else () for mode in modes]


def _once(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """Leave out texts that stand higher up already, spaces and case aside."""
    seen: set[str] = set()
    kept = []
    for hit in hits:
        text = " ".join(hit.text.casefold().split())
        if text not in seen:
            seen.add(text)
            kept.append(hit)
    return tuple(kept)
