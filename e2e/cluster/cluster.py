# SPDX-License-Identifier: Apache-2.0
"""The disposable cluster as tests and commands see it, whichever way it runs.

cluster = up("e2e", cache=cache, progress=Progress())
cluster.load([Path("operator.tar")])
cluster.kubectl("apply", "--filename=-", text=manifest)
down("e2e", cache=cache, progress=Progress())
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import images, kind, native, teardown, toolchain
from e2e.cluster.errors import ClusterError
from e2e.cluster.nodeplan import NodePlan, enter_argv
from e2e.cluster.paths import Cache
from e2e.cluster.preflight import gather_host, kind_problems, require
from e2e.cluster.progress import Progress
from e2e.cluster.tools import HELM, KIND_TOOL, KUBECTL, Tool, light_tools, native_tools

DEFAULT_NAME = "dev"


@dataclass(frozen=True)
class Cluster:
    """A running cluster; `state` is its folder."""

    name: str
    state: Path
    cache: Cache

    @property
    def plan(self) -> NodePlan:
        """The names and paths of the native way."""
        return NodePlan(name=self.name, state=self.state)

    @property
    def on_kind(self) -> bool:
        """Whether kind runs it."""
        return _kind_config(self.state).exists()

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return _kind_kubeconfig(self.state) if self.on_kind else self.plan.kubeconfig

    @property
    def kubectl_binary(self) -> Path:
        """The kubectl of this cluster's version."""
        return KUBECTL.path(self.cache)

    @property
    def helm_binary(self) -> Path:
        """Helm."""
        return HELM.path(self.cache)

    def nsenter(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return `argv` run inside the cluster's network, where every pod and Service address is reached."""
        if self.on_kind:
            return kind.enter_argv(self.name, argv)
        return enter_argv(self.plan, tuple(argv))

    def load(self, archives: Sequence[Path]) -> tuple[str, ...]:
        """Import image archives; returns the full image names (natively), or the archives' (kind)."""
        if self.on_kind:
            for archive in archives:
                kind.run(kind.load_argv(self.name, kind=KIND_TOOL.path(self.cache), archive=archive))
            return tuple(name for archive in archives for name in images.archive_names(archive))
        return images.load(archives, socket=self.plan.containerd_socket)

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """Run kubectl with the admin's rights and `text` as its input; returns its output."""
        argv = (str(self.kubectl_binary), f"--kubeconfig={self.kubeconfig}", *arguments)
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"expected `kubectl {' '.join(arguments)}` to succeed: {done.stderr.strip()}"
            raise ClusterError(message)
        return done.stdout


def find(name: str, *, cache: Cache, state: Path | None = None) -> Cluster:
    """Return the cluster called `name`; it need not be up."""
    return Cluster(name=name, state=state if state is not None else cache.state(name), cache=cache)


def up(name: str, *, cache: Cache, progress: Progress, state: Path | None = None) -> Cluster:
    """Bring a cluster up if it is not: kind where Docker's engine answers, else natively."""
    cluster = find(name, cache=cache, state=state)
    if cluster.on_kind or (teardown.is_down(cluster.plan) and kind.docker_answers()):
        _up_on_kind(cluster, progress)
    else:
        native.up(cluster.plan, cache=cache, progress=progress)
    return cluster


def prepare(*, cache: Cache, progress: Progress) -> None:
    """Bring every tool of both clusters into the cache, and the machine's packages where they can be installed."""
    tools: set[Tool] = {*light_tools(kwok=True, scheduler=True), KUBECTL, HELM}
    if kind.docker_answers():
        tools.add(KIND_TOOL)
    else:
        native.prepare_machine(progress, networks=())  # they are taken where the cluster is up
        tools.update(native_tools())
    toolchain.ensure(sorted(tools, key=lambda tool: tool.name), cache=cache, progress=progress)


def down(name: str, *, cache: Cache, progress: Progress, state: Path | None = None) -> None:
    """Remove the cluster and everything of it."""
    cluster = find(name, cache=cache, state=state)
    if cluster.on_kind:
        argv = kind.delete_argv(name, kind=KIND_TOOL.path(cache), kubeconfig=cluster.kubeconfig)
        kind.run(argv)
        _kind_kubeconfig(cluster.state).unlink(missing_ok=True)
        _kind_config(cluster.state).unlink()
        cluster.state.rmdir()
        progress.say(f"{name} is down")
    elif teardown.is_down(cluster.plan):
        progress.say(f"{name} is not up: nothing to do")
    else:
        with toolchain.locked(cluster.state.with_name(f"{name}.lock"), progress=progress):
            teardown.down(cluster.plan, progress=progress)


def status(cluster: Cluster) -> tuple[bool, str]:
    """Return whether the cluster is up and well, and the text that says so."""
    if cluster.on_kind:
        listed = kind.run(kind.list_argv(kind=KIND_TOOL.path(cluster.cache))).split()
        if kind.cluster_name(cluster.name) not in listed:
            return False, f"{cluster.name}: kind knows no such cluster; run `up`"
    elif teardown.is_down(cluster.plan):
        return False, f"{cluster.name}: not up; run `up`"
    elif not native.is_up(cluster.plan):
        dead = ", ".join(native.dead_components(cluster.plan)) or "the apiserver is not ready"
        return False, f"{cluster.name}: half up ({dead}; logs in {cluster.plan.logs}); run `up` to replace it"
    nodes = cluster.kubectl("get", "nodes", "--output=wide")
    pods = cluster.kubectl("get", "pods", "--all-namespaces", "--output=wide")
    return True, f"{cluster.name}: up\nexport KUBECONFIG={cluster.kubeconfig}\n\n{nodes}\n{pods}"


def _up_on_kind(cluster: Cluster, progress: Progress) -> None:
    require(kind_problems(gather_host()))
    toolchain.ensure((KUBECTL, HELM, KIND_TOOL), cache=cluster.cache, progress=progress)
    binary = KIND_TOOL.path(cluster.cache)
    if kind.cluster_name(cluster.name) in kind.run(kind.list_argv(kind=binary)).split():
        progress.say(f"already up: export KUBECONFIG={cluster.kubeconfig}")
        return
    cluster.state.mkdir(parents=True, exist_ok=True)
    config = _kind_config(cluster.state)
    kind.write_config(cluster.name, path=config)
    with progress.step("kind"):
        argv = kind.create_argv(
            cluster.name, kind=binary, config=config, kubeconfig=_kind_kubeconfig(cluster.state)
        )
        kind.run(argv)
    progress.say(f"up: export KUBECONFIG={cluster.kubeconfig}")


def _kind_config(state: Path) -> Path:
    return state / "kind.yaml"


def _kind_kubeconfig(state: Path) -> Path:
    return state / "admin.kubeconfig"
