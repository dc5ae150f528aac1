# SPDX-License-Identifier: Apache-2.0
"""What a refused write means, in words for the status. Pure: errors in, WriteFailure out."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from nimblet.cluster.child import Child, Controller, Owner
from nimblet.cluster.contest import Contest
from nimblet.cluster.errors import ApiError, Conflict
from nimblet.cluster.mirror import OWN_KINDS
from nimblet.labels import FIELD_MANAGER
from nimblet.plan.facts import WriteFailure

FIELD_CONFLICT: Final = "FieldManagerConflict"
"""Cause reason of a server-side apply conflict (metav1.CauseTypeFieldManagerConflict)."""
NAMESPACE_TERMINATING: Final = "NamespaceTerminating"
"""Cause reason of a create in a namespace that is being deleted (v1.NamespaceTerminatingCause)."""
MANAGER: Final = re.compile(r'conflict with "([^"]+)"')
IMMUTABLE: Final = re.compile(r"immutable|may not be changed|may not change once set|updates to .* are forbidden")
UNKNOWN_MANAGER: Final = "an unnamed manager"


class Category(StrEnum):
    """The values of WriteFailure.category."""

    CONFLICT = "Conflict"
    CONTESTED = "Contested"
    IMMUTABLE_FIELD = "ImmutableField"
    REFUSED = "Refused"


def conflict_failure(child: Child, holder: Controller | None, *, owner: Owner) -> WriteFailure:
    """Return that the name is taken by an object that isn't ours; of two resources of ours, what to do."""
    found = f"belongs to {holder.kind} {holder.name}" if holder is not None else "has no controller"
    message = f"{child} exists already and {found}; it is left as it is."
    if holder is not None and holder.kind in OWN_KINDS:
        message += (
            f" {owner.kind} {owner.name} needs an object of that name too: give one of the two another name, that "
            "is, delete it and make it again."
        )
    return _failure(child, Category.CONFLICT, message)


def contested_failure(child: Child, contest: Contest) -> WriteFailure:
    """Return that a rival keeps changing a field."""
    message = f"{child}: field manager {contest.manager} keeps changing {contest.field}; we stopped writing it."
    return _failure(child, Category.CONTESTED, message)


def refusal_failure(child: Child, error: ApiError) -> WriteFailure:
    """Return a 400, 403 or 422 in the server's words; an immutable field by its name, without its long values."""
    fields = sorted({cause.field for cause in error.causes if IMMUTABLE.search(cause.message)})
    if fields:
        return _failure(child, Category.IMMUTABLE_FIELD, f"{child}: {', '.join(fields)} can't be changed.")
    return _failure(child, Category.REFUSED, f"{child}: {error.detail}")


def field_conflicts(error: Conflict) -> dict[str, str]:
    """Return field → manager of a server-side apply conflict; empty for any other 409."""
    found: dict[str, str] = {}
    for cause in error.causes:
        if cause.reason == FIELD_CONFLICT:
            match = MANAGER.search(cause.message)
            found[cause.field] = match.group(1) if match is not None else UNKNOWN_MANAGER
    return found


def latest_rival(live: Mapping[str, Any]) -> str:
    """Return the manager, other than us, that wrote the object last (status aside)."""
    entries = [
        (str(entry.get("time") or ""), str(entry["manager"]))
        for entry in live["metadata"].get("managedFields", ())
        if entry.get("manager") not in (None, FIELD_MANAGER) and entry.get("subresource") != "status"
    ]
    return max(entries)[1] if entries else UNKNOWN_MANAGER


def is_namespace_going(error: ApiError) -> bool:
    """Tell whether a create was refused because the namespace is being deleted."""
    return any(cause.reason == NAMESPACE_TERMINATING for cause in error.causes)


def _failure(child: Child, category: Category, message: str) -> WriteFailure:
    return WriteFailure(kind=child.kind, name=child.name, category=category.value, message=message)
