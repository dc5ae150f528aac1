# SPDX-License-Identifier: Apache-2.0
"""What the indexer reports of a build, and what it means; parsed leniently: a newer one may say more. Pure."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from nimblet.api.indexstatus import (
    MAX_ERRORS,
    MAX_FAILED,
    FileErrorStatus,
    GateStatus,
    SourceStatus,
)
from nimblet.conditions import Reason
from nimblet.plan.failure import failure_problem
from nimblet.plan.indexfacts import BuildFacts, GateFacts
from nimblet.plan.stage import Problem, problem

EXIT_REASONS: Final[Mapping[int, Reason]] = {
    60: Reason.VOLUME_MISSING,
    61: Reason.SOURCE_SHRUNK,
    62: Reason.SOURCE_TOO_LARGE,
    63: Reason.ROBOTS_REFUSED,
    70: Reason.RETRIEVER_UNAVAILABLE,
    71: Reason.RETRIEVER_REFUSED,
    72: Reason.KEY_REFUSED,
    73: Reason.EMBEDDING_UNAVAILABLE,
    74: Reason.EMBEDDING_REFUSED,
    75: Reason.STORE_FULL,
    76: Reason.STORE_UNAVAILABLE,
    77: Reason.BUILD_FENCED,
    78: Reason.INDEX_EMPTY,
    80: Reason.GATE_FAILED,
    81: Reason.GATE_INVALID,
}
"""Exit codes of the indexer (its outcome.py): all there is where a confidential guest lets no message out."""
LASTING: Final = frozenset(
    {
        Reason.SOURCE_SHRUNK,
        Reason.SOURCE_TOO_LARGE,
        Reason.ROBOTS_REFUSED,
        Reason.RETRIEVER_REFUSED,
        Reason.EMBEDDING_REFUSED,
        Reason.STORE_FULL,
        Reason.INDEX_EMPTY,
        Reason.GATE_FAILED,
        Reason.GATE_INVALID,
        Reason.CONFIG_INVALID,
    }
)
"""Ends that another try without an edit, a request or the next due time would only meet again."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class _File(_Wire):
    file: str
    reason: str = ""
    message: str = ""


class _Failure(_Wire):
    reason: str
    message: str = ""
    source: str = ""


class _Source(_Wire):
    name: str
    revision: str = ""
    hash: str = ""
    documents: int = 0
    refused: int = 0


class Report(_Wire):
    """A build's report, version 1."""

    version: int = 1
    generation: str = ""
    documents: int = 0
    passages: int = 0
    sources: tuple[_Source, ...] = ()
    refused: int = 0
    errors: tuple[_File, ...] = ()
    gate: GateFacts | None = None
    served: bool = False
    error: _Failure | None = None

    @property
    def source_statuses(self) -> list[SourceStatus]:
        """The sources, as the status has them."""
        return [SourceStatus.model_validate(item.model_dump()) for item in self.sources]

    @property
    def file_errors(self) -> list[FileErrorStatus]:
        """The first files that were left out."""
        return [FileErrorStatus.model_validate(item.model_dump()) for item in self.errors[:MAX_ERRORS]]

    @property
    def gate_status(self) -> GateStatus | None:
        """What the golden questions gave."""
        if self.gate is None:
            return None
        fields = {**asdict(self.gate), "failed": list(self.gate.failed[:MAX_FAILED])}
        return GateStatus.model_validate({**fields, "generation": self.generation})


def report_of(build: BuildFacts) -> Report | None:
    """Return what an ended build told; None where it told nothing of this version."""
    if build.result is None:
        return None
    try:
        found = Report.model_validate_json(build.result)
    except ValidationError:
        return None
    return found if found.version == 1 else None


def build_failure(build: BuildFacts) -> Problem:
    """Return why a build failed: its own words, else its exit code's, else the cluster's."""
    if build.failure is not None:
        return failure_problem(build.failure, pod=build.name)
    report = report_of(build)
    if report is not None and report.error is not None:
        named = f"Source {report.error.source}: " if report.error.source else ""
        return Problem(reason=_reason(report.error.reason), message=f"{named}{report.error.message}")
    known = EXIT_REASONS.get(build.exit_code) if build.exit_code is not None else None
    if known is not None:
        return problem(known, f"Job {build.name} ended with exit code {build.exit_code}.")
    ending = f"exit code {build.exit_code}" if build.exit_code is not None else build.message or "no result"
    return problem(Reason.BUILD_FAILED, f"Job {build.name} failed: {ending.rstrip('.')}.")


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        return Reason.BUILD_FAILED
