# SPDX-License-Identifier: Apache-2.0
"""Speculative decoding of a CompactModel: what its spec comes to, for servers and for sources. Pure."""

from collections.abc import Mapping
from typing import Final

from nimblet.api.compactmodel import CompactModel
from nimblet.api.modelruntime import ModelRuntime
from nimblet.api.speculative import DRAFT_TOKENS, SpeculationType
from nimblet.plan.further import view_of
from nimblet.plan.runtime.interface import Speculation

GUESSED_TOKENS: Final[Mapping[SpeculationType, int]] = {"NGram": 16, "Draft": DRAFT_TOKENS}
"""Most tokens of a guess where the spec names none (`python -m tests.bench speculative`; docs/figures.md)."""


def speculation_of(runtime: ModelRuntime) -> Speculation | None:
    """Return how tokens are guessed ahead; None where the spec asks for none. Files are not known here."""
    asked = runtime.speculative
    if asked is None:
        return None
    return Speculation(
        type=asked.type,
        draft_tokens=asked.draft_tokens or GUESSED_TOKENS[asked.type],
        ngram_size=asked.ngram_size or 0,
        least_tokens=asked.min_draft_tokens or 0,
    )


def draft_view(model: CompactModel) -> CompactModel | None:
    """Return the model as the stages of a source see the drafting one; None where there is none."""
    asked = model.spec.runtime.speculative
    if asked is None or asked.source is None:
        return None
    return view_of(model, asked.source, asked.integrity)
