# SPDX-License-Identifier: Apache-2.0
"""The cluster where Docker's engine runs: kind's config and command lines (pure), and the runner.

Unproved until a machine with Docker has run it: only the rendering is tested here.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.components import FEATURE_GATES, RUNTIME_CONFIG
from e2e.cluster.errors import ClusterError


def kind_config(name: str) -> dict[str, object]:
    """Return kind's cluster config (kind.x-k8s.io/v1alpha4): one node that is control plane and worker.

    No image is named: the default of the pinned kind is pinned by digest, and known to exist.
    """
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": cluster_name(name),
        "nodes": [{"role": "control-plane"}],
        "featureGates": dict.fromkeys(FEATURE_GATES, True),
        "runtimeConfig": dict.fromkeys(RUNTIME_CONFIG, "true"),
    }


def cluster_name(name: str) -> str:
    """Return the name that kind knows the cluster by."""
    return f"nimblet-{name}"


def create_argv(name: str, *, kind: Path, config: Path, kubeconfig: Path) -> tuple[str, ...]:
    """Return the command that creates the cluster and waits until its node is Ready."""
    return (
        str(kind),
        "create",
        "cluster",
        f"--name={cluster_name(name)}",
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        "--wait=180s",
    )


def delete_argv(name: str, *, kind: Path, kubeconfig: Path) -> tuple[str, ...]:
    """Return the command that deletes the cluster."""
    return (str(kind), "delete", "cluster", f"--name={cluster_name(name)}", f"--kubeconfig={kubeconfig}")


def list_argv(*, kind: Path) -> tuple[str, ...]:
    """Return the command that lists kind's clusters, one a line."""
    return (str(kind), "get", "clusters")


def load_argv(name: str, *, kind: Path, archive: Path) -> tuple[str, ...]:
    """Return the command that loads an image archive."""
    return (str(kind), "load", "image-archive", str(archive), f"--name={cluster_name(name)}")


def enter_argv(name: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Return `argv` run inside the node, from where pods and Services are reached."""
    return ("docker", "exec", "--interactive", f"{cluster_name(name)}-control-plane", *argv)


def docker_argv() -> tuple[str, ...]:
    """Return the command that asks whether Docker's engine answers."""
    return ("docker", "info", "--format={{.ServerVersion}}")


def docker_answers() -> bool:
    """Tell whether a Docker engine answers; having the client alone is not enough."""
    try:
        done = subprocess.run(docker_argv(), capture_output=True, check=False, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def write_config(name: str, *, path: Path) -> None:
    """Write the config (JSON, which is YAML)."""
    path.write_text(json.dumps(kind_config(name), indent=2) + "\n", encoding="utf-8")


def run(argv: Sequence[str]) -> str:
    """Run a command with its complaints shown to the person; returns its output."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        message = f"expected `{' '.join(argv)}` to succeed, it returned {done.returncode}; see the lines above"
        raise ClusterError(message)
    return done.stdout
