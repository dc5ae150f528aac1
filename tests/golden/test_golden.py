# SPDX-License-Identifier: Apache-2.0
"""What the plan renders for known inputs, byte for byte: a release that changes a pod template shows it here."""

from pathlib import Path

import pytest

from tests.golden import pools, qdrant
from tests.golden.cases import INPUTS, OUTPUTS, inputs, render
from tests.golden.texts import COMMAND, HEADER


@pytest.mark.parametrize("path", inputs(), ids=lambda path: path.stem)
def test_output_is_the_committed_one(path: Path) -> None:
    target = OUTPUTS / path.name
    assert target.is_file(), f"expected {target.name} in tests/golden/out; run `{COMMAND}`"
    committed = target.read_bytes()
    assert render(path).encode() == committed, f"{target.name} differs; run `{COMMAND}` and review the difference"


def test_every_output_has_an_input() -> None:
    assert {path.name for path in OUTPUTS.iterdir()} == {path.name for path in INPUTS.iterdir()}


def test_servers_of_dedicated_stores_are_the_committed_ones() -> None:
    rendered = dict(qdrant.generate(HEADER))
    committed = {path: path.read_text(encoding="utf-8") for path in qdrant.OUTPUTS.iterdir()}
    assert rendered == committed, f"run `{COMMAND}` and review the difference"


def test_documented_placements_are_those_of_the_plan() -> None:
    for path, text in pools.generate():
        committed = path.read_text(encoding="utf-8")
        assert text == committed, f"{path.name} differs; run `{COMMAND}` and review the difference"
