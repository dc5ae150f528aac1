# SPDX-License-Identifier: Apache-2.0
"""What a build reports: counts, a revision and hash for each source, the first refused files. Pure.

The container's termination message: JSON in camelCase, at most 4,096 bytes, which is what Kubernetes keeps of one.
Values at their default are left out. A reader ignores keys that it does not know and refuses another `version`.
A reader that gets no message has the exit code, which says the same reason: see `outcome.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

MAX_BYTES: Final = 4096
MAX_ERRORS: Final = 20
MAX_MESSAGE: Final = 160
MAX_FAILURE: Final = 800
MAX_ID: Final = 40
HASH_DIGITS: Final = 32


class ReportModel(BaseModel):
    """Base: frozen, camelCase."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class FileError(ReportModel):
    """A file that was left out."""

    file: str = Field(description="Id of its document: source and path.")
    reason: str = Field(description="One word: a Refusal of document.py, or why it could not be fetched.")
    message: str = Field(description="What was found, and what to do.")


class Failure(ReportModel):
    """Why the build as a whole failed, or why what it built does not serve."""

    reason: str = Field(description="One word: an Outcome of outcome.py.")
    message: str = Field(description="What was found, and what to do.")
    source: str = Field(default="", description="Name of the source that it is about.")


class SourceReport(ReportModel):
    """What a source gave."""

    name: str = Field(description="Name of the source.")
    revision: str = Field(
        default="",
        description="Commit of a repository; `etags:` and a hash over ETags of a bucket or site; else empty.",
    )
    hash: str = Field(description="First 32 hex digits of a SHA-256 over names and contents of what was read.")
    documents: int = Field(default=0, description="Files that were read.")
    refused: int = Field(default=0, description="Files that were left out.")


class GateReport(ReportModel):
    """What the golden questions gave."""

    passed: bool = Field(description="Whether every figure reached its bound.")
    asked: int = Field(default=0, description="Questions.")
    recall: float = Field(default=0.0, description="Share of questions whose passage was among the first k.")
    mrr: float = Field(default=0.0, description="Mean reciprocal rank.")
    ndcg: float = Field(default=0.0, description="Normalised discounted cumulative gain at k.")
    failed: tuple[str, ...] = Field(default=(), description="Ids of the first questions that fell, 20 at most.")


class Report(ReportModel):
    """The whole report. Counts are those of what was done, also where `error` says why no more was."""

    version: Literal[1] = 1
    generation: str = Field(description="Generation that was built; empty where the configuration told none.")
    documents: int = Field(default=0, description="Files that were read.")
    passages: int = Field(default=0, description="Passages handed over.")
    embedded: int = Field(default=0, description="Of these, those whose vector was computed.")
    reused: int = Field(default=0, description="Of these, those whose vector was there.")
    sources: tuple[SourceReport, ...] = Field(default=(), description="Every source that was read, in order.")
    refused: int = Field(default=0, description="Files that were left out.")
    errors: tuple[FileError, ...] = Field(default=(), description="The first of them, 20 at most.")
    gate: GateReport | None = Field(default=None, description="None where no gate was asked.")
    served: bool = Field(default=False, description="Whether the generation was swapped in.")
    error: Failure | None = Field(default=None, description="None where all that was asked for was done.")


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
    """Return the report as JSON that fits: messages are cut, then errors and failed questions left out.

    Even twenty sources with the longest names fit, with a gate and the reason of a failure.
    """
    fitted = report.model_copy(
        update={
            "version": 1,
            "errors": tuple(_cut(error) for error in report.errors[:MAX_ERRORS]),
            "gate": _cut_gate(report.gate),
            "error": _cut_failure(report.error),
        }
    )
    while True:
        text = fitted.model_dump_json(by_alias=True, exclude_defaults=True)
        text = '{"version":1,' + text[1:]
        if len(text.encode()) <= MAX_BYTES:
            return text
        fitted = _smaller(fitted)


def _smaller(report: Report) -> Report:
    """Return the report with a little less: what tells least goes first."""
    if report.errors:
        return report.model_copy(update={"errors": report.errors[:-1]})
    if report.gate is not None and report.gate.failed:
        gate = report.gate.model_copy(update={"failed": report.gate.failed[:-1]})
        return report.model_copy(update={"gate": gate})
    if report.error is not None and len(report.error.message) > MAX_MESSAGE:
        message = report.error.message[: len(report.error.message) // 2]
        return report.model_copy(update={"error": report.error.model_copy(update={"message": message})})
    return report.model_copy(update={"sources": report.sources[:-1]})


def _cut(error: FileError) -> FileError:
    return FileError(file=_middle(error.file), reason=error.reason, message=_middle(error.message))


def _cut_gate(gate: GateReport | None) -> GateReport | None:
    if gate is None:
        return None
    return gate.model_copy(update={"failed": tuple(name[:MAX_ID] for name in gate.failed[:MAX_ERRORS])})


def _cut_failure(failure: Failure | None) -> Failure | None:
    if failure is None:
        return None
    return failure.model_copy(update={"message": _middle(failure.message, MAX_FAILURE)})


def _middle(text: str, limit: int = MAX_MESSAGE) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2 - 1
    return f"{text[:half]}…{text[-half:]}"


def crossed(before: Progress, after: Progress, *, step: int = 10) -> Sequence[int]:
    """Return the steps of percent that lie between two looks: what is worth a line in the log."""
    return range((before.percent // step + 1) * step, after.percent + 1, step)
