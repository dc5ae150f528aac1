# SPDX-License-Identifier: Apache-2.0
"""Brings a real single-node cluster up on a bare Linux machine, without Docker.

Order: preflight, tools, network namespace, etcd + apiserver + containerd, images, the other components,
CoreDNS and the StorageClass, and the wait until all of it is ready. `teardown` undoes it.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e import debian
from e2e.cluster import addons, cgroups, images, nodeconfig, process, teardown, toolchain
from e2e.cluster.api import Api, Endpoint, has_condition
from e2e.cluster.components import (
    POD_CIDR,
    SERVICE_ADDRESS,
    ApiserverPlan,
    EtcdPlan,
    apiserver_argv,
    controller_manager_argv,
    etcd_argv,
    scheduler_argv,
)
from e2e.cluster.credentials import CONTROL_PLANE_USERS, SCHEDULER_USER, Credentials, write_credentials
from e2e.cluster.errors import ClusterError
from e2e.cluster.nodeplan import (
    APISERVER_PORT,
    ETCD_PEER_PORT,
    ETCD_PORT,
    NETWORKS,
    NODE_ADDRESS,
    NodePlan,
    enter_argv,
    network_up_argvs,
)
from e2e.cluster.ociarchive import image_archive, is_static
from e2e.cluster.paths import Cache
from e2e.cluster.pki import Subject
from e2e.cluster.preflight import gather_host, missing_packages, native_problems, require
from e2e.cluster.process import Command, ProcessRecord
from e2e.cluster.progress import Progress
from e2e.cluster.tools import (
    APISERVER,
    CONTROLLER_MANAGER,
    COREDNS,
    ETCD,
    KUBE_PROXY,
    KUBECTL,
    KUBELET,
    LOCAL_PATH,
    SCHEDULER,
    native_tools,
)

READY_SECONDS = 120.0
CONTAINERD = "containerd"
KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""What a kubelet sets for the whole machine (below /proc/sys); `down` sets it back."""

ADDON_DEPLOYMENTS = (
    (addons.DNS_NAMESPACE, "coredns"),
    (addons.STORAGE_NAMESPACE, "local-path-provisioner"),
)


@dataclass
class _Node:
    """What one `up` has at hand; the records are on disk too, always before the next process starts."""

    plan: NodePlan
    cache: Cache
    progress: Progress
    records: dict[str, ProcessRecord] = field(default_factory=dict)

    def start(self, name: str, argv: tuple[str, ...]) -> None:
        """Start a component inside the namespace and record it."""
        log = self.log(name)
        self.records[name] = process.start(Command(name=name, argv=enter_argv(self.plan, argv), log=log))
        text = process.records_to_json(list(self.records.values()))
        self.plan.processes.write_text(text, encoding="utf-8")

    def log(self, name: str) -> Path:
        return self.plan.logs / f"{name}.log"

    def watched(self, *names: str) -> list[tuple[ProcessRecord, Path]]:
        return [(self.records[name], self.log(name)) for name in names]


def up(plan: NodePlan, *, cache: Cache, progress: Progress) -> None:
    """Bring the cluster up, or say that it is; on failure everything is undone but the logs."""
    with toolchain.locked(plan.state.with_name(f"{plan.name}.lock"), progress=progress):
        if is_up(plan):
            progress.say(f"already up: export KUBECONFIG={plan.kubeconfig}")
            return
        if plan.state.exists() or plan.run.exists():
            progress.say(f"{plan.name} is half up (ended, killed or rebooted); removing what is left of it")
            teardown.down(plan, progress=progress)
        prepare_machine(progress)
        toolchain.ensure(native_tools(), cache=cache, progress=progress)
        archives = ensure_images(cache, progress=progress)
        begin = time.monotonic()
        try:
            _start(_Node(plan=plan, cache=cache, progress=progress), archives=archives)
        except BaseException:
            progress.say(f"failed; removing what was started, the logs stay in {plan.failed_logs}")
            teardown.down(plan, progress=progress, keep_logs=True)
            raise
        plan.ready_marker.touch()
        progress.say(f"up in {time.monotonic() - begin:.1f} s: export KUBECONFIG={plan.kubeconfig}")


def is_up(plan: NodePlan) -> bool:
    """Tell whether an `up` went through, all its processes run and the apiserver is ready."""
    if not (plan.ready_marker.exists() and plan.processes.exists()):
        return False
    records = process.records_from_json(plan.processes.read_text(encoding="utf-8"))
    return all(process.is_alive(each) for each in records) and admin_api(plan).is_ready()


