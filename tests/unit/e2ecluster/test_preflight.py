# SPDX-License-Identifier: Apache-2.0
"""What a machine lacks is told all at once, each with its fix."""

from dataclasses import replace

import pytest

from e2e.cluster.errors import MissingError
from e2e.cluster.nodeplan import NETWORKS
from e2e.cluster.preflight import (
    CGROUP_CONTROLLERS,
    CNI_PLUGINS,
    PACKAGES,
    Host,
    kind_problems,
    light_problems,
    missing_packages,
    native_problems,
    overlaps,
    parse_routes,
    require,
)

ABLE = Host(
    system="Linux",
    machine="x86_64",
    root=True,
    programs=frozenset({*PACKAGES, "go"}),
    cni_plugins=frozenset(CNI_PLUGINS),
    cgroup_controllers=frozenset(CGROUP_CONTROLLERS),
    network_namespaces=True,
    routes=("192.168.1.0/24",),
    apt=True,
)


def test_an_able_machine_has_no_problem() -> None:
    assert native_problems(ABLE, networks=NETWORKS) == ()
    assert light_problems(ABLE) == ()
    assert kind_problems(ABLE) == ()
    assert missing_packages(ABLE) == ()


def test_everything_that_is_missing_is_told_at_once() -> None:
    bare = Host(
        system="Linux",
        machine="x86_64",
        root=False,
        programs=frozenset(),
        cni_plugins=frozenset(),
        cgroup_controllers=frozenset({"cpu"}),
        network_namespaces=False,
        routes=("10.244.0.0/16",),
        apt=False,
    )
    with pytest.raises(MissingError) as raised:
        require(native_problems(bare, networks=NETWORKS))
    text = str(raised.value)
    for part in (
        "not root",
        "no Go",
        "no program",
        "no CNI plugin bridge",
        "cpuset, memory, pids",
        "no network namespaces",
    ):
        assert part in text
    assert "overlaps the route 10.244.0.0/16" in text
    assert text.count("fix: ") == 7


def test_the_fix_names_the_packages() -> None:
    host = replace(ABLE, programs=ABLE.programs - {"runc", "ctr", "containerd"})
    (problem,) = native_problems(host, networks=())
    assert problem.fix == "apt-get install containerd runc (as root)"
    assert missing_packages(host) == ("containerd", "runc")


def test_absent_cni_plugins_bring_their_package() -> None:
    assert missing_packages(replace(ABLE, cni_plugins=frozenset())) == ("containernetworking-plugins",)


def test_the_light_control_plane_needs_neither_root_nor_containers() -> None:
    host = replace(ABLE, root=False, programs=frozenset({"go", "setpriv"}), cgroup_controllers=frozenset())
    assert light_problems(host) == ()


def test_another_system_is_told_what_to_use_instead() -> None:
    (problem,) = light_problems(replace(ABLE, system="Darwin"))
    assert "Darwin" in problem.found
    assert "kind" in problem.fix


@pytest.mark.parametrize(
    ("wanted", "route", "expected"),
    [
        ("10.96.0.0/16", "10.0.0.0/8", True),
        ("10.96.0.0/16", "10.97.0.0/16", False),
        ("10.96.0.0/16", "0.0.0.0/0", False),
        ("198.51.100.8/30", "198.51.100.9", True),
        ("10.96.0.0/16", "fd00::/8", False),
    ],
)
def test_overlaps(wanted: str, route: str, expected: bool) -> None:
    assert overlaps(wanted, route) is expected


def test_routes_are_read_without_the_default() -> None:
    text = "default via 192.0.2.1 dev eth0 \n192.0.2.0/24 dev eth0 proto kernel\n10.0.0.5 dev tun0\n\n"
    assert parse_routes(text) == ("192.0.2.0/24", "10.0.0.5")
