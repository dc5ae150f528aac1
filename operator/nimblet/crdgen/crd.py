# SPDX-License-Identifier: Apache-2.0
"""Builds a CustomResourceDefinition from a kind's Definition and its spec and status models."""

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel
from pydantic.config import JsonDict, JsonValue

from nimblet import labels
from nimblet.api import assistant, compactmodel, indexstatus, retrievalindex, teepolicy
from nimblet.api.definition import Definition, PrinterColumn, ScalePaths
from nimblet.crdgen.schema import model_schema

CATEGORY: Final = "nimblet"
"""`kubectl get nimblet` lists every kind of ours."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind: what it is called and the models of its two halves."""

    definition: Definition
    spec: type[BaseModel]
    status: type[BaseModel]

    @property
    def crd_name(self) -> str:
        """metadata.name of the CustomResourceDefinition."""
        return f"{self.definition.plural}.{labels.GROUP}"


KINDS: Final = (
    Kind(
        definition=compactmodel.DEFINITION,
        spec=compactmodel.CompactModelSpec,
        status=compactmodel.CompactModelStatus,
    ),
    Kind(
        definition=retrievalindex.DEFINITION,
        spec=retrievalindex.RetrievalIndexSpec,
        status=indexstatus.RetrievalIndexStatus,
    ),
    Kind(
        definition=assistant.DEFINITION,
        spec=assistant.AssistantSpec,
        status=assistant.AssistantStatus,
    ),
    Kind(
        definition=teepolicy.DEFINITION,
        spec=teepolicy.TEEPolicySpec,
        status=teepolicy.TEEPolicyStatus,
    ),
)


def crd_manifest(kind: Kind) -> JsonDict:
    """Return the CustomResourceDefinition of `kind`."""
    definition = kind.definition
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": labels.GROUP,
            "names": {
                "kind": definition.kind,
                "listKind": f"{definition.kind}List",
                "plural": definition.plural,
                "singular": definition.singular,
                "shortNames": list(definition.short_names),
                "categories": [CATEGORY],
            },
            "scope": "Namespaced" if definition.namespaced else "Cluster",
            "versions": [_version(kind)],
        },
    }


def _version(kind: Kind) -> JsonDict:
    definition = kind.definition
    subresources: JsonDict = {"status": {}}
    if definition.scale is not None:
        subresources["scale"] = _scale(definition.scale)
    return {
        "name": labels.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": resource_schema(kind)},
        "subresources": subresources,
        "additionalPrinterColumns": [_column(column) for column in definition.columns],
    }


def resource_schema(kind: Kind) -> JsonDict:
    """Return the schema of the whole resource; status is never required."""
    schema: JsonDict = {
        "type": "object",
        "description": kind.definition.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {labels.API_VERSION}."},
            "kind": {"type": "string", "description": f"Always {kind.definition.kind}."},
            "metadata": {"type": "object"},
            "spec": model_schema(kind.spec, defaults=True),
            "status": model_schema(kind.status, defaults=False),
        },
    }
    rules: list[JsonValue] = [rule.render() for rule in kind.definition.root_rules]
    return schema | {"x-kubernetes-validations": rules} if rules else schema


def _scale(paths: ScalePaths) -> JsonDict:
    return {
        "specReplicasPath": paths.spec_replicas,
        "statusReplicasPath": paths.status_replicas,
        "labelSelectorPath": paths.label_selector,
    }


def _column(column: PrinterColumn) -> JsonDict:
    item: JsonDict = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    return item | {"priority": column.priority} if column.priority else item
