# SPDX-License-Identifier: Apache-2.0
"""Reads the golden questions that a generation must answer before it serves. Parsing only; tells none of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from nimblet_indexer.config import Gate
from nimblet_indexer.outcome import BuildFailed, Outcome

MAX_QUESTIONS: Final = 2000
"""What the retriever takes in one request."""


class _Golden(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    question: Annotated[str, StringConstraints(min_length=1, max_length=8000)]
    document: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    quote: Annotated[str, StringConstraints(min_length=1, max_length=8000)]


def gate_request(gate: Gate) -> Mapping[str, object]:
    """Return what the retriever is asked. BuildFailed GateInvalid names the line, never its words."""
    try:
        lines = gate.file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(gate.file, f"it can't be read as UTF-8 ({type(error).__name__})") from error
    questions = [_parsed(gate.file, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not 1 <= len(questions) <= MAX_QUESTIONS:
        raise _invalid(gate.file, f"it has {len(questions)} questions, and 1 to {MAX_QUESTIONS} are asked")
    if len({golden.id for golden in questions}) < len(questions):
        raise _invalid(gate.file, "two questions have the same id")
    bounds = {"minRecall": gate.min_recall, "minMRR": gate.min_mrr, "minNDCG": gate.min_ndcg}
    return {
        "questions": [golden.model_dump() for golden in questions],
        "k": gate.k,
        **{name: bound for name, bound in bounds.items() if bound is not None},
    }


def _parsed(path: Path, number: int, line: str) -> _Golden:
    try:
        return _Golden.model_validate_json(line)
    except ValidationError as error:
        flaws = "; ".join(f"{'.'.join(map(str, flaw['loc'])) or 'JSON'}: {flaw['msg']}" for flaw in error.errors())
        raise _invalid(path, f"line {number} is none ({flaws})") from error


def _invalid(path: Path, found: str) -> BuildFailed:
    return BuildFailed(
        Outcome.GateInvalid,
        f"Expected golden questions as JSON lines of id, question, document and quote in {path.name}; {found}. "
        "Correct the ConfigMap of qualityGate.goldenRef.",
    )
