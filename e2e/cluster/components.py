# SPDX-License-Identifier: Apache-2.0
"""The command lines of the control plane's components; pure.

The flags are those of Kubernetes 1.35 and etcd 3.6 (each program's --help is the source). Both
clusters, the light and the native one, start their components from here.
"""

from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.credentials import CONTROLLER_MANAGER_USER, Credentials
from e2e.cluster.pki import PairFiles

SERVICE_CIDR = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
"""The first address of SERVICE_CIDR; the apiserver gives it to the Service `kubernetes`."""
POD_CIDR = "10.244.0.0/16"


@dataclass(frozen=True)
class EtcdPlan:
    """One etcd member; `client_port` and `peer_port` on 127.0.0.1."""

    binary: Path
    data: Path
    credentials: Credentials
    client_port: int
    peer_port: int


@dataclass(frozen=True)
class ApiserverPlan:
    """One apiserver; `kubelet_client` is given where there are real kubelets."""

    binary: Path
    etcd_port: int
    bind_address: str
    advertise_address: str
    port: int
    credentials: Credentials
    kubelet_client: PairFiles | None = None
    extra: tuple[str, ...] = ()


def etcd_argv(plan: EtcdPlan) -> tuple[str, ...]:
    """Return etcd's command line: TLS with client certificates, and little care for durability."""
    made = plan.credentials
    client = f"https://127.0.0.1:{plan.client_port}"
    peer = f"http://127.0.0.1:{plan.peer_port}"
    return (
        str(plan.binary),
        "--name=only",
        f"--data-dir={plan.data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=only={peer}",
        f"--cert-file={made.server.certificate}",
        f"--key-file={made.server.key}",
        "--client-cert-auth",
        f"--trusted-ca-file={made.authority_file}",
        # the single member elects itself after one election timeout
        "--heartbeat-interval=50",
        "--election-timeout=250",
        # nothing here has to survive a power cut
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def apiserver_argv(plan: ApiserverPlan) -> tuple[str, ...]:
    """Return the apiserver's command line; the default admission plugins stay on (PodSecurity is one)."""
    made = plan.credentials
    kubelet: tuple[str, ...] = ()
    if plan.kubelet_client is not None:
        kubelet = (
            f"--kubelet-client-certificate={plan.kubelet_client.certificate}",
            f"--kubelet-client-key={plan.kubelet_client.key}",
            # without this `kubectl logs` asks DNS for the node's name
            "--kubelet-preferred-address-types=InternalIP",
        )
    return (
        str(plan.binary),
        f"--etcd-servers=https://127.0.0.1:{plan.etcd_port}",
        f"--etcd-cafile={made.authority_file}",
        f"--etcd-certfile={made.admin.certificate}",
        f"--etcd-keyfile={made.admin.key}",
        f"--bind-address={plan.bind_address}",
        f"--advertise-address={plan.advertise_address}",
        f"--secure-port={plan.port}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--tls-cert-file={made.server.certificate}",
        f"--tls-private-key-file={made.server.key}",
        f"--client-ca-file={made.authority_file}",
        f"--service-account-key-file={made.service_account_key}",
        f"--service-account-signing-key-file={made.service_account_key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        # an apiserver that is told to end does so at once; nothing balances load before it
        "--shutdown-delay-duration=0s",
        *kubelet,
        *plan.extra,
    )


def request_rate(rate: int | None) -> tuple[str, ...]:
    """Return the flags for a component's own limit of requests a second; None leaves its default (20 to 50)."""
    return () if rate is None else (f"--kube-api-qps={rate}", f"--kube-api-burst={2 * rate}")


def controller_manager_argv(
    *, binary: Path, credentials: Credentials, pod_cidr: str | None = None, rate: int | None = None
) -> tuple[str, ...]:
    """Return the controller manager's command line; it serves nothing and elects nobody.

    `pod_cidr` is given where it hands out the nodes' pod ranges.
    """
    cidr: tuple[str, ...] = ("--allocate-node-cidrs=false",)
    if pod_cidr is not None:
        cidr = ("--allocate-node-cidrs=true", f"--cluster-cidr={pod_cidr}")
    return (
        str(binary),
        f"--kubeconfig={credentials.kubeconfig(CONTROLLER_MANAGER_USER)}",
        f"--root-ca-file={credentials.authority_file}",
        f"--service-account-private-key-file={credentials.service_account_key}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
        *cidr,
        *request_rate(rate),
    )


def scheduler_argv(*, binary: Path, kubeconfig: Path, rate: int | None = None) -> tuple[str, ...]:
    """Return the scheduler's command line."""
    fixed = (str(binary), f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0")
    return (*fixed, *request_rate(rate))


def kwok_argv(*, binary: Path, kubeconfig: Path, stages: Path, port: int) -> tuple[str, ...]:
    """Return kwok's command line: it plays every node that carries its annotation, and their pods."""
    return (
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--config={stages}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--cidr=10.244.0.0/16",
        "--node-ip=127.0.0.1",
        "--node-lease-duration-seconds=40",
        f"--server-address=127.0.0.1:{port}",
    )
