# SPDX-License-Identifier: Apache-2.0
"""The node's configuration follows from the plan alone."""

import json
import tomllib
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.nodeconfig import (
    CRI,
    SECOND_HANDLER,
    cni_config,
    containerd_config,
    kubelet_config,
    second_runtime,
    toml_text,
)
from e2e.cluster.nodeplan import NodePlan, enter_argv, network_up_argvs
from e2e.cluster.paths import Cache, cache_of
from e2e.cluster.pki import PairFiles

PLAN = NodePlan(name="dev", state=Path("/state"))


def test_toml_is_read_back_as_it_was() -> None:
    config = containerd_config(PLAN, pause_image="nimblet.test/pause:1")
    assert tomllib.loads(toml_text(config)) == config


def test_toml_quotes_what_needs_it() -> None:
    table = {"a b": 'say "x"\\', "list": ["p", "q"], "t": {"on": True, "n": 3, "e": {}}}
    assert tomllib.loads(toml_text(table)) == {**table, "t": {"on": True, "n": 3}}


def test_containerd_keeps_everything_below_its_own_folders() -> None:
    config = containerd_config(PLAN, pause_image="p")
    text = json.dumps(config)
    assert "/var/" not in text
    assert "/opt" not in text.replace("/state/opt", "")
    plugins = config["plugins"]
    assert isinstance(plugins, dict)
    cri = plugins[CRI]
    assert cri["restrict_oom_score_adj"] is True
    assert cri["netns_mounts_under_state_dir"] is True


def test_the_second_handler_is_runc_with_its_state_elsewhere() -> None:
    plugins = containerd_config(PLAN, pause_image="p")["plugins"]
    assert isinstance(plugins, dict)
    containerd = plugins[CRI]["containerd"]
    runtimes = containerd["runtimes"]
    assert containerd["default_runtime_name"] == "runc"
    assert {runtime["runtime_type"] for runtime in runtimes.values()} == {"io.containerd.runc.v2"}
    roots = [runtimes[name]["options"]["Root"] for name in ("runc", SECOND_HANDLER)]
    assert roots == ["/run/nimblet-dev/runc", str(second_runtime(PLAN))]
    assert len(set(roots)) == len(runtimes) == 2


def test_the_kubelet_runs_on_both_versions_of_cgroups_and_collects_no_image() -> None:
    serving = PairFiles(Path("/k.crt"), Path("/k.key"))
    config = kubelet_config(PLAN, authority=Path("/ca.crt"), serving=serving, resolv_conf=Path("/r"))
    assert config["cgroupDriver"] == "cgroupfs"
    assert config["failCgroupV1"] is False
    assert config["cgroupRoot"] == "/nimblet-dev"
    assert config["imageGCHighThresholdPercent"] == 100
    assert config["authentication"] == {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True},
        "x509": {"clientCAFile": "/ca.crt"},
    }


def test_the_network_is_a_bridge_with_hairpins() -> None:
    config = cni_config(PLAN)
    plugins = config["plugins"]
    assert isinstance(plugins, list)
    assert plugins[0]["type"] == "bridge"
    assert plugins[0]["hairpinMode"] is True
    assert config["name"] == "nimblet-dev"


def test_commands_enter_the_network_only() -> None:
    expected = ("nsenter", "--net=/run/nimblet-dev/netns", "--", "kubelet", "-v")
    assert enter_argv(PLAN, ("kubelet", "-v")) == expected


def test_the_host_gets_one_link_and_routes_over_it() -> None:
    on_host = [argv for argv in network_up_argvs(PLAN) if argv[0] == "ip"]
    assert [argv[1:4] for argv in on_host] == [
        ("link", "add", "nblt-dev"),
        ("address", "add", "198.51.100.9/30"),
        ("link", "set", "nblt-dev"),
        ("route", "add", "10.244.0.0/16"),
        ("route", "add", "10.96.0.0/16"),
    ]


def test_the_longest_name_still_makes_an_interface_name() -> None:
    assert len(NodePlan(name="abcdefgh", state=Path("/s")).host_link) <= 15


@pytest.mark.parametrize("name", ["", "Dev", "1st", "much-too-long", "../x", "abcdefghi"])
def test_a_name_that_makes_no_interface_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="a cluster's name"):
        Cache(Path("/c")).state(name)


def test_the_cache_is_where_the_environment_says() -> None:
    assert cache_of({"NIMBLET_CACHE": "/c"}).state("dev") == Path("/c/cluster/dev")
    assert cache_of({}).root == Path.home() / ".cache" / "nimblet"
