# SPDX-License-Identifier: Apache-2.0
"""Takes a native cluster down, whatever state it is in, and leaves nothing of it.

Everything is found by the plan's rules (names, folders, the cgroup) and by the process records, so this works
after a killed `up` too. A process is only ended if it is recorded with its start time, is in the cluster's own
cgroup, or is one of the cluster's programs with the cluster's own folder on its command line.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from e2e.cluster import cgroups, process
from e2e.cluster.errors import ClusterError
from e2e.cluster.nodeplan import NodePlan
from e2e.cluster.process import ProcessRecord
from e2e.cluster.progress import Progress
from e2e.cluster.tools import APISERVER, CONTROLLER_MANAGER, ETCD, KUBE_PROXY, KUBELET, SCHEDULER

GRACE_SECONDS = 2.0
SHIM = "containerd-shim-runc-v2"
PROGRAMS = frozenset(
    {each.name for each in (APISERVER, CONTROLLER_MANAGER, ETCD, KUBE_PROXY, KUBELET, SCHEDULER)}
    | {"containerd", SHIM, "runc", "ctr"}
)
CONTAINER_LOG_LINKS = Path("/var/log/containers")
"""Where a kubelet puts links to its logs; the path is fixed in its source."""
CNI_RESULTS = Path("/var/lib/cni/results")
"""Where the CNI library keeps results; the path is fixed in it. Files begin with the network's name."""
DEVICE_SOCKET = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
"""Where a kubelet listens for device plugins; the path is fixed in its source, and it leaves the socket."""
SHARED_FOLDERS = (
    CONTAINER_LOG_LINKS,
    CNI_RESULTS,
    Path("/var/lib/cni"),
    Path("/var/lib/kubelet/device-plugins"),
    Path("/var/lib/kubelet"),
    Path("/run/containerd/s"),
    Path("/run/containerd"),
)
"""Folders of fixed paths that the programs make; removed only when empty."""


def down(plan: NodePlan, *, progress: Progress, keep_logs: bool = False) -> None:
    """Remove the cluster; does nothing where there is none."""
    if os.geteuid() != 0:
        message = "expected root to take the cluster down, found another user; run it as root"
        raise ClusterError(message)
    _stop_processes(plan)
    _unmount(plan)
    _remove_network(plan)
    cgroups.remove(plan.cgroup)
    _restore_kernel_settings(plan)
    _remove_files(plan, keep_logs=keep_logs)
    progress.say(f"{plan.name} is down")


def is_down(plan: NodePlan) -> bool:
    """Tell whether nothing is known of such a cluster."""
    return not (plan.state.exists() or plan.run.exists())


def _stop_processes(plan: NodePlan) -> None:
    """The kubelet first, so that it starts nothing again; containerd outlives the containers to reap them."""
    records: tuple[ProcessRecord, ...] = ()
    if plan.processes.exists():
        records = process.records_from_json(plan.processes.read_text(encoding="utf-8"))
    kubelet = [each for each in records if each.name == KUBELET.name]
    process.stop_all(kubelet, grace_seconds=GRACE_SECONDS)
    cgroups.kill(plan.cgroup)
    if plan.containerd_socket.is_socket() and any(
        each.name == "containerd" and process.is_alive(each) for each in records
    ):
        _delete_tasks(plan.containerd_socket)
    process.stop_all(records, grace_seconds=GRACE_SECONDS)
    process.stop_all(stragglers(plan), grace_seconds=GRACE_SECONDS)
    # a container that came up between the two
    cgroups.kill(plan.cgroup)


def _delete_tasks(address: Path) -> None:
    """Have containerd delete the dead tasks, so that their shims end in order and remove their sockets."""
    ctr = ("ctr", f"--address={address}", "--namespace=k8s.io", "tasks")
    listed = subprocess.run((*ctr, "list", "--quiet"), capture_output=True, text=True, check=False, timeout=20)
    names = listed.stdout.split()
    if names:
        # what is left after this is taken as a straggler
        subprocess.run((*ctr, "delete", "--force", *names), capture_output=True, check=False, timeout=60)


