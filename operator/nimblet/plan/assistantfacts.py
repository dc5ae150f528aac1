# SPDX-License-Identifier: Apache-2.0
"""Everything the plan of an Assistant may look at, gathered beforehand: frozen values, no client's objects."""

from dataclasses import dataclass

from nimblet.plan.facts import WorkloadFacts
from nimblet.plan.modelfacts import ModelReference


@dataclass(frozen=True, kw_only=True)
class IndexReference:
    """A RetrievalIndex of the same namespace, as its own status tells of it; `found` False: there is none."""

    name: str
    found: bool
    serving: bool = False
    reason: str = ""
    """Of its condition Serving."""
    message: str = ""
    key_secret: str = ""
    """Secret whose entry `api-key` may search; empty while its operator has not looked at it."""
    generation: str = ""
    documents: int = 0
    chunks: int = 0


@dataclass(frozen=True, kw_only=True)
class AssistantFacts(WorkloadFacts):
    """All that `plan_assistant` may look at besides the CR, the settings and the time.

    `deployment` and `pods` are the gateway's; an observation of a pod is what it told of its test of itself.
    """

    model: ModelReference | None = None
    fallback: ModelReference | None = None
    guard: ModelReference | None = None
    indexes: tuple[IndexReference, ...] = ()
    """Those that the spec names, in its order."""
    operator_key_sha256: str = ""
    """Hash of the key that the operator shows to the gateway; empty when planning offline."""
