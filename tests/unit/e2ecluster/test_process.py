# SPDX-License-Identifier: Apache-2.0
"""A process is known by id and start time, so a stranger with the same id is never signalled."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.process import (
    Command,
    ProcessRecord,
    is_alive,
    log_tail,
    parse_start_ticks,
    parse_state,
    records_from_json,
    records_to_json,
    start,
    stop_all,
    wait_until,
)

STAT = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 9"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ProcessRecord]:
    record = start(Command(name="sleeper", argv=("sleep", "60"), log=tmp_path / "sleeper.log"))
    yield record
    stop_all([record], grace_seconds=5)


def test_stat_is_parsed_behind_the_command_name() -> None:
    assert parse_start_ticks(STAT) == 777
    assert parse_state(STAT) == "S"


def test_records_survive_json() -> None:
    records = (ProcessRecord("etcd", 12, 34, "boot"), ProcessRecord("kubelet", 56, 78, "boot"))
    assert records_from_json(records_to_json(records)) == records


@pytest.mark.parametrize("text", ["", "[1]", '[{"pid": 1}]'])
def test_broken_records_are_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="expected process records"):
        records_from_json(text)


def test_a_started_process_is_alive_until_stopped(sleeper: ProcessRecord) -> None:
    assert is_alive(sleeper)
    stop_all([sleeper], grace_seconds=5)
    assert not is_alive(sleeper)


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot": "another"}])
def test_a_stranger_with_the_same_id_is_left_alone(sleeper: ProcessRecord, change: dict[str, str]) -> None:
    stranger = replace(sleeper, **change)  # type: ignore[arg-type]  # values of two types
    assert not is_alive(stranger)
    stop_all([stranger], grace_seconds=0)
    assert is_alive(sleeper)


def test_one_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "stubborn.log"
    stubborn = start(
        Command(name="stubborn", argv=("sh", "-c", "trap '' TERM; echo up; sleep 60 & wait; wait"), log=log)
    )
    wait_until(lambda: "up" in log_tail(log), seconds=60, what="the trap")
    stop_all([stubborn], grace_seconds=0.1)
    assert not is_alive(stubborn)


def test_a_process_may_die_with_its_starter(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = os.fork()
    if child == 0:
        try:
            made = start(Command(name="grandchild", argv=("sleep", "60"), log=log, dies_with_parent=True))
            (tmp_path / "record").write_text(records_to_json([made]))
            # long enough for setpriv to have become sleep
            comm = Path(f"/proc/{made.pid}/comm")
            wait_until(lambda: comm.read_text().strip() == "sleep", seconds=60, what="sleep")
        finally:  # or a second pytest would go on from here
            os._exit(0)
    os.waitpid(child, 0)
    (record,) = records_from_json((tmp_path / "record").read_text())
    wait_until(lambda: not is_alive(record), seconds=60, what="the grandchild's end")


def test_waiting_ends_at_once_with_the_log_when_a_watched_process_dies(tmp_path: Path) -> None:
    log = tmp_path / "broken.log"
    broken = start(Command(name="broken", argv=("sh", "-c", "echo no such flag; exit 1"), log=log))
    with pytest.raises(ClusterError, match=r"broken ended while waiting for readiness(.|\n)*no such flag"):
        wait_until(lambda: False, seconds=60, what="readiness", watched=[(broken, log)])
    stop_all([broken], grace_seconds=0)


def test_waiting_ends_at_the_deadline() -> None:
    with pytest.raises(ClusterError, match="expected a miracle within 0 s"):
        wait_until(lambda: False, seconds=0.1, what="a miracle")
