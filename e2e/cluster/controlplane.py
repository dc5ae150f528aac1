# SPDX-License-Identifier: Apache-2.0
"""The light control plane: a real apiserver with real controllers, and nodes in make-believe.

etcd, kube-apiserver, kube-controller-manager, and if wanted kube-scheduler and kwok, on loopback with free
ports, with a certificate authority of their own, in a folder that is removed at the end. No root, no
network namespace. It runs no container: what a pod does is what a kwok Stage says.

    with ControlPlane(ControlPlaneOptions(scheduler=True)) as plane:
        plane.add_node(FakeNode("gpu-0", allocatable={"nvidia.com/gpu": "2"}))
        client = kubernetes.config.new_client_from_config(str(plane.kubeconfig))

The processes end with the thread that started them, so start it from the main thread.
"""

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.cluster import process, toolchain
from e2e.cluster.api import Api, Endpoint, Manifest, has_condition, items
from e2e.cluster.api import field as at
from e2e.cluster.components import (
    SERVICE_ADDRESS,
    ApiserverPlan,
    EtcdPlan,
    apiserver_argv,
    controller_manager_argv,
    etcd_argv,
    kwok_argv,
    scheduler_argv,
)
from e2e.cluster.credentials import (
    ADMIN,
    CONTROL_PLANE_USERS,
    SCHEDULER_USER,
    Credentials,
    write_credentials,
)
from e2e.cluster.errors import ClusterError
from e2e.cluster.kwok import FakeNode, node_manifest, stages_text
from e2e.cluster.paths import Cache, cache_of
from e2e.cluster.pki import Subject
from e2e.cluster.preflight import gather_host, light_problems, require
from e2e.cluster.process import Command, ProcessRecord
from e2e.cluster.progress import Progress
from e2e.cluster.tools import APISERVER, CONTROLLER_MANAGER, ETCD, KWOK, SCHEDULER, light_tools

LOOPBACK = "127.0.0.1"
PORTS = range(20000, 30000)
"""Below what Linux gives to sockets that ask for any port (net.ipv4.ip_local_port_range begins at 32768)."""
START_SECONDS = 60.0
STOP_SECONDS = 1.0
SETTLED_OBJECTS = (
    "/api/v1/namespaces/default/serviceaccounts/default",
    "/api/v1/namespaces/default/configmaps/kube-root-ca.crt",
)
"""What must exist before a pod can be made in the namespace `default`."""


@dataclass(frozen=True)
class ControlPlaneOptions:
    """What to run.

    `stages` are kwok Stages beside the defaults (see `kwok`); the extra arguments come last on their program's
    command line, so they override; `rate` is how many requests a second the controllers and the scheduler may
    make, their own defaults without it; `cache` holds the built programs, by default what $NIMBLET_CACHE says.
    """

    kwok: bool = True
    scheduler: bool = False
    stages: tuple[Mapping[str, object], ...] = ()
    extra_apiserver_args: tuple[str, ...] = ()
    extra_controller_manager_args: tuple[str, ...] = ()
    rate: int | None = None
    cache: Cache = field(default_factory=lambda: cache_of(os.environ))
    progress: Progress = field(default_factory=Progress)


