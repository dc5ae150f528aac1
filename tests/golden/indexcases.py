# SPDX-License-Identifier: Apache-2.0
"""Golden cases of indexes: in facts `$revision` is the hash of the retriever, `$inputs` of what a build reads."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from nimblet import labels, names
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.cluster.parse import InvalidIndex, parse_retrievalindex
from nimblet.plan.index_build import wanted_build
from nimblet.plan.index_embedding import known_embeddings
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.retrievalindex import IndexPlan, plan_retrievalindex
from nimblet.settings import Settings
from tests.builders import NOW

FACTS: Final = TypeAdapter(IndexFacts)


class IndexCase(BaseModel):
    """One input file. `facts` has the shape of plan.indexfacts.IndexFacts."""

    model_config = ConfigDict(extra="forbid")

    about: str
    index: dict[str, Any]
    settings: Settings = Settings()
    facts: dict[str, Any] = Field(default_factory=dict)


def plan_index_case(document: Mapping[str, Any]) -> IndexPlan:
    """Return the plan of a case."""
    case = IndexCase.model_validate(document)
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
        if not isinstance(metadata, Mapping) or metadata["name"] != names.retriever(index.name):
            continue
        if labels.REVISION in metadata["labels"]:
            return str(metadata["labels"][labels.REVISION])
    return "none"
