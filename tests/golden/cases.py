# SPDX-License-Identifier: Apache-2.0
"""Golden cases: a resource and facts in `in/`, the children and status that the plan gives in `out/`.

In a CompactModel's facts `$source` stands for the source's hash, `$folder` for the cache's folder, `$folder-draft`
and `$folder-adapter-<name>` for those beside it, and `$revision` for the hash of the rendered template.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from nimblet import labels
from nimblet.api.compactmodel import CompactModel, CompactModelStatus
from nimblet.cluster.parse import InvalidModel, parse_compactmodel
from nimblet.plan.artifact import Artifact
from nimblet.plan.cache import cache_folder
from nimblet.plan.facts import ArtifactFacts, ModelFacts
from nimblet.plan.result import Plan
from nimblet.plan.teefacts import TEEFacts
from nimblet.settings import Settings
from tests.builders import NOW, Texts, hash_of, plan_of, stored, stored_adapters, stored_draft
from tests.golden.assistants import plan_assistant_case
from tests.golden.indexcases import plan_index_case
from tests.golden.texts import golden_text

HERE: Final = Path(__file__).parent
INPUTS: Final = HERE / "in"
OUTPUTS: Final = HERE / "out"
FACTS: Final = TypeAdapter(ModelFacts)


class Case(BaseModel):
    """One input file. `facts` has the shape of plan.facts.ModelFacts, `artifact` that of the resolver's JSON."""

    model_config = ConfigDict(extra="forbid")

    about: str
    model: dict[str, Any]
    settings: Settings = Settings()
    artifact: dict[str, Any] | None = None
    adapters: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What was resolved of each adapter of the spec, by name."""
    draft: dict[str, Any] | None = None
    """What was resolved of its drafting model."""
    facts: dict[str, Any] = Field(default_factory=dict)


def inputs() -> list[Path]:
    """Return the input files, sorted."""
    return sorted(INPUTS.glob("*.yaml"))


def generate() -> Iterator[tuple[Path, str]]:
    """Return every output file and its text."""
    for path in inputs():
        yield OUTPUTS / path.name, render(path)


def render(path: Path) -> str:
    """Return the output of one case: the children in order, deletions, the status."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "assistant" in document:
        return golden_text(plan_assistant_case(document))
    if "index" in document:
        return golden_text(plan_index_case(document))
    return golden_text(plan_case(Case.model_validate(document)))


def plan_case(case: Case) -> Plan[CompactModelStatus]:
    """Return the plan of a case."""
    model = parse_compactmodel(case.model)
    if isinstance(model, InvalidModel):
        raise TypeError(f"expected a valid CompactModel in a golden case, found: {model.errors}")
    trust = FACTS.validate_python({"trust": case.facts.get("trust", {})}).trust
    source = hash_of(model, case.settings, trust=trust)
    kept = _artifacts(case, model, trust)
    text = json.dumps(case.facts).replace("$source", source)
    beside = {f"adapter-{name}": held for name, held in case.adapters.items()}
    for name, held in ({**beside, "draft": case.draft} if case.draft is not None else beside).items():
        text = text.replace(f"$folder-{name}", cache_folder(Artifact.model_validate(held)))
    if case.artifact is not None:
        text = text.replace("$folder", cache_folder(Artifact.model_validate(case.artifact)))
    found = FACTS.validate_python(json.loads(text))
    cache = replace(
        ModelFacts(),
        trust=trust,
        claim=found.claim,
        fills=found.fills,
        storage_classes=found.storage_classes,
        # as a first pass sees them: what is there decides on no template
        tee=replace(found.tee, workloads=(), pods=()),
        nodes=found.nodes,
        transport=found.transport,
    )
    first = replace(cache, artifacts=kept)
    # where policies let nothing be made, what is there was made before them
    revision = _revision(model, first, case.settings) or _revision(
        model, replace(first, tee=TEEFacts()), case.settings
    )
    facts = FACTS.validate_python(json.loads(text.replace("$revision", revision or "none")))
    return plan_of(model, replace(facts, artifacts=(*facts.artifacts, *kept)), settings=case.settings, now=NOW)


def _artifacts(case: Case, model: CompactModel, trust: Texts) -> tuple[ArtifactFacts, ...]:
    if case.artifact is None:
        return ()
    text = json.dumps(case.artifact, sort_keys=True, separators=(",", ":"))
    own = stored(model, text, settings=case.settings, trust=trust)
    draft = stored_draft(model, json.dumps(case.draft, sort_keys=True), settings=case.settings, trust=trust)
    further = (draft,) if case.draft is not None else ()
    return (own, *stored_adapters(model, case.adapters, settings=case.settings, trust=trust), *further)


def _revision(model: CompactModel, facts: ModelFacts, settings: Settings) -> str:
    for item in plan_of(model, facts, settings=settings, now=NOW).children:
        metadata = item["metadata"]
        if item["kind"] == "Deployment" and isinstance(metadata, Mapping):
            return str(metadata["labels"][labels.REVISION])
    return ""
