# SPDX-License-Identifier: Apache-2.0
"""What a machine must have, and what exactly is missing on one that can't run a cluster.

`gather_host` reads; the rest is pure. All problems are told at once, each with its fix.
"""

import ipaddress
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import MissingError

CNI_FOLDER = Path("/usr/lib/cni")
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")

PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "socat": "socat",
    "ethtool": "ethtool",
    "mmdebstrap": "mmdebstrap",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
"""Program to the Debian (12 or newer) package that holds it."""

LIGHT_PROGRAMS = ("setpriv",)
CGROUP_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


@dataclass(frozen=True)
class Host:
    """What was found on the machine; `routes` are destinations in CIDR notation of the main table."""

    system: str
    machine: str
    root: bool
    programs: frozenset[str]
    cni_plugins: frozenset[str]
    cgroup_controllers: frozenset[str]
    network_namespaces: bool
    routes: tuple[str, ...]
    apt: bool


@dataclass(frozen=True)
class Problem:
    """One thing that is missing and what to do about it."""

    found: str
    fix: str


def gather_host() -> Host:
    """Look at this machine."""
    linux = platform.system() == "Linux"
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        root=os.geteuid() == 0,
        programs=frozenset(each for each in (*PACKAGES, "go") if shutil.which(each, path=_search_path())),
        cni_plugins=frozenset(each for each in CNI_PLUGINS if (CNI_FOLDER / each).is_file()),
        cgroup_controllers=_cgroup_controllers() if linux else frozenset(),
        network_namespaces=Path("/proc/self/ns/net").exists(),
        routes=_routes() if linux and shutil.which("ip", path=_search_path()) else (),
        apt=shutil.which("apt-get") is not None,
    )


def light_problems(host: Host) -> tuple[Problem, ...]:
    """Return what the light control plane lacks."""
    return (*_system_problems(host), *_program_problems(host, LIGHT_PROGRAMS))


def kind_problems(host: Host) -> tuple[Problem, ...]:
    """Return what kind lacks beside Docker's engine, which was asked before."""
    return tuple(_system_problems(host))


def native_problems(host: Host, *, networks: Sequence[str]) -> tuple[Problem, ...]:
    """Return what the native cluster lacks; `networks` are the ranges (CIDR) that it wants for itself."""
    problems = [*_system_problems(host)]
    if not host.root:
        problems.append(
            Problem(
                "this user is not root; a kubelet needs mounts, cgroups and network namespaces",
                "run it as root (a virtual machine or a privileged container is enough)",
            )
        )
    problems += _program_problems(host, PACKAGES)
    absent = [each for each in CNI_PLUGINS if each not in host.cni_plugins]
    if absent:
        problems.append(
            Problem(
                f"no CNI plugin {', '.join(absent)} in {CNI_FOLDER}",
                "apt-get install containernetworking-plugins",
            )
        )
    lacking = [each for each in CGROUP_CONTROLLERS if each not in host.cgroup_controllers]
    if lacking:
        problems.append(
            Problem(
                f"no cgroup controller {', '.join(lacking)} below /sys/fs/cgroup",
                "mount the cgroup file system (v2, or v1 with these controllers) and make it writable",
            )
        )
    if not host.network_namespaces:
        problems.append(
            Problem("the kernel has no network namespaces", "use a kernel with CONFIG_NET_NS (any distribution's)")
        )
    problems += [
        Problem(
            f"the range {wanted} overlaps the route {route} of this machine",
            "stop the other cluster (`python -m e2e.cluster down --name …`) or remove that route",
        )
        for wanted in networks
        for route in host.routes
        if overlaps(wanted, route)
    ]
    return tuple(problems)


def missing_packages(host: Host) -> tuple[str, ...]:
    """Return the Debian packages that would bring the missing programs, sorted."""
    wanted = {package for program, package in PACKAGES.items() if program not in host.programs}
    if any(each not in host.cni_plugins for each in CNI_PLUGINS):
        wanted.add("containernetworking-plugins")
    return tuple(sorted(wanted))


def require(problems: Iterable[Problem]) -> None:
    """Raise a MissingError that lists every problem; return if there is none."""
    listed = tuple(problems)
    if listed:
        raise MissingError(problem_text(listed))


def problem_text(problems: Sequence[Problem]) -> str:
    """Return the message for a person."""
    lines = [f"  - {each.found}\n    fix: {each.fix}" for each in problems]
    return "\n".join(["this machine can't run the cluster yet:", *lines])


def overlaps(wanted: str, route: str) -> bool:
    """Tell whether two ranges share an address; the default route does not count."""
    other = ipaddress.ip_network(route, strict=False)
    network = ipaddress.ip_network(wanted)
    return other.prefixlen > 0 and other.version == network.version and network.overlaps(other)


def parse_routes(text: str) -> tuple[str, ...]:
    """Return the destinations out of `ip -4 route show`; `default` is left out."""
    first_words = (line.split()[0] for line in text.splitlines() if line.strip())
    return tuple(each for each in first_words if each[0].isdigit())


def _system_problems(host: Host) -> list[Problem]:
    problems = []
    if host.system != "Linux":
        problems.append(
            Problem(
                f"this machine runs {host.system}; Kubernetes' node components run on Linux only",
                "use a Linux machine, or one where Docker's engine answers (then kind is used)",
            )
        )
    if host.machine != "x86_64":
        problems.append(
            Problem(
                f"this machine is {host.machine}; the packaged kubectl and the fake nodes are x86_64",
                "use an x86_64 machine",
            )
        )
    if "go" not in host.programs:
        problems.append(Problem("no Go on the PATH, which builds the programs", "install Go 1.26 or newer"))
    return problems


def _program_problems(host: Host, programs: Iterable[str]) -> list[Problem]:
    missing = [each for each in programs if each not in host.programs]
    if not missing:
        return []
    packages = sorted({PACKAGES[each] for each in missing})
    return [Problem(f"no program {', '.join(missing)}", f"apt-get install {' '.join(packages)} (as root)")]


def _search_path() -> str:
    # tools of the system's administrator are not on every user's PATH
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/go/bin"])


def _cgroup_controllers() -> frozenset[str]:
    root = Path("/sys/fs/cgroup")
    unified = root / "cgroup.controllers"
    if unified.is_file():
        return frozenset(unified.read_text(encoding="ascii").split())
    return frozenset(each.name for each in root.iterdir() if each.is_dir()) if root.is_dir() else frozenset()


def _routes() -> tuple[str, ...]:
    done = subprocess.run(["ip", "-4", "route", "show"], capture_output=True, text=True, check=True)
    return parse_routes(done.stdout)
