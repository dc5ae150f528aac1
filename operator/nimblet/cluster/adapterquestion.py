# SPDX-License-Identifier: Apache-2.0
"""What a pod is asked about its adapters, by its server, and what its answer proves. Pure; no HTTP here.

Servers are asked for their own list. TGI has none: it ends at its start where it can't load an adapter, and
nothing more can be seen from outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from nimblet.manifests.loader import ADAPTERS_DIR
from nimblet.plan.adapters import adapters_label
from nimblet.plan.facts import Answer, Observation

LISTS: Final = {"LlamaCpp": "/lora-adapters", "VLLM": "/v1/models"}
"""Where a server tells its adapters."""
MISSING: Final = "AdapterNotLoaded"
"""The observation's word for it."""


class Loaded(BaseModel):
    """An adapter as llama.cpp's server lists it."""

    path: str


class Card(BaseModel):
    """A model as vLLM lists it: its own, and each adapter."""

    id: str


class Cards(BaseModel):
    """The answer of /v1/models."""

    data: list[Card] = Field(max_length=64)


_LOADED: Final = TypeAdapter(Annotated[list[Loaded], Field(max_length=64)])


@dataclass(frozen=True, kw_only=True)
class AdapterQuestion:
    """The question for the list of adapters; `names` are those that should be there, in their order."""

    path: str
    names: tuple[str, ...]
    runtime: str

    def judge(self, status: int, body: bytes) -> Observation:
        """Return whether every adapter is there; the answer is not quoted."""
        found = self._listed(body) if status == 200 else None  # noqa: PLR2004 - OK
        if found is None:
            return self._lacking(f"HTTP {status} without a list of its adapters")
        missing = [name for name in self.names if name not in found]
        if missing:
            return self._lacking(f"it has not loaded {', '.join(missing)}")
        if self.runtime == "LlamaCpp" and found != list(self.names):
            return self._lacking("it has the adapters in another order")
        return Observation(answer=Answer.ANSWERED)

    def _lacking(self, detail: str) -> Observation:
        return Observation(answer=Answer.PARTLY, reason=MISSING, detail=detail)

    def _listed(self, body: bytes) -> list[str] | None:
        try:
            if self.runtime == "LlamaCpp":
                paths = [item.path for item in _LOADED.validate_json(body)]
                return [path.removeprefix(f"{ADAPTERS_DIR}/").partition("/")[0] for path in paths]
            return [card.id for card in Cards.model_validate_json(body).data]
        except ValidationError:
            return None


def adapter_question(label: str, names: Sequence[str]) -> AdapterQuestion | None:
    """Return what a pod with this label is asked; None for one of other adapters, or whose server has no list."""
    runtime = label.partition("-")[0]
    if not names or runtime not in LISTS or label != adapters_label(tuple(names), runtime=runtime):
        return None
    return AdapterQuestion(path=LISTS[runtime], names=tuple(names), runtime=runtime)
