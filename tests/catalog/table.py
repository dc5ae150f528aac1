# SPDX-License-Identifier: Apache-2.0
"""What the plan makes of every CompactModel of the catalogue on every class: the table of docs/catalog.md. Pure.

The operator's own functions, with the sample's file, its facts and the make-believe nodes as a user has them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nimblet.api.compactmodel import CompactModel, CompactModelStatus
from nimblet.cli.factsfile import FactsFile
from nimblet.cli.inputs import offline_facts, read_facts, read_models, read_settings
from nimblet.conditions import ConditionType, Reason
from nimblet.merging import find
from nimblet.nextstep import NEXT_STEP
from nimblet.plan.compactmodel import plan_compactmodel
from nimblet.plan.result import Plan
from nimblet.quantity import human_bytes
from nimblet.settings import Settings
from tests.builders import NOW
from tests.catalog.checked import SHAPES
from tests.catalog.entries import ENTRIES
from tests.catalog.facts import refusal
from tests.catalog.record import Entry
from tests.catalog.samples import CATALOG, billions

CLASSES: Final[Mapping[str, str]] = {
    "cpu": "cpu",
    "xeon": "xeon",
    "nvidia": "nvidia",
    "MIG": "nvidia",
    "gaudi": "gaudi",
    "intel-gpu": "intel-gpu",
    "amd": "amd",
}
"""Column → the profile that is asked for there; nodes/<column> has its nodes."""
DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "catalog.md"
BEGIN: Final = "<!-- catalogue: `make gen` writes the rest from tests/catalog -->\n"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What comes of a model on a class: its server and memory, or why there is none."""

    model: CompactModel
    column: str
    reason: str = ""
    message: str = ""
    runtime: str = ""
    devices: int = 0
    memory_bytes: int = 0
    """Of the devices, where there are any; else of the pod."""
    fits: bool = True

    @property
    def cell(self) -> str:
        """Return it as the table shows it."""
        if self.reason:
            return f"`{self.reason}`"
        memory = human_bytes(self.memory_bytes)
        many = f"{self.devices} x " if self.devices > 1 else ""
        return f"{self.runtime} {many}{memory}" + ("" if self.fits else ", waits")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The nodes of each column, and what the administrator says of them."""

    nodes: Mapping[str, FactsFile]
    settings: Settings


def places() -> Place:
    """Return the make-believe nodes."""
    folder = CATALOG / "nodes"
    nodes = {column: read_facts([folder / f"{column.lower()}.yaml"]) for column in CLASSES}
    return Place(nodes=nodes, settings=read_settings(folder / "settings.yaml"))


def outcomes(entry: Entry, place: Place, *, allow_large: bool = False) -> Iterator[Outcome]:
    """Return what comes of each of the entry's models on each class."""
    refused, settings = refusal(entry), place.settings
    told = read_facts([] if refused is not None else [CATALOG / "facts" / f"{entry.name}.json"])
    for model in read_models(CATALOG / f"{entry.name}.yaml", namespace=None):
        for column, profile in CLASSES.items():
            if refused is not None:
                yield Outcome(model=model, column=column, reason=refused.reason.name, message=str(refused))
                continue
            hardware = model.spec.hardware.model_copy(update={"profile": profile})
            asked = {"hardware": hardware, "allow_large": allow_large}
            placed = model.model_copy(update={"spec": model.spec.model_copy(update=asked)})
            known = told.model_copy(update={"nodes": place.nodes[column].nodes})
            facts = offline_facts(known, placed, settings)
            yield _outcome(placed, column, plan_compactmodel(placed, facts, settings, NOW))


