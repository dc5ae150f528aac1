# SPDX-License-Identifier: Apache-2.0
"""Turns plans, sizes and statuses into text for people or YAML for programs. Pure."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml

from nimblet.api.assistant import AssistantStatus
from nimblet.api.common import Condition, StatusModel
from nimblet.api.compactmodel import CompactModelStatus, ResolvedStatus, SizingStatus
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.cli.planning import Planned
from nimblet.cluster.status import stored_conditions
from nimblet.labels import API_VERSION
from nimblet.plan.facts import ChildRef
from nimblet.plan.result import Plan

WIDTH: Final = 110
HIDDEN: Final = "(hidden)"
"""Stands in place of a Secret's values."""


class _Dumper(yaml.SafeDumper):
    """Writes shared parts out each time: anchors are hard to read and to compare."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the library's signature
        return True


def documents_yaml(documents: Iterable[object]) -> str:
    """Return YAML documents with sorted keys and no anchors: equal values give equal bytes."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=True, width=WIDTH, explicit_start=True)


def plans_text(plans: Sequence[Planned]) -> str:
    """Return what each plan makes and what it would report, under the resource's name."""
    return "\n\n".join(f"{it.kind} {it.namespace}/{it.name}\n{plan_text(it.plan)}" for it in plans)


def plan_text(plan: Plan[StatusModel]) -> str:
    """Return what the plan makes, how it sizes a model, and its conditions, which end with the next step."""
    children = [f"  {item['kind']}/{_name(item)}" for item in plan.children]
    parts = [
        "Children, in the order of applying:",
        *(children or ["  none"]),
        *_deletions(plan.deletions),
        "",
        *(_model_lines(plan.status) if isinstance(plan.status, CompactModelStatus) else []),
        conditions_text(stored_conditions(plan.status)),
    ]
    if plan.requeue_after is not None:
        parts.append(f"Looked at again after {plan.requeue_after:g} s.")
    return "\n".join(parts)


def plans_yaml(plans: Sequence[Planned]) -> str:
    """Return each plan's children as YAML documents, Secrets without values, followed by the resource's status."""
    documents: list[object] = []
    for item in plans:
        documents += [without_secrets(dict(child)) for child in item.plan.children]
        status = item.plan.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        metadata = {"name": item.name, "namespace": item.namespace}
        documents.append({"apiVersion": API_VERSION, "kind": item.kind, "metadata": metadata, "status": status})
    return documents_yaml(documents)


def without_secrets(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest; of a Secret, with its values hidden."""
    if manifest["kind"] != "Secret":
        return manifest
    return {**manifest, "data": dict.fromkeys(manifest["data"], HIDDEN)}


def sizing_text(sizing: SizingStatus) -> str:
    """Return the arithmetic and its result."""
    return "\n".join(_sizing_lines(sizing))


def sizing_yaml(sizing: SizingStatus) -> str:
    """Return the sizing as it stands in status.sizing."""
    return yaml.safe_dump(sizing.model_dump(mode="json", by_alias=True), sort_keys=False, width=WIDTH)


def conditions_text(conditions: Sequence[Condition]) -> str:
    """Return one paragraph a condition; each message ends with the next step."""
    lines = ["Conditions:"]
    for condition in conditions:
        lines.append(f"  {condition.type}: {condition.status.value} ({condition.reason})")
        lines += textwrap.wrap(condition.message, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines if conditions else [*lines, "  none yet: the operator has not looked at it"])


def status_text(name: str, namespace: str, status: CompactModelStatus) -> str:
    """Return a model's status for people."""
    lines = [f"CompactModel {namespace}/{name}", *_endpoint_lines(status.endpoint, status.key_secret)]
    lines.append(
        f"Pods: {status.ready_replicas} of {status.replicas} answer, {status.updated_replicas} up to date"
    )
    if status.resolved is not None:
        resolved = status.resolved
        lines.append(f"Runs: {resolved.runtime} {resolved.version} on {resolved.profile}. {resolved.why}")
        lines += _hardware_lines(resolved)
    if status.artifact is not None:
        files = ", ".join(file.path for file in status.artifact.files)
        lines.append(f"Model: {files} at {status.artifact.commit}")
    return "\n".join([*lines, conditions_text(status.conditions)])


def assistant_text(name: str, namespace: str, status: AssistantStatus) -> str:
    """Return an Assistant's status for people."""
    lines = [
        f"Assistant {namespace}/{name}",
        *_endpoint_lines(status.endpoint, status.key_secret),
        f"Pods: {status.ready_replicas} of {status.replicas} answer, {status.updated_replicas} up to date",
        *(
            f"Index: {item.name} at {item.generation or 'nothing'}, {item.chunks} passages"
            for item in status.indexes
        ),
    ]
    return "\n".join([*lines, conditions_text(status.conditions)])


def index_text(name: str, namespace: str, status: RetrievalIndexStatus) -> str:
    """Return a RetrievalIndex's status for people."""
    kept = ", ".join(item.name for item in status.generations) or "none"
    lines = [
        f"RetrievalIndex {namespace}/{name}",
        *_endpoint_lines(status.endpoint, status.key_secret),
        f"Serves: {status.serving_generation or 'nothing'}",
        f"Holds: {status.documents} documents, {status.chunks} passages",
        f"Generations: {kept}",
        *(f"Left out: {item.file}: {item.reason}: {item.message}" for item in status.errors),
    ]
    return "\n".join([*lines, conditions_text(status.conditions)])


def _endpoint_lines(endpoint: str, key_secret: str) -> list[str]:
    return [f"Endpoint: {endpoint} (key: Secret {key_secret}, entry api-key)"] if endpoint else []


def _model_lines(status: CompactModelStatus) -> list[str]:
    hardware = _hardware_lines(status.resolved)
    return [*_sizing_lines(status.sizing), "", *([*hardware, ""] if hardware else [])]


def _hardware_lines(resolved: ResolvedStatus | None) -> list[str]:
    """Return what was chosen to run on, what it needs, and what was not chosen."""
    if resolved is None or resolved.hardware is None:
        return []
    chosen = resolved.hardware
    device = f", {chosen.count} x {chosen.resource}" if chosen.resource else ""
    needs = [f"  needs {', '.join(chosen.needs)}: more than restricted Pod Security"] if chosen.needs else []
    nodes = [f"  on nodes with {it.key} {it.operator} {', '.join(it.values)}" for it in chosen.node_labels]
    others = [f"  not {' '.join(filter(None, (it.profile, it.resource)))}: {it.why}" for it in chosen.alternatives]
    return [f"Hardware: {resolved.profile}{device} ({chosen.why})", *nodes, *needs, *others]


def _sizing_lines(sizing: SizingStatus | None) -> list[str]:
    if sizing is None:
        return ["Sizing: unknown until the source is resolved; give the artifact in the facts file."]
    terms = [f"  {line}" for line in sizing.formula]
    return [
        "Sizing of one replica:",
        *terms,
        f"  => memory {sizing.memory}, cpu {sizing.cpu}, {sizing.threads} thread(s)",
    ]


def _deletions(deletions: Sequence[ChildRef]) -> list[str]:
    return ["Deletions:", *(f"  {item.kind}/{item.name}" for item in deletions)] if deletions else []


def _name(manifest: Any) -> str:
    return str(manifest["metadata"]["name"])