class ControlPlane:
    """One light control plane; a context manager, or `start` and `stop`."""

    def __init__(self, options: ControlPlaneOptions | None = None) -> None:
        self._options = options if options is not None else ControlPlaneOptions()
        self._commands: dict[str, Command] = {}
        self._running: dict[str, ProcessRecord] = {}
        self._directory: Path | None = None
        self._credentials: Credentials | None = None
        self._api: Api | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def api(self) -> Api:
        """A minimal client, as cluster admin."""
        if self._api is None:
            raise _not_started()
        return self._api

    @property
    def directory(self) -> Path:
        """The folder with certificates, data and logs; gone after `stop`."""
        if self._directory is None:
            raise _not_started()
        return self._directory

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of a cluster admin."""
        return self.directory / f"{ADMIN}.kubeconfig"

    @property
    def url(self) -> str:
        """The apiserver's https URL."""
        return self.api.endpoint.url

    def start(self) -> None:
        """Start everything and return once pods can be created; builds absent tools first."""
        options = self._options
        require(light_problems(gather_host()))
        tools = light_tools(kwok=options.kwok, scheduler=options.scheduler)
        toolchain.ensure(tools, cache=options.cache, progress=options.progress)
        self._directory = Path(tempfile.mkdtemp(prefix="nimblet-control-plane-"))
        try:
            with options.progress.step("light control plane"):
                self._plan()
                self._start_components()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything and remove the folder; may be called again."""
        process.stop_all(self._running.values(), grace_seconds=STOP_SECONDS)
        self._running.clear()
        self._api = None
        self._credentials = None
        self._commands.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def stop_component(self, name: str) -> None:
        """Stop one component (etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok)."""
        process.stop_all([self._record(name)], grace_seconds=STOP_SECONDS)
        del self._running[name]

    def start_component(self, name: str) -> None:
        """Start one component again after `stop_component`, on the same port with the same data."""
        if name not in self._commands or name in self._running:
            message = f"expected a stopped component out of {sorted(self._commands)}, found {name!r}"
            raise ClusterError(message)
        self._running[name] = process.start(self._commands[name])
        if name == APISERVER.name:
            self._wait_ready()

    def log(self, name: str) -> Path:
        """Return the log file of a component."""
        return self._commands[name].log

    def add_node(self, node: FakeNode, *, seconds: float = 60.0) -> None:
        """Create a make-believe node and return once it is Ready and free of start-up taints."""
        if not self._options.kwok:
            message = "expected a control plane with kwok to add nodes; start it with kwok=True"
            raise ClusterError(message)
        self.api.create("/api/v1/nodes", node_manifest(node))
        path = f"/api/v1/nodes/{node.name}"
        self.api.wait_for(path, is_settled, seconds=seconds, what=f"node {node.name} Ready")

    def delete_node(self, name: str) -> None:
        """Delete a node; its pods go with it, by the pod garbage collector."""
        self.api.delete(f"/api/v1/nodes/{name}")

    def user_kubeconfig(self, name: str, *, groups: Sequence[str] = ()) -> Path:
        """Write and return the kubeconfig of a user without rights of its own, for RBAC tests."""
        if self._credentials is None:
            raise _not_started()
        count = len(list(self.directory.glob("user-*")))
        return self._credentials.add_user(f"user-{count}", Subject(name, organizations=tuple(groups)))

    def _record(self, name: str) -> ProcessRecord:
        if name not in self._running:
            message = f"expected a running component out of {sorted(self._running)}, found {name!r}"
            raise ClusterError(message)
        return self._running[name]

    def _plan(self) -> None:
        """Write certificates and configuration, and plan each component's command line."""
        directory = self.directory
        apiserver_port, etcd_port, peer_port, kwok_port = free_ports(4)
        endpoint = f"https://{LOOPBACK}:{apiserver_port}"
        made = write_credentials(
            directory=directory,
            server_url=endpoint,
            addresses=(LOOPBACK, SERVICE_ADDRESS),
            users=CONTROL_PLANE_USERS,
        )
        self._credentials = made
        self._api = Api(
            Endpoint(
                LOOPBACK,
                apiserver_port,
                authority=made.authority_file,
                certificate=made.admin.certificate,
                key=made.admin.key,
            )
        )
        cache = self._options.cache
        etcd = EtcdPlan(
            binary=ETCD.path(cache),
            data=directory / "etcd",
            credentials=made,
            client_port=etcd_port,
            peer_port=peer_port,
        )
        apiserver = ApiserverPlan(
            binary=APISERVER.path(cache),
            etcd_port=etcd_port,
            bind_address=LOOPBACK,
            advertise_address=LOOPBACK,
            port=apiserver_port,
            credentials=made,
            # the endpoint of the Service `kubernetes` may not be a loopback address
            extra=("--endpoint-reconciler-type=none", *self._options.extra_apiserver_args),
        )
        binary = CONTROLLER_MANAGER.path(cache)
        self._command(ETCD.name, etcd_argv(etcd))
        self._command(APISERVER.name, apiserver_argv(apiserver))
        controllers = controller_manager_argv(binary=binary, credentials=made, rate=self._options.rate)
        extra = self._options.extra_controller_manager_args
        self._command(CONTROLLER_MANAGER.name, (*controllers, *extra))
        self._plan_optional(kwok_port=kwok_port)

    def _plan_optional(self, *, kwok_port: int) -> None:
        options = self._options
        if options.scheduler:
            kubeconfig = self.directory / f"{SCHEDULER_USER}.kubeconfig"
            binary = SCHEDULER.path(options.cache)
            argv = scheduler_argv(binary=binary, kubeconfig=kubeconfig, rate=options.rate)
            self._command(SCHEDULER.name, argv)
        if options.kwok:
            stages = self.directory / "stages.yaml"
            stages.write_text(stages_text(options.stages), encoding="utf-8")
            binary = KWOK.path(options.cache)
            argv = kwok_argv(binary=binary, kubeconfig=self.kubeconfig, stages=stages, port=kwok_port)
            self._command(KWOK.name, argv)

    def _command(self, name: str, argv: tuple[str, ...]) -> None:
        log = self.directory / "logs" / f"{name}.log"
        self._commands[name] = Command(name=name, argv=argv, log=log, dies_with_parent=True)

    def _start_components(self) -> None:
        """Start etcd and the apiserver first (it waits for etcd itself), the others when it is ready."""
        first = (ETCD.name, APISERVER.name)
        for name in first:
            self._running[name] = process.start(self._commands[name])
        self._wait_ready()
        for name, command in self._commands.items():
            if name not in first:
                self._running[name] = process.start(command)
        for path in SETTLED_OBJECTS:
            self.api.wait_for(path, lambda _: True, seconds=START_SECONDS, what="an object of the controllers")

    def _wait_ready(self) -> None:
        watched = [(self._running[name], self._commands[name].log) for name in (APISERVER.name, ETCD.name)]
        process.wait_until(self.api.is_ready, seconds=START_SECONDS, what="a ready apiserver", watched=watched)


def is_settled(node: Manifest) -> bool:
    """Tell whether a node is Ready and the node controller has taken its own taints away."""
    taints = [str(at(each, "key")) for each in items(node, "spec", "taints")]
    starting = any(key.startswith(("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")) for key in taints)
    return has_condition(node, "Ready") and not starting


def free_ports(count: int) -> list[int]:
    """Return free TCP ports of loopback, all different; nothing holds them until a component does.

    The kernel gives them to nobody in between, and two callers, even in two processes, hardly ever choose alike.
    """
    sockets: list[socket.socket] = []
    try:
        for port in secrets.SystemRandom().sample(PORTS, len(PORTS)):
            if len(sockets) == count:
                break
            with contextlib.suppress(OSError):  # somebody listens there
                sockets.append(socket.create_server((LOOPBACK, port)))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _not_started() -> ClusterError:
    return ClusterError("expected a started control plane, found a stopped one; call start() first")
