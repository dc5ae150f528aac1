# SPDX-License-Identifier: Apache-2.0
"""Turns a resource of ours, as the API server sent it, into its model, or into words that say what is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypedDict, TypeVar

from pydantic import ValidationError

from nimblet.api.assistant import Assistant, AssistantSpec, AssistantStatus
from nimblet.api.common import SpecModel, StatusModel
from nimblet.api.compactmodel import CompactModel, CompactModelSpec, CompactModelStatus
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.api.retrievalindex import RetrievalIndex, RetrievalIndexSpec
from nimblet.cluster.observed import Metadata, metadata_of
from nimblet.labels import BUILD_REQUESTED_AT, RESTARTED_AT

MAX_ERRORS: Final = 5
"""Flaws named in one message; the rest shows when these are corrected."""

P = TypeVar("P", bound=SpecModel)
S = TypeVar("S", bound=StatusModel)


@dataclass(frozen=True, kw_only=True)
class Invalid(Generic[S]):
    """A resource whose spec does not parse, though the API server took it: an older or newer CRD."""

    generation: int
    status: S
    errors: str


class InvalidModel(Invalid[CompactModelStatus]):
    """A CompactModel whose spec does not parse."""


class InvalidAssistant(Invalid[AssistantStatus]):
    """An Assistant whose spec does not parse."""


class InvalidIndex(Invalid[RetrievalIndexStatus]):
    """A RetrievalIndex whose spec does not parse."""


def parse_compactmodel(body: Mapping[str, object]) -> CompactModel | InvalidModel:
    """Return the model, or what is wrong with its spec. An unreadable status counts as none."""
    metadata, status = metadata_of(body), parse_status(body.get("status"))
    spec = parse_spec(body, CompactModelSpec)
    if isinstance(spec, str):
        return InvalidModel(generation=metadata.generation, status=status, errors=spec)
    return CompactModel(**identity(metadata), restarted_at=restart_asked(metadata), spec=spec, status=status)


def parse_assistant(body: Mapping[str, object]) -> Assistant | InvalidAssistant:
    """Return the Assistant, or what is wrong with its spec. An unreadable status counts as none."""
    metadata, status = metadata_of(body), status_of(body, AssistantStatus)
    spec = parse_spec(body, AssistantSpec)
    if isinstance(spec, str):
        return InvalidAssistant(generation=metadata.generation, status=status, errors=spec)
    return Assistant(**identity(metadata), restarted_at=restart_asked(metadata), spec=spec, status=status)


def parse_retrievalindex(body: Mapping[str, object]) -> RetrievalIndex | InvalidIndex:
    """Return the index, or what is wrong with its spec. An unreadable status counts as none."""
    metadata, status = metadata_of(body), status_of(body, RetrievalIndexStatus)
    spec = parse_spec(body, RetrievalIndexSpec)
    if isinstance(spec, str):
        return InvalidIndex(generation=metadata.generation, status=status, errors=spec)
    return RetrievalIndex(
        **identity(metadata),
        restarted_at=restart_asked(metadata),
        build_requested_at=metadata.annotations.get(BUILD_REQUESTED_AT, ""),
        spec=spec,
        status=status,
    )


class Identity(TypedDict):
    """What every kind of ours has of its metadata."""

    name: str
    namespace: str
    uid: str
    generation: int
    deleting: bool


def identity(metadata: Metadata) -> Identity:
    """Return a resource's identity."""
    return {
        "name": metadata.name,
        "namespace": metadata.namespace,
        "uid": metadata.uid,
        "generation": metadata.generation,
        "deleting": metadata.deletion_timestamp is not None,
    }


def restart_asked(metadata: Metadata) -> str:
    """Return the request for a restart."""
    return metadata.annotations.get(RESTARTED_AT, "")


def parse_spec(body: Mapping[str, object], model: type[P]) -> P | str:
    """Return the spec, or what is wrong with it."""
    try:
        return model.model_validate(body.get("spec"), by_alias=True, by_name=False)
    except ValidationError as error:
        return flaws(error)


def parse_status(value: object) -> CompactModelStatus:
    """Return the stored status of a CompactModel."""
    return status_of({"status": value}, CompactModelStatus)


def status_of(body: Mapping[str, object], model: type[S]) -> S:
    """Return the stored status; an empty one where it is absent or someone wrote what we would not."""
    try:
        return model.model_validate(body.get("status") or {})
    except ValidationError:
        return model()


def flaws(error: ValidationError) -> str:
    """Return the first flaws as `field: what is wrong`, without the values."""
    named = [f"spec.{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
    more = len(named) - MAX_ERRORS
    return "; ".join(named[:MAX_ERRORS]) + (f"; and {more} more" if more > 0 else "") + "."
