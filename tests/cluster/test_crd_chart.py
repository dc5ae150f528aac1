# SPDX-License-Identifier: Apache-2.0
"""A real API server takes all that the chart renders, where Pod Security restricted is enforced."""

from collections.abc import Iterator

import pytest

from e2e.cluster.api import Api
from e2e.cluster.controlplane import ControlPlane
from tests.cluster.crd_support import Object
from tests.contract.chart_support import NAMESPACE, at, only, render

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
STRICT = "fieldValidation=Strict"
TEAM = "team-a"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
COLLECTIONS = {
    "ClusterRole": f"{RBAC}/clusterroles",
    "ClusterRoleBinding": f"{RBAC}/clusterrolebindings",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    "Role": f"{RBAC}/namespaces/{{namespace}}/roles",
    "RoleBinding": f"{RBAC}/namespaces/{{namespace}}/rolebindings",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ValidatingAdmissionPolicy": f"{ADMISSION}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{ADMISSION}/validatingadmissionpolicybindings",
}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    api = control_plane.api
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (NAMESPACE, TEAM):
        api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    yield api
    for name in (NAMESPACE, TEAM):
        api.delete(f"/api/v1/namespaces/{name}")


def create(api: Api, item: Object, *, query: str) -> None:
    metadata = item["metadata"]
    assert isinstance(metadata, dict)
    collection = COLLECTIONS[str(item["kind"])].format(namespace=metadata.get("namespace"))
    api.create(f"{collection}?{query}", item)


@pytest.mark.parametrize(
    "sets",
    [
        [],
        [f'watchNamespaces=["{TEAM}"]', "operator.replicas=2", "metrics.namespaces=[]"],
        [
            'operator.tolerations=[{"key":"dedicated","operator":"Exists"}]',
            'operator.nodeSelector={"kubernetes.io/os":"linux"}',
            'operator.imagePullSecrets=["registry"]',
            'operator.podAnnotations={"note":"a"}',
            'serviceAccount.annotations={"note":"b"}',
        ],
    ],
    ids=["defaults", "namespaced-two-replicas", "everything-set"],
)
def test_every_object_passes_a_strict_dry_run(api: Api, sets: list[str]) -> None:
    # the definitions are installed already, strictly, from their own generated files
    for item in render(sets=["crds.enabled=false", *sets]):
        create(api, item, query=f"dryRun=All&{STRICT}")


def test_the_operators_pod_is_admitted_where_restricted_is_enforced(api: Api) -> None:
    objects = render()
    create(api, only(objects, "ServiceAccount"), query=STRICT)
    template = at(only(objects, "Deployment"), "spec", "template")
    assert isinstance(template, dict)
    pod = {**template, "metadata": {**template["metadata"], "name": "operator"}}
    api.create(f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All&{STRICT}", pod)
