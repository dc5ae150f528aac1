# SPDX-License-Identifier: Apache-2.0
"""Answers questions from the serving generation, and feeds builds. Joins embedder and store; knows no HTTP.

A question resolves the serving generation once and stays on it. Before a generation is searched, the model must
embed a fixed text as it did when the generation was built: else no search, since the result would mean nothing.
"""

import hashlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from nimblet_retriever.config import ConfigModel, Id, Label, SearchConfig
from nimblet_retriever.embedding import Embedder, Kind, cosine
from nimblet_retriever.errors import EmbeddingChanged, IndexEmpty
from nimblet_retriever.overlaid import Overlaid, Refused
from nimblet_retriever.rerank import Reranker
from nimblet_retriever.spaces import CANARY, SAME, same_model
from nimblet_retriever.store.chunk import Chunk, GenerationUnknown, Hit, Mode, Search, Selection, StoreError
from nimblet_retriever.store.fusion import Fused
from nimblet_retriever.store.generation import Counts, Generation, Manifest
from nimblet_retriever.store.interface import Build, Store
from nimblet_retriever.watch import Unwatched, Watch

log = logging.getLogger(__name__)
CANARY_SECONDS: Final = 30.0
"""How long a comparison of the canary holds: a model may be exchanged behind its address at any time."""
BUSY_SWAPS: Final = 3
TRIED_AT_ONCE: Final = 32
"""Questions of a quality gate that are embedded together; others ask meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and by whom."""

    text: str
    selection: Selection
    top_k: int | None = None
    mode: Mode | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """Passages, best first, all of one generation and of the pushes up to number `push`."""

    generation: str
    push: int
    hits: tuple[Hit, ...]
    reranked: bool | None = None
    """False where the reranker failed and the search's own order stands, None where there is no reranker."""
    threshold: float | None = None
    """From which score on the generation's passages answer, where it was calibrated."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What a retriever can do without."""

    reranker: Reranker | None = None
    watch: Watch = field(default_factory=Unwatched)
    former: tuple[Embedder, ...] = ()
    """Models of older generations that are kept."""


ALONE: Final = Extras()