def stragglers(plan: NodePlan) -> list[ProcessRecord]:
    """Return the cluster's processes that no record names: shims, or those of an `up` killed half-way."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            program = (folder / "exe").readlink().name.removesuffix(" (deleted)")
            argv = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if belongs(plan, program=program, argv=argv):
                stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
                ticks = process.parse_start_ticks(stat)
                found.append(ProcessRecord(program, int(folder.name), ticks, process.boot_id()))
    return found


def belongs(plan: NodePlan, *, program: str, argv: Iterable[str]) -> bool:
    """Tell whether a process is this cluster's: one of its programs, given a path in one of its folders."""
    folders = (f"{plan.state}/", f"{plan.run}/")
    return program in PROGRAMS and any(folder in word for word in argv for folder in folders)


def mounts_below(folders: Iterable[Path], *, mountinfo: str) -> tuple[str, ...]:
    """Return the mount points below the folders, the last mounted first; see proc(5) for the format."""
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines() if line.strip()]
    roots = tuple(f"{each}/" for each in folders)
    return tuple(point for point in reversed(points) if f"{point}/".startswith(roots))


def _unmount(plan: NodePlan) -> None:
    for lazily in (False, True):
        for point in _mounts(plan):
            options = ("--lazy",) if lazily else ()
            subprocess.run(("umount", *options, "--", point), capture_output=True, check=False)
    left = _mounts(plan)
    if left:
        message = f"expected no mount of the cluster, could not remove {', '.join(left)}; see `fuser -m`"
        raise ClusterError(message)


def _mounts(plan: NodePlan) -> tuple[str, ...]:
    mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return mounts_below((plan.state, plan.run), mountinfo=mountinfo)


def _remove_network(plan: NodePlan) -> None:
    """Remove the host's end of the link, which takes its peer and the routes over it along."""
    if not Path(f"/sys/class/net/{plan.host_link}").exists():
        return
    done = subprocess.run(("ip", "link", "delete", plan.host_link), capture_output=True, text=True, check=False)
    if done.returncode != 0 and Path(f"/sys/class/net/{plan.host_link}").exists():
        message = f"expected to delete the link {plan.host_link}, ip said: {done.stderr.strip()}"
        raise ClusterError(message)


def _restore_kernel_settings(plan: NodePlan) -> None:
    if not plan.kernel_settings.exists():
        return
    before: dict[str, str] = json.loads(plan.kernel_settings.read_text(encoding="utf-8"))
    for name, value in before.items():
        path = Path("/proc/sys") / name
        if path.read_text(encoding="ascii").strip() != value:
            path.write_text(value, encoding="ascii")


def _remove_files(plan: NodePlan, *, keep_logs: bool) -> None:
    if keep_logs and plan.logs.exists():
        shutil.rmtree(plan.failed_logs, ignore_errors=True)
        shutil.copytree(plan.logs, plan.failed_logs)
    for folder in (plan.run, plan.state):
        if folder.exists():
            shutil.rmtree(folder)
    for link in _entries(CONTAINER_LOG_LINKS):
        if link.is_symlink() and str(link.readlink()).startswith(f"{plan.pod_logs}/"):
            link.unlink()
    results = _entries(CNI_RESULTS)
    ours = cni_results_of(plan.cni_network, [each.name for each in results])
    for result in results:
        if result.name in ours:
            result.unlink()
    _remove_dead_socket(DEVICE_SOCKET)
    for folder in SHARED_FOLDERS:
        with suppress(OSError):
            folder.rmdir()


def cni_results_of(network: str, names: Iterable[str]) -> frozenset[str]:
    """Return which result files are of `network`'s pods: their own, and those of the same pods' loopback.

    The files are called NETWORK-CONTAINER-INTERFACE; the loopback's network has one name on all machines.
    """
    listed = frozenset(names)
    suffix = "-eth0"
    own = {each for each in listed if each.startswith(f"{network}-") and each.endswith(suffix)}
    containers = {each.removeprefix(f"{network}-").removesuffix(suffix) for each in own}
    return frozenset(own | {f"cni-loopback-{each}-lo" for each in containers}) & listed


def _remove_dead_socket(path: Path) -> None:
    """Remove a socket on which nobody listens; another kubelet's is left alone."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
