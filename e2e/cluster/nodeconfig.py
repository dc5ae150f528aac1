# SPDX-License-Identifier: Apache-2.0
"""Configuration files and command lines of the node's programs: containerd, CNI, kubelet, kube-proxy; pure.

Sources: containerd's docs/cri/config.md (version 2), the CNI plugins' own pages, the KubeletConfiguration
v1beta1 reference, and each program's --help.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster.components import POD_CIDR
from e2e.cluster.credentials import Credentials
from e2e.cluster.nodeplan import CLUSTER_DOMAIN, DNS_ADDRESS, NODE_ADDRESS, NODE_POD_CIDR, NodePlan
from e2e.cluster.pki import PairFiles
from e2e.cluster.preflight import CNI_FOLDER

KUBELET_USER = "kubelet"
KUBE_PROXY_USER = "kube-proxy"
CRI = "io.containerd.grpc.v1.cri"
UNUSED_PLUGINS = ("aufs", "btrfs", "devmapper", "zfs")
SECOND_HANDLER = "test-handler"
"""A RuntimeClass may name it: runc again. kind's nodes have one of this name by kind's own configuration."""


def containerd_config(plan: NodePlan, *, pause_image: str) -> dict[str, object]:
    """Return containerd's configuration, version 2 (read by containerd 1.6 and newer)."""
    return {
        "version": 2,
        "root": str(plan.containerd_root),
        "state": str(plan.run / "containerd"),
        "disabled_plugins": [f"io.containerd.snapshotter.v1.{each}" for each in UNUSED_PLUGINS],
        "grpc": {"address": str(plan.containerd_socket)},
        "plugins": {
            "io.containerd.internal.v1.opt": {"path": str(plan.state / "opt")},
            CRI: {
                "sandbox_image": pause_image,
                # without CAP_SYS_RESOURCE a score may not be lowered below that of the starter
                "restrict_oom_score_adj": True,
                # so that all mounts are below one folder
                "netns_mounts_under_state_dir": True,
                "cni": {"bin_dir": str(CNI_FOLDER), "conf_dir": str(plan.cni)},
                "containerd": {
                    "snapshotter": "overlayfs",
                    "default_runtime_name": "runc",
                    "runtimes": {
                        "runc": _runc(plan.run / "runc"),
                        # a folder of its own, so that one sees by which of the two a container runs
                        SECOND_HANDLER: _runc(second_runtime(plan)),
                    },
                },
            },
        },
    }


def second_runtime(plan: NodePlan) -> Path:
    """Return where the second handler's runc keeps the state of its containers."""
    return plan.run / f"runc-{SECOND_HANDLER}"


def _runc(root: Path) -> dict[str, object]:
    return {"runtime_type": "io.containerd.runc.v2", "options": {"Root": str(root), "SystemdCgroup": False}}


def containerd_argv(config: Path) -> tuple[str, ...]:
    """Return containerd's command line."""
    return ("containerd", f"--config={config}")


def cni_config(plan: NodePlan) -> dict[str, object]:
    """Return the one network: a bridge in the namespace, addresses by host-local.

    No masquerading: the host has a route back. The bridge plugin enforces no NetworkPolicy.
    """
    ranges = [[{"subnet": NODE_POD_CIDR}]]
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(plan.state / "cni-addresses"),
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": plan.cni_network, "plugins": [bridge, portmap]}


def kubelet_config(plan: NodePlan, *, authority: Path, serving: PairFiles, resolv_conf: Path) -> dict[str, object]:
    """Return the KubeletConfiguration.

    Images are never collected (nothing could fetch them again), pods are evicted only when the disk or the
    memory is really at its end.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{plan.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{plan.cgroup}",
        # version 1 of cgroups still enforces memory limits, and some machines have only that
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(resolv_conf),
        "podLogsDir": str(plan.pod_logs),
        "volumePluginDir": str(plan.state / "volume-plugins"),
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        # how often the use of volumes is measured: an emptyDir over its limit is found soon
        "volumeStatsAggPeriod": "10s",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "oomScoreAdj": 0,
        "readOnlyPort": 0,
    }


def kubelet_argv(plan: NodePlan, *, binary: Path, config: Path, credentials: Credentials) -> tuple[str, ...]:
    """Return the kubelet's command line."""
    return (
        str(binary),
        f"--config={config}",
        f"--kubeconfig={credentials.kubeconfig(KUBELET_USER)}",
        f"--hostname-override={plan.node}",
        f"--node-ip={NODE_ADDRESS}",
        f"--root-dir={plan.kubelet_root}",
    )


def kube_proxy_argv(plan: NodePlan, *, binary: Path, credentials: Credentials) -> tuple[str, ...]:
    """Return kube-proxy's command line; it leaves the connection tracker's sizes alone."""
    return (
        str(binary),
        f"--kubeconfig={credentials.kubeconfig(KUBE_PROXY_USER)}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={POD_CIDR}",
        f"--hostname-override={plan.node}",
        "--conntrack-max-per-core=0",
        "--oom-score-adj=0",
    )


def toml_text(table: Mapping[str, object], *, path: tuple[str, ...] = ()) -> str:
    """Return TOML for nested tables of strings, whole numbers, booleans and lists of those.

    Strings are written as JSON does, which TOML's basic strings include.
    """
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    header = f"[{'.'.join(json.dumps(each) for each in path)}]\n" if path and plain else ""
    lines = "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in plain.items())
    inner = "".join(
        toml_text(value, path=(*path, key)) for key, value in table.items() if isinstance(value, Mapping)
    )
    return header + lines + inner
