# SPDX-License-Identifier: Apache-2.0
"""Events about flips of the conditions that people watch. Pure: conditions in, manifests out.

An Event's name and time come from the flip itself, so that a flip told twice is one Event.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from nimblet.api.common import Condition, ConditionStatus
from nimblet.cluster.resources import EVENT
from nimblet.conditions import UNDER_WAY, ConditionType
from nimblet.labels import GROUP
from nimblet.names import content_hash

TOLD: Final = (
    ConditionType.READY,
    ConditionType.SERVING,
    ConditionType.STALLED,
    ConditionType.POLICY_ENFORCED,
)
"""Types whose flips become Events; the others are steps on the way to these."""
MAX_NOTE_LENGTH: Final = 1024
"""Longest note that events.k8s.io/v1 takes, in characters."""
REPORTER: Final = f"{GROUP}/operator"


@dataclass(frozen=True, kw_only=True)
class Regarding:
    """The resource that an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


def flips(before: Iterable[Condition], after: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return the watched conditions whose status changed. An absent one counts as Unknown.

    Two flips are no news: that a resource just made does not serve yet, and that it serves where Ready says so in
    the same breath. Stalled is absent unless True; that it went shows in Ready.
    """
    old = {condition.type: condition.status for condition in before}
    flipped = tuple(
        condition
        for condition in after
        if condition.type in TOLD
        and old.get(condition.type, ConditionStatus.UNKNOWN) is not condition.status
        and (condition.type in old or _is_wrong(condition) or condition.status is ConditionStatus.TRUE)
    )
    ready = any(item.type == ConditionType.READY and item.status is ConditionStatus.TRUE for item in flipped)
    return tuple(item for item in flipped if not (ready and item.type == ConditionType.SERVING))


def event_manifest(regarding: Regarding, condition: Condition) -> dict[str, object]:
    """Return the Event of a flip: Warning for what is wrong, Normal for progress."""
    at = condition.last_transition_time.astimezone(UTC)
    identity = [regarding.uid, condition.type, condition.status.value, condition.reason, at.isoformat()]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{regarding.name}.{content_hash(identity)}", "namespace": regarding.namespace},
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTER,
        "reportingInstance": REPORTER,
        "action": f"{condition.type}{condition.status.value}",
        "reason": condition.reason,
        "note": condition.message[:MAX_NOTE_LENGTH],
        "type": "Warning" if _is_wrong(condition) else "Normal",
        "regarding": {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "namespace": regarding.namespace,
            "name": regarding.name,
            "uid": regarding.uid,
        },
    }


def _is_wrong(condition: Condition) -> bool:
    bad = ConditionStatus.TRUE if condition.type == ConditionType.STALLED else ConditionStatus.FALSE
    return condition.status is bad and condition.reason not in UNDER_WAY