def dead_components(plan: NodePlan) -> tuple[str, ...]:
    """Return the names of recorded processes that run no more."""
    if not plan.processes.exists():
        return ()
    records = process.records_from_json(plan.processes.read_text(encoding="utf-8"))
    return tuple(each.name for each in records if not process.is_alive(each))


def admin_api(plan: NodePlan) -> Api:
    """Return a client with the admin's rights."""
    folder = plan.credentials
    endpoint = Endpoint(
        NODE_ADDRESS,
        APISERVER_PORT,
        authority=folder / "ca.crt",
        certificate=folder / "admin.crt",
        key=folder / "admin.key",
    )
    return Api(endpoint)


def prepare_machine(progress: Progress, *, networks: Sequence[str] = NETWORKS) -> None:
    """Install absent Debian packages where that is possible, then require everything, free `networks` too."""
    host = gather_host()
    packages = missing_packages(host)
    if packages and host.root and host.apt:
        debian.install(packages, say=progress.say)
        host = gather_host()
    require(native_problems(host, networks=networks))


def ensure_images(cache: Cache, *, progress: Progress) -> list[Path]:
    """Return the archives of the system images, written into the cache where absent."""
    folder = cache.root / "images" / "system"
    folder.mkdir(parents=True, exist_ok=True)
    busybox = static_busybox()
    wanted = addons.system_images(
        busybox=busybox.read_bytes(),
        applets=tuple(run((str(busybox), "--list")).split()),
        coredns=COREDNS.path(cache).read_bytes(),
        local_path=LOCAL_PATH.path(cache).read_bytes(),
    )
    archives = []
    for image in wanted:
        archive = folder / f"{image.name.rpartition('/')[2].replace(':', '-')}.tar"
        if not archive.exists():
            progress.say(f"writing image {image.name}")
            partial = archive.with_suffix(".partial")
            partial.write_bytes(image_archive(image))
            partial.replace(archive)
        archives.append(archive)
    return archives


def static_busybox() -> Path:
    """Return the busybox on the PATH; it must run alone in an image."""
    found = shutil.which("busybox")
    if found is None or not is_static(Path(found).read_bytes()):
        message = f"expected a statically linked busybox, found {found}; apt-get install busybox-static"
        raise ClusterError(message)
    return Path(found)


def _start(node: _Node, *, archives: list[Path]) -> None:
    plan, progress = node.plan, node.progress
    with progress.step("network namespace, cgroup, certificates, configuration"):
        _make_folders(plan)
        for argv in network_up_argvs(plan):
            run(argv)
        cgroups.create(plan.cgroup)
        credentials = _write_credentials(plan)
        _write_configuration(plan, credentials)
    with progress.step("etcd, kube-apiserver, containerd"):
        _start_first(node, credentials)
        process.wait_until(
            plan.containerd_socket.is_socket,
            seconds=30,
            what="containerd's socket",
            watched=node.watched(CONTAINERD),
        )
        images.load(archives, socket=plan.containerd_socket)
        process.wait_until(
            admin_api(plan).is_ready,
            seconds=60,
            what="a ready apiserver",
            watched=node.watched(APISERVER.name, ETCD.name, CONTAINERD),
        )
    with progress.step("controller-manager, scheduler, kubelet, kube-proxy"):
        _start_rest(node, credentials)
        _apply_addons(node)
        path = f"/api/v1/nodes/{plan.node}"
        admin_api(plan).wait_for(
            path, lambda found: has_condition(found, "Ready"), seconds=READY_SECONDS, what="a Ready node"
        )
    with progress.step("CoreDNS, StorageClass"):
        for namespace, name in ADDON_DEPLOYMENTS:
            path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
            admin_api(plan).wait_for(
                path,
                lambda found: has_condition(found, "Available"),
                seconds=READY_SECONDS,
                what=f"{name} available",
            )


def _make_folders(plan: NodePlan) -> None:
    for each in (plan.config, plan.logs, plan.volumes, plan.cni, plan.kubelet_root, plan.run):
        each.mkdir(parents=True, exist_ok=True)
    # pods of any user reach the volumes through here
    for each in (plan.run, plan.volumes):
        each.chmod(0o711)
    # unshare pins the namespace by mounting over a file
    plan.namespace.touch()
    root = Path("/proc/sys")
    before = {each: (root / each).read_text().strip() for each in KERNEL_SETTINGS if (root / each).is_file()}
    plan.kernel_settings.write_text(json.dumps(before), encoding="utf-8")


