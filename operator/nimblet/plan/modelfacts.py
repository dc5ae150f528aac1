# SPDX-License-Identifier: Apache-2.0
"""What another resource's plan may know of a CompactModel that it names. Data only."""

from dataclasses import dataclass

from nimblet.api.compactmodel import Task


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """A CompactModel of the same namespace, as its own status tells of it; `found` False: there is none."""

    name: str
    found: bool
    serving: bool = False
    """Its condition Serving is True: it answers now, if perhaps with an older spec."""
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
    parallel: int = 1
    """Requests that one of its pods works on at once."""
    replicas: int = 0
    """Its pods that answer."""
    digest: str = ""
    """Of what decides on its answers: its files' digests. Empty while unresolved."""
