# SPDX-License-Identifier: Apache-2.0
"""The kind way is proved only as far as its config and its command lines."""

import json
from pathlib import Path

from e2e.cluster import kind

KIND = Path("/cache/kind")
GOLDEN_CONFIG = """{
  "kind": "Cluster",
  "apiVersion": "kind.x-k8s.io/v1alpha4",
  "name": "nimblet-dev",
  "nodes": [
    {
      "role": "control-plane"
    }
  ],
  "featureGates": {
    "MutatingAdmissionPolicy": true
  },
  "runtimeConfig": {
    "admissionregistration.k8s.io/v1beta1": "true"
  }
}
"""


def test_config(tmp_path: Path) -> None:
    kind.write_config("dev", path=tmp_path / "kind.yaml")
    assert (tmp_path / "kind.yaml").read_text() == GOLDEN_CONFIG
    assert json.loads(GOLDEN_CONFIG) == kind.kind_config("dev")


def test_create() -> None:
    argv = kind.create_argv("dev", kind=KIND, config=Path("/s/kind.yaml"), kubeconfig=Path("/s/admin.kubeconfig"))
    assert argv == (
        "/cache/kind",
        "create",
        "cluster",
        "--name=nimblet-dev",
        "--config=/s/kind.yaml",
        "--kubeconfig=/s/admin.kubeconfig",
        "--wait=180s",
    )


def test_delete_never_touches_the_users_own_kubeconfig() -> None:
    argv = kind.delete_argv("dev", kind=KIND, kubeconfig=Path("/s/admin.kubeconfig"))
    assert argv == ("/cache/kind", "delete", "cluster", "--name=nimblet-dev", "--kubeconfig=/s/admin.kubeconfig")


def test_load_list_enter_and_the_question_to_docker() -> None:
    load = kind.load_argv("dev", kind=KIND, archive=Path("/a.tar"))
    assert load == ("/cache/kind", "load", "image-archive", "/a.tar", "--name=nimblet-dev")
    assert kind.list_argv(kind=KIND) == ("/cache/kind", "get", "clusters")
    entered = kind.enter_argv("dev", ["curl", "http://10.96.0.1"])
    assert entered == ("docker", "exec", "--interactive", "nimblet-dev-control-plane", "curl", "http://10.96.0.1")
    assert kind.docker_argv() == ("docker", "info", "--format={{.ServerVersion}}")