class PassageIn(ConfigModel):
    """A passage to be indexed; `embedded` is what the model sees, `text` what is quoted."""

    document: Id
    position: int = Field(ge=0, le=2**31 - 1)
    text: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
    embedded: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
    source: Label
    title: Label = ""
    location: Annotated[str, StringConstraints(max_length=2000)] = ""
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=20)
    access: tuple[Label, ...] = Field(default=(), max_length=100)


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of a batch: how many vectors were computed and how many were there."""

    embedded: int
    reused: int


class Retriever:
    """One index."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        config: SearchConfig,
        *,
        clock: Callable[[], float],
        extras: Extras = ALONE,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._former = {item.fingerprint: item for item in extras.former}
        self._config = config
        self._clock = clock
        self._reranker = extras.reranker
        self._watch = extras.watch
        self._overlaid = Overlaid(store, self._model_of, clock=clock)
        self._manifests: dict[str, Manifest] = {}
        """Of sealed generations, which never change."""
        self._trusted: dict[str, float] = {}
        """When a generation's canary was last found to be as it was."""
        self._thresholds: dict[str, float | None] = {}
        """What generations were calibrated to: noted before they serve."""
        self._builds: dict[tuple[str, str], Build] = {}

    async def ask(self, question: Question) -> Found:
        """Return the best passages. IndexEmpty, EmbeddingUnavailable, EmbeddingChanged, StoreUnavailable."""
        for _ in range(BUSY_SWAPS):
            name = await self._store.serving()
            if name is None:
                raise IndexEmpty("no generation serves yet: the first build is under way, or failed")
            try:
                await self._check_canary(name)
                embedder = await self._embedder_of(name)
                with self._watch.stage("embed"):
                    vector = await embedder.embed_question(question.text)
                found = await self._found(name, question, vector, pushes=True)
                return replace(found, threshold=await self._threshold(name))
            except GenerationUnknown:
                continue  # swapped away and dropped between two lines: the next one serves
        raise IndexEmpty("the serving generation was dropped again and again")

    async def try_out(self, name: str, questions: Sequence[Question]) -> AsyncIterator[Found]:
        """Ask one generation, serving or not: for the quality gate. The errors of `ask`, and GenerationUnknown."""
        await self._check_canary(name)
        embedder = await self._embedder_of(name)
        for start in range(0, len(questions), TRIED_AT_ONCE):
            some = questions[start : start + TRIED_AT_ONCE]
            vectors = await embedder.embed([question.text for question in some], Kind.QUESTION)
            for question, vector in zip(some, vectors, strict=True):
                yield await self._found(name, question, vector, pushes=False)

    async def _found(self, name: str, question: Question, vector: Sequence[float], *, pushes: bool) -> Found:
        limit = question.top_k or self._config.top_k
        wanted = limit if self._reranker is None else max(limit, self._reranker.candidates)
        search = Search(
            vector=vector,
            text=question.text,
            selection=question.selection,
            limit=wanted,
            candidates=max(self._config.candidates, wanted),
            mode=question.mode or self._config.mode,
        )
        with self._watch.stage("search"):
            fused = await self._searched(name, search, pushes=pushes)
        if self._reranker is None:
            return Found(generation=name, push=fused.push, hits=fused.hits)
        ranked = await self._reranker.rank(question.text, fused.hits)
        return Found(generation=name, push=fused.push, hits=ranked.hits[:limit], reranked=ranked.reranked)

    async def _searched(self, name: str, search: Search, *, pushes: bool) -> Fused:
        if pushes:
            return await self._overlaid.search(await self._manifest(name), search)
        return Fused(push=0, hits=await self._store.search(name, search), outdated=False)

    async def open(self) -> None:
        """Read in what was pushed, and the serving generation, so that no question waits for that."""
        await self._store.overlay()
        serving = await self._store.serving()
        if serving is None:
            return
        try:
            await self._store.vectors(serving, ["none"])  # any look opens it
        except StoreError as error:
            log.warning(
                "generation %s can't be searched: %s", serving, error
            )  # builds and roll backs still can be

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, for whoever cuts documents."""
        return await self._embedder.count(texts)

    async def begin(self, name: str, token: str) -> Manifest:
        """Begin or resume a build with the embedding model as it is now."""
        (canary,) = await self._embedder.embed([CANARY], Kind.PASSAGE)
        manifest = Manifest(
            name=name,
            token=token,
            dimension=len(canary),
            embedding=self._embedder.fingerprint,
            canary=tuple(canary),
            language=self._config.language,
        )
        for other in [key for key in self._builds if key[0] == name]:
            await self._builds.pop(other).close()
        self._builds[name, token] = await self._store.begin(manifest)
        return manifest

    async def add(self, name: str, token: str, passages: Sequence[PassageIn]) -> Added:
        """Keep passages durably; vectors of this build or of the serving generation are used again."""
        build = self._build(name, token)
        keys = [_reuse_key(passage.embedded, self._embedder.fingerprint) for passage in passages]
        known = await self._known(build, keys)
        keyed = list(zip(keys, passages, strict=True))
        missing = {key: passage.embedded for key, passage in keyed if key not in known}
        computed = await self._embedder.embed_passages(list(missing.values())) if missing else []
        vectors = {**known, **dict(zip(missing, computed, strict=True))}
        await build.add([_chunk(passage, key, vectors[key]) for key, passage in keyed])
        return Added(embedded=len(missing), reused=len(passages) - len(missing))

    async def seal(self, name: str, token: str) -> Counts:
        """Complete a build."""
        build = self._build(name, token)
        counts = await build.seal()
        del self._builds[name, token]
        return counts

    async def serve(self, name: str) -> None:
        """Swap to a generation."""
        await self._store.serve(name)

    async def drop(self, name: str) -> None:
        """Remove a generation."""
        await self._store.drop(name)
        self._trusted.pop(name, None)
        self._manifests.pop(name, None)
        self.recalibrated(name)

    def recalibrated(self, name: str) -> None:
        """Read a generation's threshold anew when it is next asked."""
        self._thresholds.pop(name, None)

    async def generations(self) -> tuple[Generation, ...]:
        """Return all generations."""
        return await self._store.generations()

    async def serving(self) -> str | None:
        """Return the serving generation's name."""
        return await self._store.serving()

    def refused(self) -> tuple[Refused, ...]:
        """Return the pushed documents that the serving generation's model could not embed anew."""
        return self._overlaid.refused()

    async def close(self) -> None:
        """Let go of builds and store."""
        for build in self._builds.values():
            await build.close()
        await self._overlaid.close()
        await self._store.close()

    def _build(self, name: str, token: str) -> Build:
        build = self._builds.get((name, token))
        if build is None:
            raise GenerationUnknown(f"no build {name} of this token is under way; begin it, it resumes")
        return build

    async def _known(self, build: Build, keys: Sequence[str]) -> dict[str, Sequence[float]]:
        known = dict(await build.vectors(keys))
        serving = await self._store.serving()
        rest = [key for key in keys if key not in known]
        if serving is not None and rest and await self._embeds_as(serving, build.manifest):
            known |= await self._store.vectors(serving, rest)
        return known

    async def _embeds_as(self, name: str, manifest: Manifest) -> bool:
        """Tell whether a generation's vectors may be used in a build: same model, same canary."""
        other = await self._manifest(name)
        return other.embedding == manifest.embedding and same_model(other.canary, manifest.canary)

    async def _check_canary(self, name: str) -> None:
        if self._clock() - self._trusted.get(name, -math.inf) < CANARY_SECONDS:
            return
        manifest = await self._manifest(name)
        (canary,) = await self._model_of(manifest.embedding).embed([CANARY], Kind.PASSAGE)
        likeness = cosine(canary, manifest.canary)
        if likeness < SAME:
            raise EmbeddingChanged(
                f"the embedding model is not the one that generation {name} was built with "
                f"(likeness {likeness:.3f}); bring it back, or build a generation with this one"
            )
        self._trusted[name] = self._clock()

    async def _embedder_of(self, name: str) -> Embedder:
        """Return the model that a generation was built with, as far as it is still known."""
        if not self._former:
            return self._embedder
        return self._model_of((await self._manifest(name)).embedding)

    def _model_of(self, embedding: str) -> Embedder:
        return self._former.get(embedding, self._embedder)

    async def _threshold(self, name: str) -> float | None:
        if name not in self._thresholds:
            gates = [item.notes.gate for item in await self._store.generations() if item.name == name]
            points = [gate.point for gate in gates if gate is not None and gate.point is not None]
            self._thresholds[name] = points[-1].calibrated if points else None
        return self._thresholds[name]

    async def _manifest(self, name: str) -> Manifest:
        known = self._manifests.get(name)
        if known is not None:
            return known
        found = [item for item in await self._store.generations() if item.name == name]
        if not found:
            raise GenerationUnknown(f"generation {name} is gone")
        if found[-1].sealed:
            self._manifests[name] = found[-1].manifest
        return found[-1].manifest


def _reuse_key(embedded: str, fingerprint: str) -> str:
    return hashlib.sha256(f"{fingerprint}\0{embedded}".encode()).hexdigest()


def _chunk(passage: PassageIn, key: str, vector: Sequence[float]) -> Chunk:
    return Chunk(
        document=passage.document,
        position=passage.position,
        text=passage.text,
        source=passage.source,
        title=passage.title,
        location=passage.location,
        reuse_key=key,
        labels=passage.labels,
        access=passage.access,
        vector=vector,
    )
