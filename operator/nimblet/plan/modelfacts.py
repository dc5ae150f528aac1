# SPDX-License-Identifier: Apache-2.0
"""What another resource's plan may know of a CompactModel that it names, and what is wrong with it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nimblet.api.compactmodel import Task
from nimblet.conditions import UNDER_WAY, Reason
from nimblet.plan.stage import Problem, Progress, problem

_WAITS_FOR_SOMEBODY: Final = frozenset({Reason.SUSPENDED, Reason.SCALED_TO_ZERO})
"""Reasons of a model that is in order, and yet will never serve until somebody edits it."""


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """A CompactModel of the same namespace, as its own status tells of it; `found` False: there is none."""

    name: str
    found: bool
    serving: bool = False
    """Its condition Serving is True: it answers now, if perhaps with an older spec."""
    ready: bool = False
    """Its condition Ready is True: what answers is of its current spec, and so is `digest`."""
    reason: str = ""
    """Of its condition Serving."""
    message: str = ""
    task: Task | None = None
    url: str = ""
    """Base address of its endpoint, with /v1."""
    served_name: str = ""
    """What requests call the model."""
    key_secret: str = ""
    """Secret whose entry `api-key` opens the endpoint."""
    context_length: int = 0
    """Tokens of context a request; 0 while unknown."""
    runtime: str = ""
    """Its server; "" while unknown."""
    parallel: int = 1
    """Requests that one of its pods works on at once."""
    replicas: int = 0
    """Its pods that answer."""
    digest: str = ""
    """Of what decides on its answers: its files' digests. Empty while unresolved."""
    dimension: int = 0
    """Task Embedding: numbers of a vector; 0 while unknown."""
    labels: tuple[str, ...] = ()
    """Task Classify: names of the classes, in the order of their scores."""
    adapters: tuple[str, ...] = ()
    """Names of the adapters in its spec."""
    adapter_requests: Mapping[str, str] = field(default_factory=dict)
    """What a request carries to be answered with an adapter, by name: JSON. Only of those that are resolved."""


def reference_flaw(
    model: ModelReference, *, field: str, tasks: tuple[Task, ...], namespace: str
) -> Problem | None:
    """Return why a model can't be referred to by a field of the spec: it is not there, or made for other work."""
    if not model.found:
        found = f"CompactModel {model.name}, named in {field}, is not in namespace {namespace}."
        return problem(Reason.MODEL_MISSING, found)
    if model.task is None:
        found = f"CompactModel {model.name}, named in {field}, can't be read: {model.reason}: {model.message}"
        return problem(Reason.MODEL_NOT_SERVING, found)
    if model.task not in tasks:
        wanted = " or ".join(sorted(tasks))
        found = f"CompactModel {model.name} has the task {model.task}, but {field} needs one of {wanted}."
        return problem(Reason.MODEL_TASK_DIFFERS, found)
    return None


def not_serving(model: ModelReference, *, field: str) -> Problem | Progress | None:
    """Return that a model which is there does not serve, None when it does; one that starts needs nobody."""
    if model.serving:
        return None
    named = f"CompactModel {model.name}, named in {field},"
    return unready(named, model.reason, model.message, reason=Reason.MODEL_NOT_SERVING)


def unready(named: str, reason_told: str, message: str, *, reason: Reason) -> Problem | Progress:
    """Return that a resource which is there does not serve, in its own words; one that starts needs nobody."""
    found = f"{named} is not Serving: {reason_told}: {message}" if reason_told else f"{named} is not Serving yet."
    if not reason_told or reason_told in UNDER_WAY - _WAITS_FOR_SOMEBODY:
        return Progress(reason=reason, message=found)
    return problem(reason, found)
