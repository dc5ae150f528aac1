# SPDX-License-Identifier: Apache-2.0
"""Who may call an endpoint, and with which keys. Shape and local validity only."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from nimblet.api.common import SecretRef, SpecModel
from nimblet.api.scheduling import Key, LabelValue

MAX_NAMESPACES: Final = 32
MAX_KEY_VERSION: Final = 9999
WEEK_SECONDS: Final = 604800

NamespaceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class NamespaceSelector(SpecModel):
    """Namespaces by their labels."""

    match_labels: Annotated[dict[Key, LabelValue], Field(min_length=1, max_length=8)] = Field(
        description="Labels that a namespace carries; all must agree."
    )


class EndpointAccess(SpecModel):
    """Who may call, and the generated key."""

    namespaces: Annotated[list[NamespaceName], Field(max_length=MAX_NAMESPACES)] = Field(
        default_factory=list,
        description="Namespaces, besides the resource's own, whose pods may call the endpoint. They still need a "
        "key. Held by a NetworkPolicy, where the cluster's network enforces those.",
    )
    namespace_selector: NamespaceSelector | None = Field(
        default=None,
        description="Further namespaces by their labels. Whoever may label a namespace may then open it.",
    )
    key_version: Annotated[int, Field(strict=True, ge=1, le=MAX_KEY_VERSION)] = Field(
        default=1,
        description="Another number is another generated key. Pods first accept both, then the Secret holds the "
        "new one, and after `keyGraceSeconds` the old one stops working. Count up: a number that was used before "
        "is the same key again.",
    )
    key_grace_seconds: Annotated[int, Field(strict=True, ge=0, le=WEEK_SECONDS)] = Field(
        default=300,
        description="How long the old key works on once the Secret holds the new one. A mounted Secret reaches "
        "its readers within about two minutes.",
    )


class Access(EndpointAccess):
    """Who may call, and with which keys."""

    api_keys_secret_ref: SecretRef | None = Field(
        default=None,
        description="A Secret of your own with keys that open the endpoint beside the generated one: entry "
        '`api-keys`, one key a line. It must carry the label nimblet.dev/use: "true". A change of it rolls the '
        "pods; to change a key without a failed request, add the new one first and remove the old one later.",
    )
