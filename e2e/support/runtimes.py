# SPDX-License-Identifier: Apache-2.0
"""By which runtime handler a pod really runs: asked of containerd itself, not of Kubernetes. Reads only.

On kind it is asked by crictl, which its nodes have: unproved until a machine with Docker has run it.
"""

import base64
import json
import subprocess
from collections.abc import Sequence

from e2e.cluster.cluster import Cluster
from e2e.cluster.nodeconfig import SECOND_HANDLER, second_runtime

_NAMESPACE = "--namespace=k8s.io"


def runs_by_second_handler(cluster: Cluster, pod_uid: str) -> bool:
    """Tell whether all of a running pod, its sandbox too, was started by the second handler."""
    return _by_crictl(cluster, pod_uid) if cluster.on_kind else _by_ctr(cluster, pod_uid)


def _by_ctr(cluster: Cluster, pod_uid: str) -> bool:
    """Ask for the options that containerd starts each container with: they name the handler's folder."""
    ctr = ("ctr", f"--address={cluster.plan.containerd_socket}", _NAMESPACE, "containers")
    names = _run((*ctr, "list", "--quiet", f'labels."io.kubernetes.pod.uid"=={pod_uid}')).split()
    folder = str(second_runtime(cluster.plan))
    options = [json.loads(_run((*ctr, "info", name)))["Runtime"]["Options"]["value"] for name in names]
    # a protobuf message; its strings stand in it as they are
    return len(names) > 1 and all(folder.encode() in base64.b64decode(each) for each in options)


def _by_crictl(cluster: Cluster, pod_uid: str) -> bool:
    listed = ("crictl", "pods", "--quiet", f"--label=io.kubernetes.pod.uid={pod_uid}")
    (name,) = _run(cluster.nsenter(listed)).split()
    return SECOND_HANDLER in _run(cluster.nsenter(("crictl", "inspectp", "--output=json", name)))


def _run(argv: Sequence[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
