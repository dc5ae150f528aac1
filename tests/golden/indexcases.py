# SPDX-License-Identifier: Apache-2.0
"""Golden cases of the kind RetrievalIndex: an index and facts in `index/in/`, what the plan gives in `index/out/`.

In a case's facts `$revision` stands for the hash of the rendered template of the retriever, `$inputs` for the
hash of what a build reads.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from nimblet import labels
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.cli.show import documents_yaml
from nimblet.cluster.parse import InvalidIndex, parse_retrievalindex
from nimblet.plan.index_build import wanted_build
from nimblet.plan.index_embedding import known_embeddings
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.retrievalindex import IndexPlan, plan_retrievalindex
from nimblet.settings import Settings
from tests.builders import NOW
from tests.golden.cases import HEADER

HERE: Final = Path(__file__).parent / "index"
INPUTS: Final = HERE / "in"
OUTPUTS: Final = HERE / "out"
FACTS: Final = TypeAdapter(IndexFacts)


class IndexCase(BaseModel):
    """One input file. `facts` has the shape of plan.indexfacts.IndexFacts."""

    model_config = ConfigDict(extra="forbid")

    about: str
    index: dict[str, Any]
    settings: Settings = Settings()
    facts: dict[str, Any] = Field(default_factory=dict)


def generate() -> Iterator[tuple[Path, str]]:
    """Return every output file and its text."""
    for path in sorted(INPUTS.glob("*.yaml")):
        yield OUTPUTS / path.name, render(path)


def render(path: Path) -> str:
    """Return the output of one case: the children in order, deletions, the status."""
    case = IndexCase.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    plan = plan_case(case)
    summary: dict[str, object] = {
        "deletions": [f"{item.kind}/{item.name}" for item in plan.deletions],
        "requeueAfter": plan.requeue_after,
        "serve": plan.serve,
        "status": plan.status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return HEADER + documents_yaml([*map(dict, plan.children), summary])


def plan_case(case: IndexCase) -> IndexPlan:
    """Return the plan of a case."""
    index = parse_retrievalindex(case.index)
    if isinstance(index, InvalidIndex):
        raise TypeError(f"expected a valid RetrievalIndex in a golden case, found: {index.errors}")
    text = json.dumps(case.facts)
    blank = replace(FACTS.validate_python(json.loads(text)), deployment=None, pods=(), builds=(), retriever=None)
    known = known_embeddings(index, blank)
    inputs = wanted_build(index, blank, fingerprint=known[0].fingerprint if known else "").inputs
    text = text.replace("$revision", _revision(index, blank, case.settings)).replace("$inputs", inputs)
    return plan_retrievalindex(index, FACTS.validate_python(json.loads(text)), case.settings, NOW)


def _revision(index: RetrievalIndex, facts: IndexFacts, settings: Settings) -> str:
    for item in plan_retrievalindex(index, facts, settings, NOW).children:
        metadata = item["metadata"]
        if item["kind"] in ("StatefulSet", "Deployment") and isinstance(metadata, Mapping):
            return str(metadata["labels"][labels.REVISION])
    return "none"
