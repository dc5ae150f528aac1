# SPDX-License-Identifier: Apache-2.0
"""What is committed is what the models say."""

from pathlib import Path

import pytest

from nimblet.crdgen.__main__ import main
from nimblet.crdgen.outputs import Places, generate, stale_files

ROOT = Path(__file__).parents[2]
DEFAULT = Places()
PLACES = Places(crds=ROOT / DEFAULT.crds, chart=ROOT / DEFAULT.chart, reference=ROOT / DEFAULT.reference)


def test_generated_files_are_the_committed_ones() -> None:
    stale = [str(path.relative_to(ROOT)) for path in stale_files(generate(PLACES))]
    assert stale == [], f"expected the generated text in {', '.join(stale)}; run `make gen`"


def test_no_definition_lies_about_that_is_not_generated() -> None:
    expected = set(generate(PLACES)) - {PLACES.reference}
    assert {*PLACES.crds.iterdir(), *PLACES.chart.iterdir()} == expected


def test_generating_twice_gives_the_same_bytes() -> None:
    assert generate(PLACES) == generate(PLACES)


def test_check_names_the_file_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--out", str(tmp_path), "--chart", str(tmp_path / "chart"), "--reference", str(tmp_path / "api.md")]
    assert main([*argv, "--check"]) == 1
    complaint = capsys.readouterr().err
    assert "nimblet.dev_compactmodels.yaml" in complaint
    assert "run `make gen`" in complaint
    assert main(argv) == 0
    assert main([*argv, "--check"]) == 0
