# SPDX-License-Identifier: Apache-2.0
"""The texts around a definition, and the limits they keep."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nimblet.crdgen.crd import KINDS, crd_manifest
from nimblet.crdgen.node import SchemaError
from nimblet.crdgen.outputs import MAX_CRD_BYTES, Places, generate
from nimblet.crdgen.reference import reference_text
from nimblet.crdgen.text import KEEP, chart_crd_text, crd_text

KIND = KINDS[0]
MANIFEST = crd_manifest(KIND)


def test_the_text_parses_back_to_the_manifest() -> None:
    assert yaml.safe_load(crd_text(MANIFEST)) == MANIFEST


def test_the_charts_copy_differs_in_the_keep_annotation_only() -> None:
    lines = chart_crd_text(MANIFEST).splitlines()
    assert (lines[0], lines[-1]) == ("{{- if .Values.crds.enabled }}", "{{- end }}")
    body = yaml.safe_load("\n".join(lines[1:-1]))
    assert body["metadata"].pop("annotations") == KEEP
    assert body == MANIFEST


def test_a_description_that_helm_would_run_is_refused() -> None:
    with pytest.raises(SchemaError, match="helm would take it for code"):
        chart_crd_text({"metadata": {"name": "x"}, "description": "{{ .Values.secret }}"})


def test_a_definition_that_client_side_apply_could_not_store_is_refused() -> None:
    long = replace(KIND, definition=replace(KIND.definition, description="x" * MAX_CRD_BYTES))
    with pytest.raises(ValueError, match="shorten descriptions"):
        generate(Places(), kinds=[long])


def test_the_places_are_those_of_the_call() -> None:
    places = Places(crds=Path("a"), chart=Path("b"), reference=Path("c.md"))
    assert {path.parts[0] for path in generate(places)} == {"a", "b", "c.md"}


def test_the_reference_names_each_kind_and_escapes_table_bars() -> None:
    text = reference_text(KINDS)
    assert all(f"## {kind.definition.kind}\n" in text for kind in KINDS)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}
