# SPDX-License-Identifier: Apache-2.0
"""What retriever and gateway share: both tell of themselves at one address, in one form. Pure; no HTTP here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from nimblet.cluster.question import Inquiry

STATUS_PATH: Final = "/v1/status"
MAX_WORDS: Final = 300
"""Longest quote of a pod's words, in characters."""


class Told(BaseModel):
    """Base of what a pod tells: a newer one may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


def quoted(words: str) -> str:
    """Return a pod's words as they are quoted."""
    return words if len(words) <= MAX_WORDS else f"{words[:MAX_WORDS]} …"


class StatusInquiry(Inquiry, Protocol):
    """What pods are asked again and again."""

    @property
    def epoch(self) -> str:
        """How what they rely on stands: where it changes, every pod is asked at once."""

    @property
    def every(self) -> float:
        """Seconds between two questions."""


@dataclass(frozen=True, kw_only=True)
class StatusQuestion:
    """The question for a status; who asks it says how the answer is judged."""

    epoch: str = ""
    method: Literal["GET"] = "GET"
    path: str = STATUS_PATH
    body: Mapping[str, object] | None = None
