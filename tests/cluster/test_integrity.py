# SPDX-License-Identifier: Apache-2.0
"""Digests of a ConfigMap on a real API server: nothing runs without them, and another content rolls the pods."""

import json
from typing import Any

import pytest

from nimblet import labels
from tests.cluster.operator_support import Launcher, View, eventually
from tests.cluster.settling import ready

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

DIGEST, OTHER = "a" * 64, "b" * 64


def publish(view: View, text: str, **marks: str) -> None:
    """Write the manifest's ConfigMap as its user does."""
    path = f"/api/v1/namespaces/{view.namespace}/configmaps/sums"
    view.api.apply(
        path,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "sums", "labels": marks},
            "data": {"sha256sums": text},
        },
    )


def digests(view: View) -> dict[str, str]:
    """Return what the loader of the server's pods is told; nothing where there is no Deployment."""
    deployment: Any = view.children("Deployment").get("small-model")
    if deployment is None:
        return {}
    [loader] = deployment["spec"]["template"]["spec"]["initContainers"]
    source = next(item["value"] for item in loader["env"] if item["name"] == "NIMBLET_SOURCE")
    return dict(json.loads(source)["sha256"])


def refused(view: View, reason: str) -> None:
    """Wait until the reason is told; nothing is resolved or run."""
    eventually(lambda: view.condition("small", "Ready") == ("False", reason), what=f"{reason} told")
    assert not view.children("Job")
    assert not view.children("Deployment")


def test_a_manifest_of_digests_is_waited_for_and_its_change_rolls(launcher: Launcher, view: View) -> None:
    launcher.start()
    view.create("small", integrity={"manifestRef": {"name": "sums", "key": "sha256sums"}})
    refused(view, "ConfigMapMissing")
    publish(view, f"{DIGEST}  m.gguf\n")
    refused(view, "ConfigMapNotUsable")
    publish(view, "no sums", **{labels.USE: "true"})
    refused(view, "IntegrityInvalid")

    publish(view, f"{DIGEST}  m.gguf\n", **{labels.USE: "true"})
    ready(view, "small")
    assert digests(view) == {"m.gguf": DIGEST}
    assert view.condition("small", "Verified") != (
        "True",
        "DigestsMatch",
    )  # the stub's artifact names no such file

    publish(view, f"{OTHER}  m.gguf\n", **{labels.USE: "true"})
    eventually(lambda: digests(view) == {"m.gguf": OTHER}, what="the pods rolled to the new digests")
