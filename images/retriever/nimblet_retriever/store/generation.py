# SPDX-License-Identifier: Apache-2.0
"""A generation's name and manifest: what it was built from, kept beside its chunks. Values only."""

import re
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from nimblet_relevance.relevance import Basis

NAME_PATTERN: Final = r"^g[0-9]{6}$"
TOKEN_PATTERN: Final = r"^[a-z0-9]{1,32}$"  # noqa: S105 - a pattern
_NAME: Final = re.compile(NAME_PATTERN)

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Token = Annotated[str, StringConstraints(pattern=TOKEN_PATTERN)]


class StoredModel(BaseModel):
    """Base: frozen; keys that a newer retriever wrote are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Manifest(StoredModel):
    """What a build is for. `token` fences: of two builds of one name only the last may write."""

    version: Literal[1] = 1
    name: Name = Field(description="g and six digits; higher is newer.")
    token: Token = Field(description="The build's own id.")
    dimension: int = Field(ge=1, le=65536, description="Length of the dense vectors.")
    embedding: str = Field(max_length=200, description="Digest of the embedding model and its settings.")
    canary: tuple[float, ...] = Field(
        default=(), max_length=65536, description="Vector of a fixed text by the model that the build uses."
    )
    language: str = Field(
        default="english", max_length=20, description="Stemmer and stop words of the lexical half."
    )


class Counts(StoredModel):
    """What a sealed generation holds."""

    documents: int = Field(ge=0)
    chunks: int = Field(ge=0)


class Scores(StoredModel):
    """How golden questions fared in one generation, each from 0 to 1."""

    generation: str
    recall: float = Field(description="Share of questions whose passage is among the first k.")
    mrr: float = Field(description="Mean of 1/rank, 0 where it is not among the first k.")
    ndcg: float = Field(description="Mean of 1/log2(1 + rank): one right passage a question, so the ideal is 1.")


class Point(StoredModel):
    """From which score on a question is answered from this generation, and what golden questions say of that."""

    threshold: float = Field(ge=0, le=1)
    basis: Basis = Field(description="Calibrated, or why the default stays.")
    asked: int
    answered: float = Field(description="Share of the questions that is answered.")
    refused: float = Field(description="Share that is refused where their own documents are left out.")

    @property
    def calibrated(self) -> float | None:
        """The threshold, where it is not the default."""
        return self.threshold if self.basis is Basis.CALIBRATED else None


class Gate(StoredModel):
    """The result of a quality gate. Names questions by their ids, never by their text."""

    recall: float
    mrr: float
    ndcg: float
    k: int
    asked: int
    passed: bool
    failed: tuple[str, ...] = Field(description="Questions without their passage, at most 20.")
    serving: Scores | None = Field(description="The same questions asked of the generation that served then.")
    point: Point | None = Field(default=None, description="None where a retriever gated that did not calibrate.")


class Notes(StoredModel):
    """What is learnt of a sealed generation later: beside its chunks, and not part of them."""

    sealed_at: AwareDatetime | None = None
    served_at: AwareDatetime | None = Field(default=None, description="When it was last swapped to.")
    gate: Gate | None = None


class Generation(StoredModel):
    """A generation in a store. Without `counts` it is still being built."""

    manifest: Manifest
    counts: Counts | None = None
    notes: Notes = Notes()
    revision: int = 0
    """Counts the changes, where a server may tell what was before one."""

    @property
    def name(self) -> str:
        """The manifest's name."""
        return self.manifest.name

    @property
    def sealed(self) -> bool:
        """Whether it is complete and can be served."""
        return self.counts is not None


def generation_name(number: int) -> str:
    """Return the name of the n-th generation."""
    return f"g{number:06d}"


def is_generation_name(text: str) -> bool:
    """Tell a generation's name from other names."""
    return _NAME.match(text) is not None
