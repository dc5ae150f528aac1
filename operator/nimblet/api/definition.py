# SPDX-License-Identifier: Apache-2.0
"""What a kind needs beyond its fields to become a CustomResourceDefinition. Data only; crdgen renders it."""

from dataclasses import dataclass

from pydantic.config import JsonDict


@dataclass(frozen=True, kw_only=True)
class PrinterColumn:
    """A column of `kubectl get`."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A CEL validation rule: `message` says what to do, `path` is where the error is reported."""

    rule: str
    message: str
    field_path: str | None = None

    def render(self) -> JsonDict:
        """Return the x-kubernetes-validations item."""
        item: JsonDict = {"message": self.message, "rule": self.rule}
        if self.field_path is not None:
            item["fieldPath"] = self.field_path
        return item


def rules(*items: Rule) -> JsonDict:
    """Return the schema's extension that holds these rules."""
    return {"x-kubernetes-validations": [item.render() for item in items]}


@dataclass(frozen=True, kw_only=True)
class ScalePaths:
    """JSON paths of the /scale subresource."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    label_selector: str = ".status.selector"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One kind of ours."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    description: str
    namespaced: bool = True
    columns: tuple[PrinterColumn, ...] = ()
    root_rules: tuple[Rule, ...] = ()
    scale: ScalePaths | None = None


NAME_RULE = Rule(
    rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    message="the name must be a DNS-1035 label of at most 40 characters: children are named after it",
)
STATE_COLUMNS = (
    PrinterColumn(name="Ready", json_path='.status.conditions[?(@.type=="Ready")].status'),
    PrinterColumn(name="Serving", json_path='.status.conditions[?(@.type=="Serving")].status'),
)
AGE_COLUMN = PrinterColumn(name="Age", json_path=".metadata.creationTimestamp", type="date")
REASON_COLUMN = PrinterColumn(name="Reason", json_path='.status.conditions[?(@.type=="Ready")].reason', priority=1)
