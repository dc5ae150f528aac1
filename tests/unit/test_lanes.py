# SPDX-License-Identifier: Apache-2.0
"""How tests are spread over several workers, and what a log without a terminal tells meanwhile."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.lanes import Progress, piece_of, rank

ROOT = Path(__file__).parents[2]
PASSES = "def test_one() -> None: ...\ndef test_two() -> None: ...\n"
FILES = {
    "tests/unit/test_cheap.py": "def test_wrong() -> None:\n    assert 1 + 1 == 3\n",
    "tests/cluster/test_plane.py": PASSES,
    "e2e/scenarios/test_first.py": PASSES,
    "e2e/scenarios/grounded/test_second.py": PASSES,
    "conftest.py": 'pytest_plugins = ("tests.lanes",)\n',
    "pytest.ini": "[pytest]\naddopts = --import-mode=importlib\ntestpaths = tests e2e\n",
}


@pytest.mark.parametrize(
    ("nodeid", "piece", "place"),
    [
        ("e2e/scenarios/test_cache.py::test_a[x/y]", "e2e/scenarios", 0),
        ("e2e/scenarios/grounded/test_answers.py::test_b", "e2e/scenarios", 0),
        ("tests/faults/test_faults.py::test_c", "tests/faults/test_faults.py", 1),
        ("tests/cluster/test_tee.py::test_d", "tests/cluster/test_tee.py", 2),
        ("images/loader/tests/test_s3.py::test_e", "images/loader/tests/test_s3.py", 3),
    ],
)
def test_scenarios_are_one_piece_and_begin_first(nodeid: str, piece: str, place: int) -> None:
    assert (piece_of(nodeid), rank(nodeid)) == (piece, place)


@pytest.mark.timeout(240)  # three interpreters, beside whatever else runs
def test_two_workers_run_each_test_once_and_tell_what_failed(tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    argv = [sys.executable, "-m", "pytest", "--numprocesses=2", "-p", "no:cacheprovider"]
    done = subprocess.run(
        argv, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert re.search(r" 1 failed, 6 passed in ", told[-1]), done.stdout
    assert sum("FAILED tests/unit/test_cheap.py::test_wrong (call): " in line for line in told) == 1, done.stdout
    ended = dict(
        re.findall(r"(gw\d)\] (\S+\.py): \d tests in", line)[0][::-1] for line in told if "tests in" in line
    )
    assert ended.keys() == {name for name in FILES if name.endswith(".py") and "/" in name}, done.stdout
    scenarios = {worker for file, worker in ended.items() if file.startswith("e2e/scenarios/")}
    assert len(scenarios) == 1, done.stdout
    assert ended["tests/cluster/test_plane.py"] not in scenarios, done.stdout


def test_progress_tells_time_share_and_slow_tests() -> None:
    lines: list[str] = []
    seconds = iter((0.0, 75.0, 130.0))
    progress = Progress(say=lines.append, clock=lambda: next(seconds))
    progress.pytest_xdist_node_collection_finished(ids=["a", "b"])
    worker = SimpleNamespace(gateway=SimpleNamespace(id="gw1"))
    test, file = "tests/x.py::test_a", ("tests/x.py", 0, "")
    report = pytest.TestReport(test, file, {}, "passed", None, "teardown", duration=12, node=worker)
    progress.pytest_runtest_logreport(report)
    progress.pytest_sessionfinish()
    assert lines == [
        "[  1:15  50 % gw1] tests/x.py::test_a took 12 s",
        "[  2:10  50 % gw1] tests/x.py: 1 tests in 12 s",
    ]


def test_failure_is_told_by_its_cause() -> None:
    # Given a test whose exceptions are two, and one whose worker went
    lines: list[str] = []
    progress = Progress(say=lines.append, clock=lambda: 0.0)
    worker = SimpleNamespace(gateway=SimpleNamespace(id="gw0"), _workerinfocache="gw0")
    with pytest.raises(ExceptionGroup) as caught:
        raise ExceptionGroup("at once", [ValueError(), OSError()])
    for told in (caught.getrepr(), "first line\nworker crashed"):
        # When each is told
        report = pytest.TestReport("a.py::a", ("a.py", 0, ""), {}, "failed", told, "call", node=worker)
        progress.pytest_runtest_logreport(report)
    # Then the line has its cause
    assert "(call): " in lines[0]
    assert lines[0].endswith("ExceptionGroup: at once (2 sub-exceptions)")
    assert lines[1].endswith("(call): worker crashed")
