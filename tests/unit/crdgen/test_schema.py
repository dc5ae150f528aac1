# SPDX-License-Identifier: Apache-2.0
"""Each transform of the schema chain, on the smallest model that shows it."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from nimblet.crdgen.node import SchemaError, as_object
from nimblet.crdgen.schema import model_schema


class Inner(BaseModel):
    size: int = 3


class Ruled(BaseModel):
    """An object with a rule."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [{"rule": "self.size < 4"}]})

    size: int = 3
    name: str | None = None


class Tree(BaseModel):
    below: list["Tree"] = []


class Sample(BaseModel):
    made: Inner = Field(default_factory=Inner)
    ruled: Ruled = Field(default_factory=Ruled)
    maybe: Inner | None = Field(default=None, description="Perhaps.")
    needed: Inner
    only: Literal["One"] = "One"
    small: int = Field(default=1, le=9)
    above: float = Field(default=1.0, gt=0.5)
    keyed: dict[Annotated[str, StringConstraints(pattern="^a'[.]b$", max_length=9)], int] = {}
    words: list[str] = []


class Union(BaseModel):
    either: int | str


def spec_property(name: str) -> JsonDict:
    return as_object(as_object(model_schema(Sample, defaults=True)["properties"])[name])


def test_an_object_that_is_made_when_absent_gets_an_empty_default_so_that_inner_defaults_apply() -> None:
    assert spec_property("made")["default"] == {}


def test_an_object_with_rules_is_made_of_values_that_keep_them() -> None:
    assert spec_property("ruled")["default"] == {"size": 3}


def test_an_optional_object_has_no_default_and_keeps_its_own_description() -> None:
    found = spec_property("maybe")
    assert "default" not in found
    assert "anyOf" not in found
    assert found["description"] == "Perhaps."
    assert found["type"] == "object"


def test_a_required_object_has_no_default() -> None:
    assert "default" not in spec_property("needed")


def test_const_becomes_an_enum_of_one() -> None:
    assert spec_property("only") == {"default": "One", "enum": ["One"], "type": "string"}


def test_integers_name_their_width() -> None:
    assert spec_property("small")["format"] == "int32"
    inner = as_object(spec_property("needed")["properties"])
    assert as_object(inner["size"])["format"] == "int64"


def test_an_exclusive_bound_becomes_a_bound_and_a_flag() -> None:
    found = spec_property("above")
    assert (found["minimum"], found["exclusiveMinimum"]) == (0.5, True)


def test_rules_on_keys_become_cel_with_quotes_escaped() -> None:
    found = spec_property("keyed")
    assert found["additionalProperties"] == {"type": "integer", "format": "int64"}
    assert found["x-kubernetes-validations"] == [
        {
            "rule": r"self.all(key, key.size() <= 9 && key.matches('^a\'[.]b$'))",
            "message": "each key has at most 9 characters and matches ^a'[.]b$",
        }
    ]


def test_a_list_without_a_marker_is_atomic() -> None:
    assert spec_property("words")["x-kubernetes-list-type"] == "atomic"


def test_a_status_has_no_defaults() -> None:
    assert "default" not in str(model_schema(Sample, defaults=False))


def test_a_recursive_model_is_refused_by_name() -> None:
    with pytest.raises(SchemaError, match="Tree contains itself"):
        model_schema(Tree, defaults=True)


def test_a_union_is_refused_with_the_way_out() -> None:
    with pytest.raises(SchemaError, match="exactly one is set"):
        model_schema(Union, defaults=True)
