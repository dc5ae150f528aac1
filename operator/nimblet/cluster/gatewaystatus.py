# SPDX-License-Identifier: Apache-2.0
"""What a gateway is asked for the sake of an observation, and what its answer proves. Pure; no HTTP here.

The gateway tests itself, and probes what it answers from every few seconds; its status tells how that went.
"""

from dataclasses import dataclass
from typing import Final

from pydantic import Field, ValidationError

from nimblet.cluster.podstatus import StatusQuestion, Told, quoted
from nimblet.plan.facts import Answer, Observation

EVERY_SECONDS: Final = 5.0
"""Between two questions. A gateway looks every five seconds itself, for up to four: trouble is told within 15."""
NOT_YET: Final = frozenset({"NotRunYet", "NotAskedYet"})
"""Its words for what it has not found out yet."""
MODEL_AWAY: Final = "ModelUnavailable"


class Part(Told):
    """How one thing is, in the gateway's words."""

    ok: bool
    reason: str = ""
    message: str = ""

    @property
    def words(self) -> str:
        """Reason and message, as they are quoted."""
        return quoted(f"{self.reason}: {self.message}" if self.message else self.reason)


class IndexPart(Part):
    """How an index is."""

    name: str


class GatewayStatus(Told):
    """The part of a gateway's status that proves something."""

    configuration: str
    self_test: Part
    indexes: tuple[IndexPart, ...] = Field(default=(), max_length=64)
    fallback: Part | None = None


@dataclass(frozen=True, kw_only=True)
class GatewayInquiry(StatusQuestion):
    """The question to the gateways of one Assistant. `epoch` tells how what they answer from stands."""

    proof: str
    every: float = EVERY_SECONDS

    def judge(self, body: bytes, *, source_hash: str) -> Observation:
        """Return what a status says; `source_hash` does not matter to it."""
        del source_hash
        try:
            status = GatewayStatus.model_validate_json(body)
        except ValidationError:
            return Observation(answer=Answer.FAILED, detail="HTTP 200 without a gateway's status")
        return observed(status)


def observed(status: GatewayStatus) -> Observation:
    """Return what a status proves: that it answers, answers in part, does not, or has not found out yet."""
    test = status.self_test
    away = [index for index in status.indexes if not index.ok and index.reason not in NOT_YET]
    if test.ok and not away:
        return Observation(answer=Answer.ANSWERED)
    if test.ok:
        first = away[0]
        detail = f"index {first.name}: {first.words}"
        return Observation(answer=Answer.PARTLY, detail=detail, reason=first.reason)
    if test.reason in NOT_YET:
        return Observation(answer=Answer.UNPROVEN, detail=test.words, reason=test.reason)
    rescued = status.fallback is not None and status.fallback.ok and test.reason == MODEL_AWAY
    finds = not status.indexes or any(index.ok for index in status.indexes)
    answer = Answer.PARTLY if rescued and finds else Answer.FAILED
    return Observation(answer=answer, detail=test.words, reason=test.reason)
