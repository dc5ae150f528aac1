# SPDX-License-Identifier: Apache-2.0
"""The adapters of a model: each is resolved as the model's own source is, by the same stage. Pure.

To that stage an adapter is the model with another source and integrity. What it found is held against the model
before any pod is made: a server that is given an adapter of another model ends at its start.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from nimblet import names
from nimblet.api.adapter import Adapter, AdapterStatus
from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import Reason
from nimblet.plan.artifact import Artifact, File, Header, per_layer
from nimblet.plan.artifactstatus import key_place
from nimblet.plan.facts import ModelFacts, TrustTextFacts
from nimblet.plan.further import Further, held_further, resolve_further, said_of, together, view_of
from nimblet.plan.integrity import known_trust, trust_of
from nimblet.plan.modelloader import loader_pod
from nimblet.plan.resolve import Resolution
from nimblet.plan.source import source_hash
from nimblet.plan.speculative import draft_view
from nimblet.plan.stage import Problem, Progress, StageOutcome, problem
from nimblet.settings import Settings

FULL_SCALE: Final = 100
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9._/+@-]+")
"""Of a file that a server is given: commas, colons and equals signs part what they take."""


@dataclass(frozen=True, kw_only=True)
class Piece(Further):
    """One adapter and its source."""

    adapter: Adapter

    @property
    def weights(self) -> File | None:
        """Return the file with the matrices: what lies beside it in safetensors is its configuration."""
        files = self.artifact.files if self.artifact is not None else ()
        return max(files, key=lambda file: not file.path.endswith(".json"), default=None)


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """All adapters of a model, and how resolving them stands."""

    pieces: tuple[Piece, ...] = ()
    outcome: StageOutcome = field(default_factory=StageOutcome)

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Return what is known of them."""
        return tuple(piece.artifact for piece in self.pieces if piece.artifact is not None)

    @property
    def known(self) -> bool:
        """Tell whether every source is resolved."""
        return len(self.artifacts) == len(self.pieces)

    @property
    def trusted(self) -> bool:
        """Tell whether all is there that their integrity names."""
        return all(piece.trusted for piece in self.pieces)

    @property
    def names(self) -> tuple[str, ...]:
        """Return their names, in the order in which the server has them."""
        return tuple(piece.adapter.name for piece in self.pieces)

    @property
    def hashes(self) -> frozenset[str]:
        """Return the names of their sources."""
        return frozenset(piece.loader.source_hash for piece in self.pieces)


def views(model: CompactModel) -> tuple[tuple[Adapter, CompactModel], ...]:
    """Return each adapter with the model as the stages of a source see it."""
    adapters = model.spec.adapters or ()
    return tuple((adapter, view_of(model, adapter.source, adapter.integrity)) for adapter in adapters)


def wanted_sources(
    model: CompactModel, settings: Settings, texts: Mapping[str, TrustTextFacts]
) -> tuple[str, ...]:
    """Return the hashes of all sources of a model: its own first, then its adapters', its draft's last."""
    own = source_hash(model.spec, settings, known_trust(model, texts))
    view = draft_view(model)
    draft = (source_hash(view.spec, settings, known_trust(view, texts)),) if view is not None else ()
    return (own, *(adapter_hash(view, settings, texts) for _, view in views(model)), *draft)


def adapter_hash(view: CompactModel, settings: Settings, texts: Mapping[str, TrustTextFacts]) -> str:
    """Return the hash of an adapter's source."""
    return source_hash(view.spec, settings, known_trust(view, texts), adapter=True)


def plan_adapters(
    model: CompactModel, facts: ModelFacts, settings: Settings, *, image: str, now: datetime
) -> Adapters:
    """Return how the adapters' sources stand, and the Jobs that resolve them; `image`: the pods' loader."""
    pieces: list[Piece] = []
    outcomes: list[StageOutcome] = []
    done: dict[str, Resolution] = {}
    for adapter, view in views(model):
        loader = loader_pod(view, settings, known_trust(view, facts.trust), image=image, adapter=adapter.name)
        piece = Piece(adapter=adapter, view=view, loader=loader, trust=trust_of(view, facts.trust))
        found = done.get(loader.source_hash)
        if found is None:
            found = done[loader.source_hash] = resolve_further(piece, facts, settings, now=now)
            state = said_of(piece.prefix, found.outcome.state)
            outcomes.append(replace(found.outcome, state=state))
        pieces.append(replace(piece, artifact=found.artifact))
    return Adapters(pieces=tuple(pieces), outcome=together(outcomes, _first(outcomes)))


def others_facts(facts: ModelFacts, hashes: frozenset[str]) -> ModelFacts:
    """Return the facts of the model's own source: what is of no adapter is its to clean up."""
    return replace(facts, jobs=tuple(job for job in facts.jobs if job.source_hash not in hashes))


def joined(model: Resolution, adapters: Adapters) -> Resolution:
    """Return the stage for the model and its adapters together; a trouble of the model's own is told first."""
    if not adapters.pieces:
        return model
    both = (model.outcome, adapters.outcome)
    return replace(model, outcome=together(both, _first(both)))


