# SPDX-License-Identifier: Apache-2.0
"""Rules of the repository itself."""

import os
import re
from pathlib import Path

from pydantic.alias_generators import to_camel

from nimblet.conditions import Reason
from nimblet.nextstep import NEXT_STEP
from nimblet.settings import Settings, SettingsModel

ROOT = Path(__file__).parents[2]
SPDX = "SPDX-License-Identifier: Apache-2.0"


def test_operator_folder_is_no_package() -> None:
    """With an __init__.py, operator/ would shadow the standard library's module and Python would not start."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_failure_modes_lists_every_reason_once() -> None:
    text = (ROOT / "docs" / "failure-modes.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(reason.value for reason in Reason)


def test_tests_named_in_documents_exist() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    named = {found for text in texts for found in re.findall(r"`([\w/]+\.py)::(test_\w+)`", text)}
    assert named
    missing = [
        f"{file}::{test}"
        for file, test in sorted(named)
        if not (ROOT / file).is_file() or f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_promise_of_security_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    promises = text.partition("## What is defended")[2].partition("\n## ")[0]
    rows = [row for row in promises.splitlines() if row.startswith("| ") and not row.startswith("| claim")]
    assert len(rows) > 40
    assert [row for row in rows if not _tests_exist(row.split(" | ")[-1])] == []


def _tests_exist(cell: str) -> bool:
    """Tell whether a table's cell names tests that are there; `::name` alone is one of the file before it."""
    file, found = "", False
    for path, name in re.findall(r"`([\w/]*(?:\.py)?)(?:::(test_\w+))?`", cell):
        file = path or file
        text = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).is_file() else ""
        found = f"def {name or 'test_'}{'(' if name else ''}" in text
        if not found:
            return False
    return found


def test_failure_modes_tells_the_same_next_step_as_the_conditions() -> None:
    rows = (ROOT / "docs" / "failure-modes.md").read_text(encoding="utf-8").splitlines()
    shown = {row.split("`")[1]: row.split(" | ")[3] for row in rows if row.startswith("| `")}
    assert {reason: shown[reason] for reason in NEXT_STEP} == dict(NEXT_STEP)


def test_operations_names_every_setting_and_metric() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    source = (ROOT / "operator" / "nimblet" / "shell" / "metrics.py").read_text(encoding="utf-8")
    wanted = set(re.findall(r'"(nimblet_\w+)"', source))
    for name, field in Settings.model_fields.items():
        parts = field.annotation
        inner = parts.model_fields if isinstance(parts, type) and issubclass(parts, SettingsModel) else {}
        wanted |= {f"{to_camel(name)}.{to_camel(part)}" for part in inner} or {to_camel(name)}
    assert sorted(name for name in wanted if f"`{name}`" not in text) == []


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        if document.name != "api.md"  # generated; its patterns look like links
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert dead == []


def test_sources_carry_the_licence() -> None:
    folders = ("operator", "images", "e2e", "tests", "charts", "samples")
    bare = [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.stat().st_size and SPDX not in path.read_text(encoding="utf-8")[:300]
    ]
    assert bare == []


def test_scripts_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_make_target_tells_what_it_does() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.findall(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)
    targets = {target for line in phony for target in line.split()}
    assert {"demo", "test", "check", "gen", "up", "down", "images", "bench"} <= targets
    undocumented = [
        target for target in sorted(targets) if not re.search(rf"^{target}:.*## \S", text, re.MULTILINE)
    ]
    assert undocumented == []
