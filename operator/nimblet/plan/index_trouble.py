# SPDX-License-Identifier: Apache-2.0
"""What a retriever says is wrong with its store, as problems: of searches, or of what is written. Pure."""

from collections.abc import Mapping
from typing import Final

from nimblet.conditions import Reason
from nimblet.plan.indexfacts import RetrieverFacts
from nimblet.plan.stage import Problem, problem

_REASONS: Final[Mapping[str, Reason]] = {
    "StoreRefused": Reason.STORE_REFUSED,
    "StoreUnsupported": Reason.STORE_UNSUPPORTED,
}
"""The retriever's words for what a server says of itself; any other means that it can't be used."""
_TROUBLES: Final[Mapping[str, Reason]] = {**_REASONS, "StoreFull": Reason.DISK_PRESSURE}
"""Its words for what is wrong while searches are answered; any other is the servers' own failure."""


def store_problem(told: RetrieverFacts) -> Problem | None:
    """Return why the store answers nothing."""
    if told.store.ok:
        return None
    reason = _REASONS.get(told.store.reason, Reason.STORE_UNAVAILABLE)
    return problem(reason, f"The retriever can't use its store: {told.store.message.rstrip('. ')}.")


def write_trouble(told: RetrieverFacts) -> Problem | None:
    """Return why nothing can be written to a store that answers: builds wait."""
    if told.full and told.servers:
        found = "A Qdrant server of the store has no room left on its volume and refuses what is written."
        return problem(Reason.DISK_PRESSURE, found)
    if told.full:
        return problem(Reason.DISK_PRESSURE, "The store has less free space than its reserve.")
    refused = told.trouble is not None and told.trouble.reason == Reason.STORE_REFUSED
    return _trouble(told) if refused else None


def answering_trouble(told: RetrieverFacts) -> Problem | None:
    """Return all that is wrong with a store that answers searches."""
    return write_trouble(told) or _trouble(told)


def _trouble(told: RetrieverFacts) -> Problem | None:
    if told.trouble is None:
        return None
    reason = _TROUBLES.get(told.trouble.reason, Reason.STORE_FAILING)
    words = told.trouble.message.rstrip(". ")
    return problem(reason, f"The store answers, but the retriever says: {words}.")
