# SPDX-License-Identifier: Apache-2.0
"""Writes a resource's status where it differs from the stored one, and Events for the flips people watch."""

import logging
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue, ValidationError

from nimblet.api.common import Condition, StatusModel
from nimblet.cluster.client import Client, Json
from nimblet.cluster.errors import ApiError, Conflict, NotFound, Transient
from nimblet.cluster.events import Regarding, event_manifest, flips
from nimblet.cluster.refusal import is_namespace_going
from nimblet.cluster.resources import resource_of

log = logging.getLogger(__name__)

MAX_TRIES: Final = 3
"""Writes of one status; each failed one means that somebody wrote to the resource at that moment."""


async def write_status(client: Client, *, body: Json, status: StatusModel) -> bool:
    """Write `status` if the stored one in `body` (the resource as read) says something else; tell whether it did.

    A resource that is gone or was made anew meanwhile is left alone. Other errors propagate.
    """
    before = _parsed(body.get("status"), type(status))
    if before is not None and normalised(before) == normalised(status):
        return False
    if not await _store(client, body, normalised(status)):
        return False
    await _tell(client, body, _before(before), stored_conditions(status))
    return True


async def _store(client: Client, body: Json, status: Mapping[str, JsonValue]) -> bool:
    """Write while the resource is the one that was read; other people's changes to it don't matter."""
    metadata = body["metadata"]
    identity = {"name": metadata["name"], "namespace": metadata["namespace"]}
    manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": identity, "status": status}
    label = f"{body['kind']} {metadata['namespace']}/{metadata['name']}"
    current: Json | None = body
    for _ in range(MAX_TRIES):
        if current is None or current["metadata"]["uid"] != metadata["uid"]:
            log.info("%s: gone or made anew, its status is dropped", label)
            return False
        try:
            await client.apply_status(manifest, resource_version=current["metadata"]["resourceVersion"])
        except NotFound:
            current = None
        except Conflict:
            current = await client.get(resource_of(body["kind"]), **identity)
        else:
            return True
    raise Transient(f"{label}: changed {MAX_TRIES} times while its status was written")


def normalised(status: StatusModel) -> dict[str, JsonValue]:
    """Return a status as it goes over the wire: absent fields left out, conditions sorted by type."""
    value: dict[str, JsonValue] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    conditions = value.get("conditions")
    if isinstance(conditions, list):
        value["conditions"] = sorted(conditions, key=_type_of)
    return value


def _type_of(condition: JsonValue) -> str:
    return str(condition["type"]) if isinstance(condition, dict) else ""


def _parsed(stored: object, model: type[StatusModel]) -> StatusModel | None:
    """Return the stored status, None where there is none or someone wrote what isn't one."""
    if not isinstance(stored, Mapping):
        return None
    try:
        return model.model_validate(stored)
    except ValidationError as error:
        log.warning("stored status is not one of ours and is written anew: %s", error)
        return None


def _before(status: StatusModel | None) -> tuple[Condition, ...]:
    return stored_conditions(status) if status is not None else ()


def stored_conditions(status: StatusModel) -> tuple[Condition, ...]:
    """Return a status's conditions; every kind of ours has them."""
    listed = getattr(status, "conditions", ())
    return tuple(item for item in listed if isinstance(item, Condition))


async def _tell(client: Client, body: Json, before: tuple[Condition, ...], after: tuple[Condition, ...]) -> None:
    metadata = body["metadata"]
    regarding = Regarding(
        api_version=body["apiVersion"],
        kind=body["kind"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
    )
    for condition in flips(before, after):
        try:
            await client.create(event_manifest(regarding, condition))
        except Conflict:
            log.debug("Event of %s told already", condition.type)
        except ApiError as error:
            if is_namespace_going(error):
                return
            # the condition itself is stored; an Event is a courtesy and must not undo that
            log.warning("%s %s: Event not written: %s", regarding.kind, regarding.name, error)
