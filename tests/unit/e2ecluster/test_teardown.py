# SPDX-License-Identifier: Apache-2.0
"""`down` takes what is the cluster's and nothing else."""

from pathlib import Path

import pytest

from e2e.cluster import cgroups
from e2e.cluster.nodeplan import NodePlan
from e2e.cluster.teardown import belongs, cni_results_of, is_down, mounts_below

PLAN = NodePlan(name="dev", state=Path("/cache/cluster/dev"))
MOUNTINFO = """
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /run/nimblet-dev/netns rw - nsfs nsfs rw
31 22 0:41 / /run/nimblet-dev2/netns rw - nsfs nsfs rw
32 22 0:42 / /cache/cluster/dev/kubelet/pods/a\\040b rw - tmpfs tmpfs rw
33 32 0:43 / /cache/cluster/dev/kubelet/pods/a\\040b/inner rw - tmpfs tmpfs rw
"""


def test_mounts_of_this_cluster_are_found_the_last_first() -> None:
    assert mounts_below((PLAN.state, PLAN.run), mountinfo=MOUNTINFO) == (
        "/cache/cluster/dev/kubelet/pods/a b/inner",
        "/cache/cluster/dev/kubelet/pods/a b",
        "/run/nimblet-dev/netns",
    )


@pytest.mark.parametrize(
    ("program", "argv", "expected"),
    [
        ("kubelet", ["kubelet", "--config=/cache/cluster/dev/config/kubelet.json"], True),
        ("containerd-shim-runc-v2", ["shim", "-address", "/run/nimblet-dev/containerd.sock"], True),
        ("containerd-shim-runc-v2", ["shim", "-address", "/run/containerd/containerd.sock"], False),
        ("kubelet", ["kubelet", "--config=/cache/cluster/dev2/config/kubelet.json"], False),
        ("tail", ["tail", "-f", "/cache/cluster/dev/logs/kubelet.log"], False),
    ],
)
def test_a_straggler_is_a_known_program_with_this_clusters_folder(
    program: str, argv: list[str], expected: bool
) -> None:
    assert belongs(PLAN, program=program, argv=argv) is expected


def test_cni_results_of_other_networks_stay() -> None:
    names = [
        "nimblet-dev-aa-eth0",
        "cni-loopback-aa-lo",
        "cni-loopback-bb-lo",
        "other-bb-eth0",
        "nimblet-dev-cc-eth0",
    ]
    expected = {"nimblet-dev-aa-eth0", "cni-loopback-aa-lo", "nimblet-dev-cc-eth0"}
    assert cni_results_of("nimblet-dev", names) == expected


def test_nothing_on_disk_is_down(tmp_path: Path) -> None:
    assert is_down(NodePlan(name="absent", state=tmp_path / "absent"))


def test_cgroups_of_version_1_are_made_in_every_tree_with_a_usable_cpuset(tmp_path: Path) -> None:
    for tree in ("cpu", "cpuset"):
        (tmp_path / tree).mkdir()
    (tmp_path / "cpu,cpuacct").symlink_to("cpu")
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")
    shares = tmp_path / "cpu" / "nimblet-dev" / "cpu.shares"
    shares.parent.mkdir()
    shares.write_text("1024\n")
    cgroups.create("nimblet-dev", root=tmp_path)
    assert shares.read_text() == "4096"
    assert (tmp_path / "cpuset" / "nimblet-dev" / "cpuset.cpus").read_text() == "0-1\n"
    assert (tmp_path / "cpu" / "nimblet-dev").is_dir()


def test_processes_are_read_from_all_levels_and_trees(tmp_path: Path) -> None:
    for tree, inner, pids in (
        ("cpu", "", "1\n"),
        ("cpu", "kubepods/pod1", "2\n3\n"),
        ("memory", "kubepods", "3\n4\n"),
    ):
        folder = tmp_path / tree / "nimblet-dev" / inner
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text(pids)
    assert cgroups.processes("nimblet-dev", root=tmp_path) == {1, 2, 3, 4}
    assert cgroups.processes("other", root=tmp_path) == frozenset()


def test_removal_goes_bottom_up(tmp_path: Path) -> None:
    (tmp_path / "cpu" / "nimblet-dev" / "kubepods" / "pod1").mkdir(parents=True)
    cgroups.remove("nimblet-dev", root=tmp_path)
    assert [each.name for each in (tmp_path / "cpu").iterdir()] == []