def held_secret(adapters: Adapters, facts: ModelFacts) -> Problem | None:
    """Return why new pods could not mount a Secret of an adapter's source."""
    for piece in adapters.pieces:
        flaw = held_further(piece, facts)
        if flaw is not None:
            return replace(flaw, message=piece.prefix + flaw.message)
    return None


def _first(outcomes: Sequence[StageOutcome]) -> Problem | Progress | None:
    """Return the first problem, or else what is under way."""
    found = [one.state for one in outcomes if one.state is not None]
    return next((state for state in found if isinstance(state, Problem)), found[0] if found else None)


def adapters_problem(model: CompactModel, artifact: Artifact, adapters: Adapters) -> Problem | None:
    """Return the first thing that keeps a server of the model from loading an adapter."""
    for piece in adapters.pieces:
        if piece.adapter.name == (model.spec.served_model_name or model.name):
            found = f"Adapter {piece.adapter.name} has the name that the model is served by."
            return problem(Reason.INVALID_SPEC, found)
        if piece.artifact is not None:
            flaw = _misfit(piece, piece.artifact, artifact)
            if flaw is not None:
                return flaw
    return None


def _misfit(piece: Piece, own: Artifact, base: Artifact) -> Problem | None:
    name = piece.adapter.name
    if own.format != base.format:
        found = f"Adapter {name} is in {own.format} and the model in {base.format}: no server loads both."
        return problem(Reason.FORMAT_MISMATCH, found)
    if own.header.adapter is None:
        return problem(Reason.NOT_AN_ADAPTER, f"Adapter {name}: what was resolved describes a model.")
    path = piece.weights.path if piece.weights is not None else ""
    if not _PLAIN_PATH.fullmatch(path):
        found = f"Adapter {name}: its file's name has characters that the server takes for the end of a name."
        return problem(Reason.UNSAFE_PATH, found)
    flaw = _shape_flaw(own.header, base.header)
    return problem(Reason.ADAPTER_MISMATCH, f"Adapter {name} {flaw}.") if flaw else None


def _shape_flaw(own: Header, base: Header) -> str:
    """Return how an adapter differs from the model, as far as both headers tell; "" where it does not."""
    fits = own.adapter
    if fits is None:
        return ""
    if own.architecture and own.architecture != base.architecture:
        return f"is for the architecture {own.architecture}, and the model is {base.architecture}"
    width = fits.embedding_length
    if width is not None and width != base.embedding_length:
        return f"is for a model with an embedding of {width}, and the model's is {base.embedding_length}"
    if fits.layers > base.block_count:
        return f"reaches layer {fits.layers}, and the model has {base.block_count}"
    widths = set(per_layer(base.feed_forward_length, layers=max(base.block_count, 1), default=0)) - {0}
    wide = fits.feed_forward_length
    if wide is not None and widths and not base.expert_count and wide not in widths:
        return f"is for feed-forward layers of {wide}, and the model's have {max(widths)}"
    return ""


def request_of(piece: Piece, *, runtime: str, index: int) -> str:
    """Return what a request carries to be answered with an adapter, by the server; JSON.

    llama.cpp's server knows no names of adapters: a request names their numbers (tools/server/README.md, `lora`).
    """
    if runtime != "LlamaCpp":
        return json.dumps({"model": piece.adapter.name}, separators=(",", ":"))
    scale = (piece.adapter.scale_percent or FULL_SCALE) / FULL_SCALE
    return json.dumps({"lora": [{"id": index, "scale": scale}]}, separators=(",", ":"))


def adapter_statuses(adapters: Adapters, *, runtime: str, loaded: bool) -> list[AdapterStatus] | None:
    """Return what the status tells of the adapters; None where there are none. `loaded`: loaders have finished."""
    found = []
    for index, piece in enumerate(adapters.pieces):
        artifact, file = piece.artifact, piece.weights
        if artifact is None or file is None or artifact.header.adapter is None:
            continue
        facts = artifact.header.adapter
        found.append(
            AdapterStatus(
                name=piece.adapter.name,
                request=request_of(piece, runtime=runtime, index=index),
                commit=artifact.commit,
                file=file.path,
                sha256=file.sha256 or "",
                bytes=artifact.header.tensor_bytes,
                rank=facts.rank,
                digest_source=artifact.digest_source,
                method=artifact.method or None,
                signer=artifact.signer.name if artifact.signer is not None else None,
                key=key_place(piece.view, loaded=loaded),
                base_model=facts.base_model,
            )
        )
    return found or None


def unverified(adapters: Adapters) -> str:
    """Return the first adapter whose bytes nobody vouches for in the spec; "" where each is vouched for."""
    for piece in adapters.pieces:
        if not piece.vouched:
            return f"adapter {piece.adapter.name}"
    return ""


def adapters_label(adapters: tuple[str, ...], *, runtime: str) -> str:
    """Return the pod label that tells which adapters a pod was made with, and what server lists them."""
    return f"{runtime}-{names.content_hash(list(adapters))}"
