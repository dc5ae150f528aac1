# SPDX-License-Identifier: Apache-2.0
"""The second look at failed tests: what gets one, and that failing twice is failing."""

from pathlib import Path

import pytest

from tests.again import files_of, main

FLAKY = """
from pathlib import Path

def test_fails_once():
    seen = Path("seen")
    known = seen.exists()
    seen.touch()
    assert known
"""


def test_whole_files_of_few_failures_are_asked_again() -> None:
    assert files_of(["b.py::test[x]", "a.py::test", "b.py::test[y]"], most=3) == ("a.py", "b.py")


@pytest.mark.parametrize(("failed", "most"), [([], 3), (["a.py::a", "a.py::b"], 1), (["a.py::a"], 0)])
def test_nothing_or_too_much_gets_no_second_look(failed: list[str], most: int) -> None:
    assert files_of(failed, most=most) == ()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, whose last run failed in one test."""
    monkeypatch.chdir(tmp_path)
    noted = tmp_path / ".pytest_cache/v/cache/lastfailed"
    noted.parent.mkdir(parents=True)
    noted.write_text('{"test_it.py::test_fails_once": true}')
    return tmp_path


def test_what_passes_the_second_time_is_named_and_passes(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # Given a test that its first run has left a mark of
    (folder / "test_it.py").write_text(FLAKY)
    (folder / "seen").touch()
    # When it is asked again
    status = main(["--status", "1", "--most", "3", "-q"])
    # Then it passes, its name stands in the log, and pytest has the last word
    assert status == pytest.ExitCode.OK
    told = capfd.readouterr().out
    assert "test_it.py::test_fails_once" in told
    assert "1 passed" in told.splitlines()[-1]


def test_what_fails_twice_has_failed(folder: Path) -> None:
    (folder / "test_it.py").write_text("def test_fails_once():\n    assert False\n")
    assert main(["--status", "1", "--most", "3", "-q"]) == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("status", [2, 3, 4, 5])
def test_run_that_broke_off_stays_broken(folder: Path, status: int) -> None:
    (folder / "test_it.py").write_text("def test_fails_once():\n    pass\n")
    assert main([f"--status={status}", "--most=3"]) == status
