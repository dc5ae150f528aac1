# SPDX-License-Identifier: Apache-2.0
"""Every kind passes our linter, and the linter sees what it is for."""

import pytest
from pydantic.config import JsonDict

from nimblet.crdgen.crd import KINDS, Kind, resource_schema
from nimblet.crdgen.lint import schema_problems
from nimblet.crdgen.node import as_object

TEXT: JsonDict = {"type": "string", "maxLength": 5, "description": "A text."}


def problems_of(field: JsonDict, *, half: str = "spec") -> list[str]:
    empty: JsonDict = {"type": "object", "properties": {}}
    halves: JsonDict = {"spec": empty, "status": empty}
    holder: JsonDict = {"type": "object", "properties": {"it": field}}
    return schema_problems({"properties": halves | {half: holder}})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.definition.kind)
def test_every_kind_is_structural_described_and_bounded(kind: Kind) -> None:
    assert schema_problems(resource_schema(kind)) == []


def test_a_good_field_has_no_problem() -> None:
    assert problems_of(TEXT) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"$ref": "#/x"}, "spec.it: expected no $ref"),
        ({"type": "null"}, "spec.it: expected one type, found 'null'"),
        ({"description": ""}, "spec.it: expected a description"),
        ({"maxLength": None}, "spec.it: expected enum or maxLength"),
        ({"type": "object"}, "spec.it: expected properties or the type of a map's values"),
        ({"type": "array", "maxItems": 1}, "spec.it: expected x-kubernetes-list-type"),
        ({"type": "integer", "minimum": 1}, "spec.it: expected minimum and maximum"),
    ],
)
def test_a_bad_field_is_named(change: JsonDict, expected: str) -> None:
    changed: JsonDict = {key: value for key, value in (TEXT | change).items() if value is not None}
    assert any(problem.startswith(expected) for problem in problems_of(changed))


def test_a_default_in_status_is_a_problem() -> None:
    assert problems_of(TEXT | {"default": "x"}, half="status") == ["status.it: expected no default in a status"]


def test_items_of_a_list_are_checked_too() -> None:
    listed: JsonDict = {
        "type": "array",
        "maxItems": 2,
        "x-kubernetes-list-type": "atomic",
        "description": "A list.",
        "items": as_object({"type": "string"}),
    }
    assert problems_of(listed) == ["spec.it[]: expected enum or maxLength"]
