# SPDX-License-Identifier: Apache-2.0
"""What a build reports: counts, a hash for each source, the first refused files; at most 4,096 bytes. Pure.

That is what Kubernetes keeps of a container's termination message, where the operator reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

MAX_BYTES: Final = 4096
MAX_ERRORS: Final = 20
MAX_MESSAGE: Final = 160


class ReportModel(BaseModel):
    """Base: frozen, camelCase."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class FileError(ReportModel):
    """A file that was left out."""

    file: str
    reason: str
    message: str


class SourceReport(ReportModel):
    """What a source gave. `hash` covers names and contents of the files that were read."""

    name: str
    hash: str
    documents: int
    refused: int


class Report(ReportModel):
    """The whole report; `error` is why the build as a whole failed."""

    version: Literal[1] = 1
    generation: str
    documents: int = 0
    passages: int = 0
    embedded: int = 0
    reused: int = 0
    sources: tuple[SourceReport, ...] = ()
    refused: int = 0
    errors: tuple[FileError, ...] = ()
    """The first ones; `refused` counts all."""
    error: FileError | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a build is."""

    done: int
    total: int

    @property
    def percent(self) -> int:
        """Whole percent of the files."""
        return 100 if self.total == 0 else self.done * 100 // self.total


def report_text(report: Report) -> str:
    """Return the report as JSON that fits: messages are cut, then errors left out from the end."""
    errors = [_cut(error) for error in report.errors[:MAX_ERRORS]]
    while True:
        fitted = report.model_copy(update={"errors": tuple(errors)})
        text = fitted.model_dump_json(by_alias=True, exclude_defaults=True)
        if len(text.encode()) <= MAX_BYTES or not errors:
            return text
        errors.pop()


def _cut(error: FileError) -> FileError:
    return FileError(file=_middle(error.file), reason=error.reason, message=_middle(error.message))


def _middle(text: str) -> str:
    if len(text) <= MAX_MESSAGE:
        return text
    half = MAX_MESSAGE // 2 - 1
    return f"{text[:half]}…{text[-half:]}"


def crossed(before: Progress, after: Progress, *, step: int = 10) -> Sequence[int]:
    """Return the steps of percent that lie between two looks: what is worth a line in the log."""
    return range((before.percent // step + 1) * step, after.percent + 1, step)
