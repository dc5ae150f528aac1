# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin for several workers (`-n 2`, as `make test` has it): what stays together, and what is told.

The scenarios on the disposable cluster are one lane: they begin first and stay on one worker, in their order.
Every other file is a piece of its own for whoever is free, the long ones first. Without `-n` it does nothing.
It must not decide what is tested, or how.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

SCENARIOS: Final = "e2e/scenarios"
ORDER: Final = (SCENARIOS, "tests/faults", "tests/cluster")
"""What takes longest is begun first, so that no worker is left with a long piece at the end."""
SLOW_SECONDS: Final = 10.0
"""A test that took longer gets a line of its own."""


def piece_of(nodeid: str) -> str:
    """Return what a test is handed out with: all scenarios, or its file."""
    file = nodeid.partition("::")[0]
    return SCENARIOS if file.startswith(f"{SCENARIOS}/") else file


def rank(nodeid: str) -> int:
    """Return the place in the order in which pieces are begun."""
    places = (number for number, folder in enumerate(ORDER) if nodeid.startswith(f"{folder}/"))
    return next(places, len(ORDER))


class Lanes(LoadScopeScheduling):
    """Hands out pieces in the order in which the workers have the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return piece_of(nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the items of a worker in order; pytest alone keeps its own."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    """Hand out by lanes, whatever `--dist` says."""
    config.option.loadscopereorder = False
    return Lanes(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Tell the progress of several workers file by file, unless more (`-v`) or less (`-q`) was asked for."""
    plugins = session.config.pluginmanager
    reporter = plugins.getplugin("terminalreporter")
    if plugins.hasplugin("dsession") and reporter is not None and session.config.get_verbosity() == 0:
        plugins.register(Progress(say=reporter.write_line), "lanes-progress")


@dataclass
class Piece:
    """A file that a worker has."""

    file: str
    tests: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By test."""


@dataclass
class Progress:
    """One line when a worker is through with a file, after a slow test, and at once after a failed one."""

    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)
    total: int = 0
    done: int = 0
    under_way: dict[str, Piece] = field(default_factory=dict)
    """By worker."""

    def __post_init__(self) -> None:
        """The clock runs from here."""
        self.began = self.clock()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Each worker finds all tests."""
        self.total = len(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count as pytest does, without a letter for each test."""
        if report.skipped or hasattr(report, "wasxfail"):
            return None
        if report.failed:
            return ("failed" if report.when == "call" else "error"), "", ""
        return ("passed" if report.when == "call" else ""), "", ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a report, which xdist gave the worker that it is from."""
        worker, file = str(report.node.gateway.id), report.nodeid.partition("::")[0]
        if worker in self.under_way and self.under_way[worker].file != file:
            self._close(worker)
        piece = self.under_way.setdefault(worker, Piece(file))
        piece.seconds[report.nodeid] += report.duration
        if report.failed:
            self._tell(worker, f"FAILED {report.nodeid} ({report.when}): {_cause(report)}")
        if report.when == "teardown":
            piece.tests += 1
            self.done += 1
            if piece.seconds[report.nodeid] > SLOW_SECONDS:
                self._tell(worker, f"{report.nodeid} took {piece.seconds[report.nodeid]:.0f} s")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Tell of the last files."""
        for worker in tuple(self.under_way):
            self._close(worker)

    def _close(self, worker: str) -> None:
        piece = self.under_way.pop(worker)
        self._tell(worker, f"{piece.file}: {piece.tests} tests in {sum(piece.seconds.values()):.0f} s")

    def _tell(self, worker: str, text: str) -> None:
        minutes, seconds = divmod(int(self.clock() - self.began), 60)
        share = 100 * self.done // max(self.total, 1)
        self.say(f"[{minutes:3}:{seconds:02} {share:3} % {worker}] {text}")


def _cause(report: pytest.TestReport) -> str:
    """Return one line: the last of the text would be a frame where several exceptions came at once."""
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (report.longreprtext.strip() if crash is None else str(crash)).splitlines() or ["?"]
    return lines[-1] if crash is None else lines[0]
