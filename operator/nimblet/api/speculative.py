# SPDX-License-Identifier: Apache-2.0
"""How a model's server guesses tokens ahead (speculative decoding). Shape and local validity only.

What a server can't do of it is told by its module in plan/runtime, what does not fit the model by plan/draft.py.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from nimblet.api.common import SpecModel, StatusModel
from nimblet.api.definition import Rule, rules
from nimblet.api.encryption import ENCRYPTION_RULE
from nimblet.api.integrity import Integrity
from nimblet.api.modelsource import ModelSource

MAX_DRAFT_TOKENS: Final = 64
DRAFT_TOKENS: Final = 4
"""Most tokens of a drafting model's guess where the spec names none."""
StrictInt = Annotated[int, Field(strict=True)]
SpeculationType = Literal["NGram", "Draft"]

SOURCE_RULE: Final = Rule(
    rule="has(self.source) == (self.type == 'Draft')",
    message="type Draft needs the source of the drafting model, and NGram has none",
    field_path=".source",
)
KIND_RULE: Final = Rule(
    rule="self.type == 'Draft' ? !has(self.ngramSize) : !has(self.integrity) && !has(self.minDraftTokens)",
    message="ngramSize is for type NGram, integrity and minDraftTokens are for type Draft",
)
LEAST_RULE: Final = Rule(
    rule="!has(self.minDraftTokens) || self.minDraftTokens <= (has(self.draftTokens) ? self.draftTokens : 4)",
    message="minDraftTokens is at most draftTokens, which are 4 when absent",
    field_path=".minDraftTokens",
)
SEALED_RULE: Final = Rule(
    rule="!has(self.source) || !has(self.source.encryption) || has(self.integrity)",
    message=ENCRYPTION_RULE.message,
    field_path=".integrity",
)
URL_RULE: Final = Rule(
    rule="!has(self.source) || !self.source.uri.startsWith('https://') || has(self.integrity)",
    message="a drafting model from an https:// source needs integrity: a URL pins nothing by itself",
    field_path=".integrity",
)


class Speculative(SpecModel):
    """Tokens are guessed ahead, and the model checks all of a guess at once: what it answers stays the model's."""

    model_config = ConfigDict(json_schema_extra=rules(SOURCE_RULE, KIND_RULE, LEAST_RULE, SEALED_RULE, URL_RULE))

    type: SpeculationType = Field(
        description="NGram: where the last tokens stood before in the same request's text, what followed there "
        "is guessed. It needs no memory to speak of, and helps answers that repeat their source. Of LlamaCpp, "
        "VLLM and TGI. Draft: a smaller model with the same vocabulary guesses. Of LlamaCpp and VLLM.",
    )
    draft_tokens: Annotated[StrictInt, Field(ge=1, le=MAX_DRAFT_TOKENS)] | None = Field(
        default=None,
        description="Most tokens guessed at a time; 16 for NGram and 4 for Draft when absent. Wrong guesses cost "
        "time, the more the longer they are.",
    )
    min_draft_tokens: Annotated[StrictInt, Field(ge=1, le=MAX_DRAFT_TOKENS)] | None = Field(
        default=None,
        description="Draft: shorter guesses are not checked at all; each is when absent. Of LlamaCpp.",
    )
    ngram_size: Annotated[StrictInt, Field(ge=1, le=32)] | None = Field(
        default=None,
        description="NGram: how many last tokens must have stood before; 6 for LlamaCpp and 4 for VLLM when "
        "absent. Not for TGI, which looks in its own way. LlamaCpp needs draftTokens to be as many at least.",
    )
    source: ModelSource | None = Field(
        default=None,
        description="Draft: where the drafting model comes from, in the model's own format. It is resolved, "
        "verified and loaded as the model itself is, to a volume of its own in each pod.",
    )
    integrity: Integrity | None = Field(
        default=None, description="Draft: what the files of the drafting model must be, and who signed them."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        drafts = self.type == "Draft"
        if (self.source is not None) != drafts:
            raise ValueError(SOURCE_RULE.message)
        foreign = self.ngram_size if drafts else self.integrity or self.min_draft_tokens
        if foreign is not None:
            raise ValueError(KIND_RULE.message)
        if (self.min_draft_tokens or 0) > (self.draft_tokens or DRAFT_TOKENS):
            raise ValueError(LEAST_RULE.message)
        if self.source is not None and self.source.encryption is not None and self.integrity is None:
            raise ValueError(SEALED_RULE.message)
        if self.source is not None and self.source.uri.startswith("https://") and self.integrity is None:
            raise ValueError(URL_RULE.message)
        return self


class DraftStatus(StatusModel):
    """What the drafting model turned out to be."""

    commit: str = Field(description="Commit that its source was resolved to.")
    file: str = Field(description="Its first file.")
    sha256: str = Field(default="", description="SHA-256 of that file, where it is known.")
    parameters: int = Field(default=0, description="Number of weights.")
    digest_source: str = Field(default="", description="Who vouches for its digests, as in status.artifact.")
    method: str | None = Field(default=None, description="How its files are verified, as in status.artifact.")
    signer: str | None = Field(default=None, description="Who signed it, as in status.artifact.")
    key: str | None = Field(default=None, description="Where the key to it is, as in status.artifact.")
