# SPDX-License-Identifier: Apache-2.0
"""When vectors may be compared: same model, same way to embed. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from nimblet_retriever.embedding import cosine
from nimblet_retriever.store.pushed import Space

CANARY: Final = "The quick brown fox jumps over 13 lazy dogs; der Zug fährt um 7 Uhr."
"""Embedded with every generation: tells a model that was exchanged or set up otherwise from the one that was."""
SAME: Final = 0.999
"""Cosine from which two vectors are the same: kernels of other CPUs differ by less than 0.0005."""


def same_model(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether two canaries are of one model."""
    return cosine(one, other) >= SAME


def space_like(wanted: Space, known: Iterable[Space]) -> Space:
    """Return the known space in which vectors of the wanted one compare, else the wanted one itself."""
    for space in known:
        named = (space.embedding, space.language) == (wanted.embedding, wanted.language)
        if named and same_model(space.canary, wanted.canary):
            return space
    return wanted
