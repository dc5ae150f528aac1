# SPDX-License-Identifier: Apache-2.0
"""The cgroup below which every container of one cluster lives: made before the kubelet, emptied at the end.

Handles version 1 (one tree a controller) and version 2 (one tree). Because all containers are below it,
killing its processes kills them all and nobody else.
"""

import os
import signal
import time
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.process import POLL_SECONDS

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS_V2 = "+cpu +cpuset +memory +pids"
WEIGHTS = {"cpu.shares": "4096", "cpu.weight": "400"}
"""Of versions 1 and 2, four times the default: else all pods together weigh as much as one busy program."""


def trees(root: Path = ROOT) -> tuple[Path, ...]:
    """Return the mounted hierarchies: the root itself for version 2, else its folders (links left out)."""
    if (root / "cgroup.controllers").is_file():
        return (root,)
    return tuple(sorted(each for each in root.iterdir() if each.is_dir() and not each.is_symlink()))


def create(name: str, *, root: Path = ROOT) -> None:
    """Create the cgroup in every hierarchy; the kubelet refuses to start below an absent one."""
    for tree in trees(root):
        if (tree / "cgroup.subtree_control").is_file() and tree == root:
            (tree / "cgroup.subtree_control").write_text(CONTROLLERS_V2, encoding="ascii")
        group = tree / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # version 1 only: an empty cpuset takes no process
            if (tree / setting).is_file() and tree != root:
                (group / setting).write_bytes((tree / setting).read_bytes())
        for setting, weight in WEIGHTS.items():
            if (group / setting).is_file():
                (group / setting).write_text(weight, encoding="ascii")


def processes(name: str, *, root: Path = ROOT) -> frozenset[int]:
    """Return the ids of all processes below the cgroup."""
    found: set[int] = set()
    for tree in trees(root):
        for folder, _, _ in os.walk(tree / name):  # which passes over groups that go away meanwhile
            try:
                lines = (Path(folder) / "cgroup.procs").read_text(encoding="ascii")
                found.update(int(line) for line in lines.split())
            except (FileNotFoundError, OSError):
                continue  # the group went away while it was read
    return frozenset(found)


def kill(name: str, *, seconds: float = 15.0, root: Path = ROOT) -> int:
    """Kill every process below the cgroup and wait until it is empty; returns how many there were."""
    first = processes(name, root=root)
    deadline = time.monotonic() + seconds
    while remaining := processes(name, root=root):
        for pid in remaining:
            _kill(pid)
        if time.monotonic() > deadline:
            message = f"expected cgroup {name} to be empty after SIGKILL, found processes {sorted(remaining)}"
            raise ClusterError(message)
        time.sleep(POLL_SECONDS)
    return len(first)


def remove(name: str, *, root: Path = ROOT) -> None:
    """Remove the emptied cgroup and all below it, in every hierarchy."""
    for tree in trees(root):
        group = tree / name
        if not group.is_dir():
            continue
        inner = [Path(path) for path, _, _ in os.walk(group, topdown=False)]
        for each in inner:
            each.rmdir()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
