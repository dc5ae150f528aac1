# SPDX-License-Identifier: Apache-2.0
"""Turns a resource of ours, as the API server sent it, into its model, or into words that say what is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from nimblet.api.compactmodel import CompactModel, CompactModelSpec, CompactModelStatus
from nimblet.cluster.observed import metadata_of
from nimblet.labels import RESTARTED_AT

MAX_ERRORS: Final = 5
"""Flaws named in one message; the rest shows when these are corrected."""


@dataclass(frozen=True, kw_only=True)
class InvalidModel:
    """A CompactModel whose spec does not parse, though the API server took it: an older or newer CRD."""

    generation: int
    status: CompactModelStatus
    errors: str


def parse_compactmodel(body: Mapping[str, object]) -> CompactModel | InvalidModel:
    """Return the model, or what is wrong with its spec. An unreadable status counts as none."""
    metadata = metadata_of(body)
    status = parse_status(body.get("status"))
    try:
        spec = CompactModelSpec.model_validate(body.get("spec"), by_alias=True, by_name=False)
    except ValidationError as error:
        return InvalidModel(generation=metadata.generation, status=status, errors=flaws(error))
    return CompactModel(
        name=metadata.name,
        namespace=metadata.namespace,
        uid=metadata.uid,
        generation=metadata.generation,
        deleting=metadata.deletion_timestamp is not None,
        restarted_at=metadata.annotations.get(RESTARTED_AT, ""),
        spec=spec,
        status=status,
    )


def parse_status(value: object) -> CompactModelStatus:
    """Return the stored status; an empty one where it is absent or someone wrote what we would not."""
    try:
        return CompactModelStatus.model_validate(value or {})
    except ValidationError:
        return CompactModelStatus()


def flaws(error: ValidationError) -> str:
    """Return the first flaws as `field: what is wrong`, without the values."""
    named = [f"spec.{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
    more = len(named) - MAX_ERRORS
    return "; ".join(named[:MAX_ERRORS]) + (f"; and {more} more" if more > 0 else "") + "."
