# SPDX-License-Identifier: Apache-2.0
"""A claim of ours: what it should be, and what keeps it from being that or from being bound. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from nimblet.api.cache import Cache
from nimblet.conditions import Reason
from nimblet.manifests.cache import Claim
from nimblet.plan.facts import ClaimFacts, ContainerFailure, FailureKind, ModelFacts, StorageClassFacts
from nimblet.plan.stage import Problem, Progress, problem
from nimblet.quantity import GIBIBYTE, MEBIBYTE, bytes_of

PENDING_SECONDS: Final = 60.0
"""After this long without a volume something is wrong; provisioners take seconds to half a minute."""
PENDING, LOST = "Pending", "Lost"
_VOLUME_WORDS: Final = re.compile(r"persistent ?volume", re.IGNORECASE)
"""How the scheduler speaks of claims; its other words are about nodes."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a spec says about a claim; `place` is where it says so."""

    access_mode: str
    storage_class_name: str | None
    size: str | None
    place: str = "cache"


def wish_of(cache: Cache) -> Wish:
    """Return what a model's cache asks for."""
    return Wish(access_mode=cache.access_mode, storage_class_name=cache.storage_class_name, size=cache.size)


def claim_problem(
    wish: Wish, live: ClaimFacts | None, classes: tuple[StorageClassFacts, ...] | None
) -> Problem | None:
    """Return why the claim can't be made or be as the spec says; nothing is written then."""
    if live is None:
        return _class_problem(wish.storage_class_name, classes, place=wish.place)
    if live.deleting or live.phase == LOST:
        how = "is being deleted and goes when no pod uses it any more" if live.deleting else "has lost its volume"
        return problem(Reason.CLAIM_LOST, f"PersistentVolumeClaim {live.name} {how}.")
    changed = _change(live, wish, class_of(live.storage_class, classes))
    if changed:
        return problem(Reason.IMMUTABLE_FIELD, f"PersistentVolumeClaim {live.name}: {changed}.")
    return _class_problem(live.storage_class or None, classes, place=wish.place) if live.phase == PENDING else None


def _change(live: ClaimFacts, wish: Wish, known: StorageClassFacts | None) -> str:
    """Return the change of the claim that the cluster would refuse, in words; empty where there is none."""
    named, size = wish.storage_class_name, wish.size
    if live.access_modes != (wish.access_mode,):
        return f"its accessModes can't be changed from {', '.join(live.access_modes)} to {wish.access_mode}"
    if named is not None and named != live.storage_class:
        return f"its storageClassName can't be changed from {live.storage_class or 'none'} to {named}"
    if size is None or bytes_of(size) == bytes_of(live.requested):
        return ""
    if bytes_of(size) < bytes_of(live.requested):
        return f"its size can't be changed from {live.requested} to the smaller {size}"
    if known is not None and not known.expandable:
        return f"its size can't grow from {live.requested} to {size}: StorageClass {known.name} does not allow it"
    return ""


def wanted_claim(cache: Cache, facts: ModelFacts, *, file_bytes: int) -> Claim:
    """Return the claim to apply; it never asks for less than it has, nor for growth that its class refuses."""
    size, live = cache.size, facts.claim
    if size is None:
        computed = f"{claim_gibibytes(file_bytes)}Gi"
        known = class_of(live.storage_class, facts.storage_classes) if live is not None else None
        expandable = known is not None and known.expandable
        keeps = live is not None and (not expandable or bytes_of(live.requested) >= bytes_of(computed))
        size = live.requested if live is not None and keeps else computed
    return Claim(
        access_mode=cache.access_mode,
        storage_class=class_name(cache.storage_class_name, live),
        size=size,
        retained=cache.retention == "Retain",
    )


def class_name(named: str | None, live: ClaimFacts | None) -> str | None:
    """Return the StorageClass to apply: where the spec names none any more, the one that the claim has.

    To leave out what was applied once would take it away, which the cluster refuses.
    """
    return named or (live.storage_class if live is not None else None) or None


def claim_gibibytes(file_bytes: int) -> int:
    """Return room for two sets of files of this size (current and next or previous) and the file system's own."""
    return -(-(2 * file_bytes + 64 * MEBIBYTE) // GIBIBYTE)


class ClaimUser(Protocol):
    """What is known of the Job or pod that is to use a claim."""

    @property
    def created_at(self) -> datetime | None:
        """When it was made."""

    @property
    def failure(self) -> ContainerFailure | None:
        """Why it does not start."""


def binding(
    claim: ClaimFacts, user: ClaimUser | None, classes: tuple[StorageClassFacts, ...] | None, *, now: datetime
) -> Problem | Progress | None:
    """Return how it stands with a claim without a volume; None while that is as it should be.

    With WaitForFirstConsumer its first user is what a claim waits for, so that its time counts from there.
    """
    if claim.phase != PENDING:
        return None
    known = class_of(claim.storage_class, classes)
    since = claim.created_at
    if known is not None and known.waits_for_pod:
        since = user.created_at if user is not None else None
    words = ""
    if user is not None and user.failure is not None:
        words = user.failure.message.strip().rstrip(".")
        if user.failure.kind is not FailureKind.UNSCHEDULABLE or not _VOLUME_WORDS.search(words):
            return None  # the pod has another trouble, told as its own
    if since is None:
        return None
    told = f": {words}" if words else ""
    found = f"PersistentVolumeClaim {claim.name} (StorageClass {claim.storage_class}) has no volume yet{told}."
    if (now - since).total_seconds() >= PENDING_SECONDS:
        return problem(Reason.CLAIM_PENDING, found)
    return Progress(reason=Reason.CLAIM_PENDING, message=found)


def class_of(name: str, classes: tuple[StorageClassFacts, ...] | None) -> StorageClassFacts | None:
    """Return the StorageClass of a name, None where it is not there or not known."""
    return next((item for item in classes or () if item.name == name), None)


def _class_problem(
    named: str | None, classes: tuple[StorageClassFacts, ...] | None, *, place: str
) -> Problem | None:
    if classes is None:
        return None
    there = ", ".join(sorted(item.name for item in classes)) or "none"
    if named is not None and all(item.name != named for item in classes):
        return problem(Reason.STORAGE_CLASS_MISSING, f"There is no StorageClass {named}; there is: {there}.")
    if named is None and not any(item.is_default for item in classes):
        found = f"{place}.storageClassName is not set and no StorageClass is the default; there is: {there}."
        return problem(Reason.STORAGE_CLASS_MISSING, found)
    return None
