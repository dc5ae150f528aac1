# SPDX-License-Identifier: Apache-2.0
"""Names, addresses and paths of one native cluster; everything follows from its name and its state folder.

Pure. `down` finds what to remove by these rules alone, so it also cleans up after an `up` that was killed.
"""

from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.components import POD_CIDR, SERVICE_CIDR

# TEST-NET-2 of RFC 5737: nobody's real network
LINK_CIDR = "198.51.100.8/30"
HOST_ADDRESS = "198.51.100.9"
NODE_ADDRESS = "198.51.100.10"
LINK_PREFIX = 30
NODE_POD_CIDR = "10.244.0.0/24"
"""The first range that the controller manager hands out; there is one node."""
DNS_ADDRESS = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"
APISERVER_PORT = 6443
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380

NETWORKS = (LINK_CIDR, POD_CIDR, SERVICE_CIDR)
"""What the cluster wants for itself; the host gets a route to each."""


@dataclass(frozen=True)
class NodePlan:
    """One native cluster. `state` is on a disk; `run` holds sockets and mounts, its path must be short."""

    name: str
    state: Path

    @property
    def node(self) -> str:
        """The node's name."""
        return f"nimblet-{self.name}"

    @property
    def run(self) -> Path:
        """Sockets, the namespace and containerd's mounts."""
        return Path("/run") / f"nimblet-{self.name}"

    @property
    def namespace(self) -> Path:
        """The network namespace, pinned by a mount."""
        return self.run / "netns"

    @property
    def host_link(self) -> str:
        """The host's end of the veth pair; at most 15 characters."""
        return f"nblt-{self.name}"

    @property
    def cgroup(self) -> str:
        """The cgroup (relative to each hierarchy's root) below which all pods are."""
        return f"nimblet-{self.name}"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens."""
        return self.run / "containerd.sock"

    @property
    def containerd_root(self) -> Path:
        """Images and snapshots."""
        return self.state / "containerd"

    @property
    def cni(self) -> Path:
        """The CNI configuration's folder."""
        return self.state / "cni"

    @property
    def cni_network(self) -> str:
        """The CNI network's name, which its caches carry too."""
        return f"nimblet-{self.name}"

    @property
    def kubelet_root(self) -> Path:
        """The kubelet's own folder, with the pods' volumes."""
        return self.state / "kubelet"

    @property
    def pod_logs(self) -> Path:
        """The containers' logs."""
        return self.state / "pod-logs"

    @property
    def volumes(self) -> Path:
        """The volumes of the default StorageClass."""
        return self.state / "volumes"

    @property
    def credentials(self) -> Path:
        """Certificates, keys, kubeconfigs."""
        return self.state / "credentials"

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig; works on the host and in the namespace."""
        return self.credentials / "admin.kubeconfig"

    @property
    def config(self) -> Path:
        """Configuration files of the components."""
        return self.state / "config"

    @property
    def logs(self) -> Path:
        """Logs of the components."""
        return self.state / "logs"

    @property
    def failed_logs(self) -> Path:
        """Where the logs of an `up` that failed are kept."""
        return self.state.with_name(f"{self.state.name}.failed-logs")

    @property
    def processes(self) -> Path:
        """The records of started processes."""
        return self.state / "processes.json"

    @property
    def kernel_settings(self) -> Path:
        """The host's kernel settings as they were before the kubelet changed them."""
        return self.state / "kernel-settings.json"

    @property
    def ready_marker(self) -> Path:
        """Exists once `up` is through."""
        return self.state / "ready"

    @property
    def server_url(self) -> str:
        """The apiserver's URL."""
        return f"https://{NODE_ADDRESS}:{APISERVER_PORT}"


def network_up_argvs(plan: NodePlan) -> tuple[tuple[str, ...], ...]:
    """Return the commands that make the namespace, its link to the host and the host's routes, in order."""
    namespace = str(plan.namespace)
    inside = ("nsenter", f"--net={namespace}", "--")
    return (
        ("unshare", f"--net={namespace}", "--", "true"),
        ("ip", "link", "add", plan.host_link, "type", "veth", "peer", "name", "eth0", "netns", namespace),
        ("ip", "address", "add", f"{HOST_ADDRESS}/{LINK_PREFIX}", "dev", plan.host_link),
        ("ip", "link", "set", plan.host_link, "up"),
        (*inside, "ip", "link", "set", "lo", "up"),
        (*inside, "ip", "address", "add", f"{NODE_ADDRESS}/{LINK_PREFIX}", "dev", "eth0"),
        (*inside, "ip", "link", "set", "eth0", "up"),
        # locally made traffic needs a route before kube-proxy's rules rewrite its destination
        (*inside, "ip", "route", "add", SERVICE_CIDR, "dev", "eth0"),
        # the world outside is refused at once, instead of by a time-out
        (*inside, "ip", "route", "add", "unreachable", "default"),
        (*inside, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"),
        ("ip", "route", "add", POD_CIDR, "via", NODE_ADDRESS),
        ("ip", "route", "add", SERVICE_CIDR, "via", NODE_ADDRESS),
    )


def enter_argv(plan: NodePlan, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return `argv` run inside the network namespace.

    nsenter and not `ip netns exec`: the latter mounts /sys anew and hides the cgroups from the kubelet.
    """
    return ("nsenter", f"--net={plan.namespace}", "--", *argv)
