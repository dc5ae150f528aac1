# SPDX-License-Identifier: Apache-2.0
"""Long-running child processes, known by process id AND start time AND boot.

A process id alone may belong to a stranger by the time it is stopped, so nothing here signals a process
whose start time differs from the recorded one.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from e2e.cluster.errors import ClusterError

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ProcessRecord:
    """One started process: `start_ticks` is field 22 of /proc/PID/stat (see proc(5)), `boot` the boot's id."""

    name: str
    pid: int
    start_ticks: int
    boot: str


@dataclass(frozen=True)
class Command:
    """What to start: `log` gets both outputs; `dies_with_parent` ends it when its starter dies."""

    name: str
    argv: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    dies_with_parent: bool = False


def parse_start_ticks(stat: str) -> int:
    """Return the start time out of a /proc/PID/stat line; the command in it may hold blanks and brackets."""
    fields_after_command = stat.rpartition(")")[2].split()
    return int(fields_after_command[19])


def parse_state(stat: str) -> str:
    """Return the state letter out of a /proc/PID/stat line."""
    return stat.rpartition(")")[2].split()[0]


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def is_alive(record: ProcessRecord) -> bool:
    """Tell whether exactly this process still runs; a zombie does not."""
    if record.boot != boot_id():
        return False
    try:
        stat = Path(f"/proc/{record.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return parse_start_ticks(stat) == record.start_ticks and parse_state(stat) not in "ZX"


def start(command: Command) -> ProcessRecord:
    """Start a process in a session of its own, its output appended to the log."""
    argv = list(command.argv)
    if command.dies_with_parent:
        argv = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
    command.log.parent.mkdir(parents=True, exist_ok=True)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # posix_spawn and not Popen: the process outlives this program, and a record is all that is kept of it
    pid = os.posix_spawnp(
        argv[0],
        argv,
        {**os.environ, **command.environment},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(command.log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return ProcessRecord(name=command.name, pid=pid, start_ticks=parse_start_ticks(stat), boot=boot_id())


def stop_all(records: Iterable[ProcessRecord], *, grace_seconds: float) -> None:
    """Ask every process to end, kill those that have not after `grace_seconds`, and wait for them."""
    remaining = [each for each in records if is_alive(each)]
    for signal_number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        for each in remaining:
            _signal(each, signal_number)
        deadline = time.monotonic() + patience
        while (remaining := [each for each in remaining if _runs(each)]) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    if remaining:
        names = ", ".join(f"{each.name} (pid {each.pid})" for each in remaining)
        message = f"expected these processes to end after SIGKILL: {names}; look at their state in /proc"
        raise ClusterError(message)


def wait_until(
    condition: Callable[[], bool], *, seconds: float, what: str, watched: Sequence[tuple[ProcessRecord, Path]] = ()
) -> None:
    """Wait for `condition`; fail at once, with the log's end, when a watched process dies."""
    deadline = time.monotonic() + seconds
    while not condition():
        for record, log in watched:
            if not is_alive(record):
                message = f"{record.name} ended while waiting for {what}; the end of {log}:\n{log_tail(log)}"
                raise ClusterError(message)
        if time.monotonic() > deadline:
            logs = "".join(f"\n{log}:\n{log_tail(log)}" for _, log in watched[:1])
            message = f"expected {what} within {seconds:.0f} s; it did not come.{logs}"
            raise ClusterError(message)
        time.sleep(POLL_SECONDS)


def log_tail(log: Path, *, lines: int = 15) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return "  (no log)"
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "\n".join(f"  {each}" for each in text)


def records_to_json(records: Sequence[ProcessRecord]) -> str:
    """Return the records as JSON, for `records_from_json`."""
    return json.dumps([asdict(each) for each in records], indent=2) + "\n"


def records_from_json(text: str) -> tuple[ProcessRecord, ...]:
    """Parse what `records_to_json` wrote."""
    try:
        return tuple(ProcessRecord(**each) for each in json.loads(text))
    except (TypeError, ValueError) as error:
        message = f"expected process records, found something else ({error}); remove the file and its processes"
        raise ClusterError(message) from error


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    if is_alive(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)


def _runs(record: ProcessRecord) -> bool:
    """Tell whether it still runs, after reaping it if it is our own child."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)
    return is_alive(record)