def _outcome(model: CompactModel, column: str, plan: Plan[CompactModelStatus]) -> Outcome:
    status = plan.status
    if not any(child["kind"] == "Deployment" for child in plan.children):
        ready = find(status.conditions, ConditionType.READY)
        if ready is None:
            raise ValueError(f"expected a condition Ready of {model.name} on {column}, found none")
        step = NEXT_STEP.get(Reason(ready.reason), "")
        return Outcome(
            model=model, column=column, reason=ready.reason, message=ready.message.removesuffix(step).strip()
        )
    resolved, sizing, placed = status.resolved, status.sizing, find(status.conditions, ConditionType.PLACED)
    if resolved is None or resolved.hardware is None or sizing is None or placed is None:
        raise ValueError(f"expected hardware and sizes of {model.name} on {column}, found {status}")
    waits = placed.message.startswith("No node")
    return Outcome(
        model=model,
        column=column,
        runtime=resolved.runtime,
        devices=resolved.hardware.count,
        memory_bytes=sizing.device_memory_bytes or sizing.total_bytes,
        fits=not waits,
        message=placed.message if waits else "",
    )


def planned() -> dict[str, list[Outcome]]:
    """Return what comes of every model, by the entry's name."""
    place = places()
    return {entry.name: list(outcomes(entry, place)) for entry in ENTRIES}


def document(rows: Mapping[str, list[Outcome]]) -> tuple[Path, str]:
    """Return docs/catalog.md with the table as the plan gives it."""
    before, begin, _ = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    if not begin:
        raise ValueError(f"expected the line {BEGIN!r} in {DOCUMENT.name}; put it back")
    return DOCUMENT, f"{before}{begin}\n{_table(rows)}\n{_reasons(rows)}\n{_sources()}"


def _table(rows: Mapping[str, list[Outcome]]) -> str:
    head = ["model", "parameters", "format", "context x slots", *CLASSES]
    lines = ["## Where each fits\n\n", _row(head), _row(["---"] * len(head))]
    for entry in ENTRIES:
        for name, found in _by_model(rows[entry.name]).items():
            spec = found[0].model.spec
            slots = f"{spec.runtime.context_length} x {spec.runtime.parallel}"
            format_ = _format(entry, name)
            link = f"[{name}](../samples/catalog/{entry.name}.yaml)"
            lines.append(_row([link, billions(entry), format_, slots, *(item.cell for item in found)]))
    return "".join(lines)


def _by_model(found: list[Outcome]) -> dict[str, list[Outcome]]:
    told: dict[str, list[Outcome]] = {}
    for item in found:
        told.setdefault(item.model.name, []).append(item)
    return told


def _format(entry: Entry, name: str) -> str:
    if entry.listing:
        return "pickled"
    if entry.gguf is not None and not name.endswith("-safetensors"):
        return f"GGUF {entry.gguf.quantization}"
    return "safetensors"


def _reasons(rows: Mapping[str, list[Outcome]]) -> str:
    """Return why not, each message once for the models and classes that it holds of."""
    told: dict[str, dict[str, list[str]]] = {}
    for item in (item for found in rows.values() for item in found if item.message):
        told.setdefault(item.message, {}).setdefault(item.model.name, []).append(item.column)
    lines = ["## Why not\n\n"]
    for message, models in told.items():
        columns = [", ".join(found) for found in models.values()]
        everywhere = len(models) > 1 and len(set(columns)) == 1
        named = ", ".join(models) if everywhere else ""
        where = (
            f"{named} on {columns[0]}"
            if everywhere
            else "; ".join(f"{name} on {column}" for name, column in zip(models, columns, strict=True))
        )
        lines.append(f"- {where}: {message}\n")
    return "".join(lines)


def _sources() -> str:
    head = ["model", "licence", "gated", "shape by config.json of", "shape also told by", "parameters by", "note"]
    lines = ["## Licences and sources\n\n", _row(head), _row(["---"] * len(head))]
    for entry in ENTRIES:
        gated = "yes" if entry.gated else ""
        by = f"{entry.parameters.source}"
        also = SHAPES[entry.name].source if entry.name in SHAPES else ""
        lines.append(_row([entry.title, entry.licence, gated, f"`{entry.config_source}`", also, by, entry.note]))
    return "".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