def _write_credentials(plan: NodePlan) -> Credentials:
    users = {
        **CONTROL_PLANE_USERS,
        nodeconfig.KUBELET_USER: Subject(f"system:node:{plan.node}", organizations=("system:nodes",)),
        nodeconfig.KUBE_PROXY_USER: Subject("system:kube-proxy"),
    }
    return write_credentials(
        directory=plan.credentials,
        server_url=plan.server_url,
        addresses=("127.0.0.1", NODE_ADDRESS, SERVICE_ADDRESS),
        users=users,
    )


def _write_configuration(plan: NodePlan, credentials: Credentials) -> None:
    resolv_conf = plan.config / "resolv.conf"
    resolv_conf.write_text("# pods ask the cluster's DNS only\n", encoding="utf-8")
    serving = credentials.issue(
        "kubelet-serving", Subject(plan.node, names=(plan.node,), addresses=(NODE_ADDRESS,))
    )
    containerd = nodeconfig.containerd_config(plan, pause_image=addons.PAUSE_IMAGE)
    kubelet = nodeconfig.kubelet_config(
        plan, authority=credentials.authority_file, serving=serving, resolv_conf=resolv_conf
    )
    (plan.config / "containerd.toml").write_text(nodeconfig.toml_text(containerd), encoding="utf-8")
    (plan.config / "kubelet.json").write_text(json.dumps(kubelet, indent=2), encoding="utf-8")
    cni = json.dumps(nodeconfig.cni_config(plan), indent=2)
    (plan.cni / "10-nimblet.conflist").write_text(cni, encoding="utf-8")


def _start_first(node: _Node, credentials: Credentials) -> None:
    plan, cache = node.plan, node.cache
    node.start(CONTAINERD, nodeconfig.containerd_argv(plan.config / "containerd.toml"))
    etcd = EtcdPlan(
        binary=ETCD.path(cache),
        data=plan.state / "etcd",
        credentials=credentials,
        client_port=ETCD_PORT,
        peer_port=ETCD_PEER_PORT,
    )
    node.start(ETCD.name, etcd_argv(etcd))
    kubelet_client = credentials.issue(
        "kubelet-client", Subject("kube-apiserver-kubelet-client", organizations=("system:masters",))
    )
    apiserver = ApiserverPlan(
        binary=APISERVER.path(cache),
        etcd_port=ETCD_PORT,
        bind_address="0.0.0.0",  # noqa: S104 - every address of the cluster's own namespace, none of the host's
        advertise_address=NODE_ADDRESS,
        port=APISERVER_PORT,
        credentials=credentials,
        kubelet_client=kubelet_client,
    )
    node.start(APISERVER.name, apiserver_argv(apiserver))


def _start_rest(node: _Node, credentials: Credentials) -> None:
    plan, cache = node.plan, node.cache
    manager = CONTROLLER_MANAGER.path(cache)
    node.start(
        CONTROLLER_MANAGER.name,
        controller_manager_argv(binary=manager, credentials=credentials, pod_cidr=POD_CIDR),
    )
    kubeconfig = credentials.kubeconfig(SCHEDULER_USER)
    node.start(SCHEDULER.name, scheduler_argv(binary=SCHEDULER.path(cache), kubeconfig=kubeconfig))
    config = plan.config / "kubelet.json"
    node.start(
        KUBELET.name,
        nodeconfig.kubelet_argv(plan, binary=KUBELET.path(cache), config=config, credentials=credentials),
    )
    proxy = KUBE_PROXY.path(cache)
    node.start(KUBE_PROXY.name, nodeconfig.kube_proxy_argv(plan, binary=proxy, credentials=credentials))


def _apply_addons(node: _Node) -> None:
    plan = node.plan
    manifest = {"apiVersion": "v1", "kind": "List", "items": addons.addon_manifests(volumes=plan.volumes)}
    admin_api(plan).wait_for(
        f"/api/v1/namespaces/{addons.DNS_NAMESPACE}", lambda _: True, seconds=30, what="namespace kube-system"
    )
    argv = (
        str(KUBECTL.path(node.cache)),
        f"--kubeconfig={plan.kubeconfig}",
        "apply",
        "--server-side",
        "--filename=-",
    )
    run(argv, text=json.dumps(manifest))


def run(argv: tuple[str, ...], *, text: str | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a short command and return its output; ClusterError with its complaint if it fails."""
    done = subprocess.run(argv, input=text or "", capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        message = f"expected `{' '.join(argv)}` to succeed, it returned {done.returncode}: {done.stderr.strip()}"
        raise ClusterError(message)
    return done.stdout
