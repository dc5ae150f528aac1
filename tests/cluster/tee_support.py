# SPDX-License-Identifier: Apache-2.0
"""TEEPolicies, RuntimeClasses and the chart's admission policies on a test's API server. Only for tests."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.cluster.api import Api, Endpoint
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ApiError
from nimblet import labels
from tests.contract.chart_support import render
from tests.teepools import CLASSES

ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
POLICIES: Final = f"/apis/{labels.API_VERSION}/teepolicies"
OPTED_IN: Final = {"nimblet.dev/tee-admission": "enforced"}
RBAC: Final = "rbac.authorization.k8s.io"


def install_admission(api: Api, *controllers: str) -> list[str]:
    """Install the chart's policies and return their paths; `controllers` stand for those that make pods."""
    listed = ", ".join(f'"{name}"' for name in controllers)
    objects = [
        item for item in render(sets=[f"admission.controllers=[{listed}]"]) if "Admission" in str(item["kind"])
    ]
    paths = []
    for item in objects:
        plural = f"{str(item['kind']).lower()}s".replace("policys", "policies")
        metadata: Any = item["metadata"]
        paths.append(f"{ADMISSION}/{plural}/{metadata['name']}")
        api.apply(paths[-1], item)
    return paths


def install_classes(api: Api) -> None:
    """Make the RuntimeClasses of the pools."""
    for name, (memory, cpu) in CLASSES.items():
        manifest = {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": name,
            "overhead": {"podFixed": {"memory": f"{memory}Mi", "cpu": f"{cpu}m"}},
        }
        api.apply(f"/apis/node.k8s.io/v1/runtimeclasses/{name}", manifest)


def put_policy(api: Api, name: str, spec: Mapping[str, object]) -> None:
    """Make or change a TEEPolicy."""
    manifest = {
        "apiVersion": labels.API_VERSION,
        "kind": "TEEPolicy",
        "metadata": {"name": name},
        "spec": dict(spec),
    }
    api.apply(f"{POLICIES}/{name}", manifest)


def label_namespace(api: Api, name: str, labels_: Mapping[str, str]) -> None:
    """Set labels of a namespace."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels_)}}
    api.apply(f"/api/v1/namespaces/{name}", manifest)


def user_api(plane: ControlPlane, name: str, directory: Path) -> Api:
    """Return a client of a user without rights of its own."""
    config = yaml.safe_load(plane.user_kubeconfig(name).read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    files = {"authority": cluster["certificate-authority-data"]}
    files |= {"certificate": user["client-certificate-data"], "key": user["client-key-data"]}
    paths = {part: directory / f"{name}-{part}.pem" for part in files}
    for part, text in files.items():
        paths[part].write_bytes(base64.b64decode(text))
    given = plane.api.endpoint
    return Api(Endpoint(host=given.host, port=given.port, **paths))


def grant(api: Api, namespace: str, user: str, rules: Sequence[Mapping[str, object]]) -> None:
    """Give a user rights in one namespace."""
    base = f"/apis/{RBAC}/v1/namespaces/{namespace}"
    head = {"apiVersion": f"{RBAC}/v1", "metadata": {"name": user, "namespace": namespace}}
    api.apply(f"{base}/roles/{user}", {**head, "kind": "Role", "rules": list(rules)})
    binding = {
        **head,
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": user},
        "subjects": [{"kind": "User", "name": user, "apiGroup": RBAC}],
    }
    api.apply(f"{base}/rolebindings/{user}", binding)


def refusal(api: Api, path: str, manifest: Mapping[str, object], *, verb: str = "create") -> str:
    """Return the server's words where it refuses a write (a dry run); "" where it would do it.

    A replacement counts whatever changed meanwhile: controllers write beside the tests.
    """
    target = f"{path}?dryRun=All"
    metadata: Any = manifest["metadata"]
    manifest = {**manifest, "metadata": {key: metadata[key] for key in metadata if key != "resourceVersion"}}
    try:
        (api.replace if verb == "replace" else api.create)(target, manifest)
    except ApiError as error:
        return str(error)
    return ""
