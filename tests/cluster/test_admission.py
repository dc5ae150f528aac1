# SPDX-License-Identifier: Apache-2.0
"""The chart's ValidatingAdmissionPolicies on a real API server: what tenants can't do by hand, and still can."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.cluster.api import Api
from e2e.cluster.controlplane import ControlPlane
from nimblet import labels
from tests.cluster.operator_support import eventually
from tests.cluster.tee_support import (
    OPTED_IN,
    POLICIES,
    grant,
    install_admission,
    install_classes,
    label_namespace,
    put_policy,
    refusal,
    user_api,
)
from tests.teepools import SIMULATED

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
BOUND = {"security": "admission"}
OURS = {labels.MODEL: "small"}
POLICY = {
    "technologies": ["TDX", "SNP"],
    "enforcement": "Required",
    "namespaceSelector": {"matchLabels": BOUND},
    "overrides": [{"technology": "SNP", "runtimeClassName": "gramine"}],
    "attestation": SIMULATED,
}
RULES = (
    {
        "apiGroups": ["", "apps", "batch"],
        "resources": [
            *("pods", "pods/ephemeralcontainers", "pods/status", "deployments", "replicasets", "jobs", "cronjobs"),
            *("secrets", "persistentvolumeclaims", "persistentvolumeclaims/status"),
        ],
        "verbs": ["create", "get", "update", "patch"],
    },
)
TENANT, CONTROLLER = "tenant", "some-controller"
PLACE, ORIGIN, KEPT = (
    "a pod of Nimblet needs a RuntimeClass of TDX or SNP",
    "what bears a label of nimblet.dev is made and changed",
    "put on its claims and Secrets stays on them",
)


@dataclass(frozen=True)
class Yard:
    """A bound, opted-in namespace, and who acts in it."""

    admin: Api
    tenant: Api
    controller: Api
    """A user that makes pods as the controllers of kube-system do."""
    namespace: str

    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"


@pytest.fixture(scope="module")
def yard(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    api, namespace, directory = control_plane.api, "admission", tmp_path_factory.mktemp("users")
    install_classes(api)
    installed = install_admission(api, CONTROLLER, "system:kube-controller-manager")
    put_policy(api, "admission", POLICY)
    label_namespace(api, namespace, {**BOUND, **OPTED_IN})
    users = {name: user_api(control_plane, name, directory) for name in (TENANT, CONTROLLER)}
    for name in users:
        grant(api, namespace, name, RULES)
    yard = Yard(admin=api, tenant=users[TENANT], controller=users[CONTROLLER], namespace=namespace)
    # rights, policies and labels reach the server's caches one after another
    eventually(lambda: PLACE in refusal(yard.controller, yard.pods(), a_pod(OURS)), what="the policies in force")
    eventually(lambda: refusal(yard.tenant, yard.pods(), a_pod({})) == "", what="the tenant's rights")
    stranger = a_pod(OURS, CLASS)
    eventually(lambda: ORIGIN in refusal(yard.tenant, yard.pods(), stranger), what="the policy of origin")
    yield yard
    for path in (*installed, f"{POLICIES}/admission"):
        api.delete(path)
    api.delete(f"/api/v1/namespaces/{namespace}")


CLASS = "kata-qemu-tdx"


def in_force(yard: Yard) -> None:
    """Wait until the policy refuses what it should: it reaches the server's caches with a delay."""
    eventually(lambda: PLACE in refusal(yard.controller, yard.pods(), a_pod(OURS)), what="the policy in force")


def a_pod(labels_: Mapping[str, str], class_: str = "", **spec: object) -> dict[str, Any]:
    container = {"name": "c", "image": "example.com/c:1"}
    found: dict[str, object] = {"containers": [container], "automountServiceAccountToken": False, **spec}
    if class_:
        found["runtimeClassName"] = class_
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": dict(labels_)}, "spec": found}


def workload(kind: str, *, own: Mapping[str, str], pods: Mapping[str, str]) -> dict[str, Any]:
    selected = {"app": "x", **pods}
    template = {"metadata": {"labels": selected}, "spec": a_pod({})["spec"]}
    spec: dict[str, Any] = {"template": template}
    if kind in ("Deployment", "ReplicaSet"):
        spec["selector"] = {"matchLabels": {"app": "x"}}
    else:
        template["spec"]["restartPolicy"] = "Never"
        template["metadata"]["labels"] = dict(pods)
    if kind == "CronJob":
        spec = {"schedule": "0 0 * * *", "jobTemplate": {"spec": spec}}
    group = "apps/v1" if kind in ("Deployment", "ReplicaSet") else "batch/v1"
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "w", "labels": dict(own)}, "spec": spec}


@pytest.mark.parametrize("owner", [labels.MODEL, labels.INDEX, labels.ASSISTANT])
def test_a_pod_of_ours_needs_the_runtime_class_whoever_makes_it(yard: Yard, owner: str) -> None:
    pods, ours = yard.pods(), {owner: "x"}
    for class_ in ("", "kata-qemu-nvidia-gpu-snp", "kata-qemu-snp"):  # the last is overridden
        assert PLACE in refusal(yard.controller, pods, a_pod(ours, class_))
    for class_ in (CLASS, "gramine"):
        assert refusal(yard.controller, pods, a_pod(ours, class_)) == ""


def test_pods_of_others_are_never_refused(yard: Yard) -> None:
    pods = yard.pods()
    volumes = [{"name": "v", "secret": {"secretName": "small-key"}}, {"name": "w", "emptyDir": {}}]
    volumes.append({"name": "x", "persistentVolumeClaim": {"claimName": "small-cache"}})
    assert refusal(yard.tenant, pods, a_pod({"app": "mine"})) == ""
    assert refusal(yard.tenant, pods, a_pod({}, volumes=volumes)) == ""


def test_namespaces_that_are_not_opted_in_or_not_bound_are_left_alone(yard: Yard) -> None:
    for given in (BOUND, {**OPTED_IN, "security": "other"}):
        label_namespace(yard.admin, yard.namespace, given)
        eventually(lambda: refusal(yard.controller, yard.pods(), a_pod(OURS)) == "", what=f"no refusal by {given}")
    label_namespace(yard.admin, yard.namespace, {**BOUND, **OPTED_IN})
    in_force(yard)


def test_a_missing_or_preferred_policy_refuses_nothing(yard: Yard) -> None:
    put_policy(yard.admin, "admission", {**POLICY, "enforcement": "Preferred"})
    eventually(lambda: refusal(yard.controller, yard.pods(), a_pod(OURS)) == "", what="no refusal when Preferred")
    put_policy(yard.admin, "admission", POLICY)
    in_force(yard)
    yard.admin.delete(f"{POLICIES}/admission")
    eventually(lambda: refusal(yard.controller, yard.pods(), a_pod(OURS)) == "", what="no refusal without it")
    assert refusal(yard.tenant, yard.pods(), a_pod({})) == ""
    put_policy(yard.admin, "admission", POLICY)
    in_force(yard)


def test_a_label_put_on_later_and_a_debug_container_are_refused(yard: Yard) -> None:
    pods = yard.pods()

    # the server tells one refusal of several, any of them: each edit here breaks one rule alone
    edits = ("plain", "", yard.controller, PLACE), ("placed", CLASS, yard.tenant, ORIGIN)
    for name, class_, editor, told in edits:
        mine = a_pod({"app": "mine"}, class_)
        mine["metadata"]["name"] = name
        made: Any = yard.tenant.create(pods, mine)
        edited = {**made, "metadata": {**made["metadata"], "labels": OURS}}
        assert told in refusal(editor, f"{pods}/{name}", edited, verb="replace")
        renamed = {**made, "metadata": {**made["metadata"], "labels": {"app": "yours"}}}
        assert refusal(yard.tenant, f"{pods}/{name}", renamed, verb="replace") == ""

    # a pod of before the policy, kept by onViolation Keep
    put_policy(yard.admin, "admission", {**POLICY, "enforcement": "Preferred"})
    eventually(lambda: refusal(yard.controller, pods, a_pod(OURS)) == "", what="no refusal when Preferred")
    kept = a_pod(OURS)
    kept["metadata"]["name"] = "kept"
    made = yard.controller.create(pods, kept)
    put_policy(yard.admin, "admission", POLICY)
    in_force(yard)
    touched = {**made, "metadata": {**made["metadata"], "annotations": {"a": "b"}}}
    assert refusal(yard.controller, f"{pods}/kept", touched, verb="replace") == ""
    debug = {"name": "debug", "image": "example.com/shell:1"}
    spied = {**made, "spec": {**made["spec"], "ephemeralContainers": [debug]}}
    assert PLACE in refusal(yard.tenant, f"{pods}/kept/ephemeralcontainers", spied, verb="replace")


def test_a_pod_of_ours_keeps_its_images_and_labels(yard: Yard) -> None:
    # given a pod of ours in its place, and a tenant who may edit pods
    pods, given = yard.pods(), {**OURS, "pod-template-hash": "a"}
    ours = a_pod(given, CLASS, initContainers=[{"name": "i", "image": "example.com/i:1"}])
    ours["metadata"]["name"] = "placed-ours"
    made: Any = yard.controller.create(pods, ours)

    def edit(*, spec: Mapping[str, object] | None = None, labels_: Mapping[str, str] | None = None) -> str:
        metadata = {**made["metadata"], "labels": given if labels_ is None else dict(labels_)}
        edited = {**made, "metadata": metadata, "spec": {**made["spec"], **(spec or {})}}
        return refusal(yard.tenant, f"{pods}/placed-ours", edited, verb="replace")

    # when they put a program of their own behind its mounts
    for part in ("containers", "initContainers"):
        other = [{**made["spec"][part][0], "image": "example.com/theirs:1"}]
        eventually(lambda part=part, other=other: ORIGIN in edit(spec={part: other}), what=f"a refusal of {part}")  # type: ignore[misc]
    # or have it escape its resource and its workload, with all that is mounted
    for left in ({}, {"pod-template-hash": "a"}, {labels.MODEL: "other", "pod-template-hash": "a"}, OURS):
        assert ORIGIN in edit(labels_=left), left
    # then it is refused; labels of their own are not
    assert edit(labels_={**given, "mine": "too"}) == ""


def test_no_label_of_ours_comes_or_goes_by_way_of_a_status(yard: Yard) -> None:
    # given pods, one of ours and one of a tenant who may write their status
    pods = yard.pods()
    for name, given, maker in (("told-ours", OURS, yard.controller), ("told-theirs", {}, yard.tenant)):
        pod = a_pod(given, CLASS)
        pod["metadata"]["name"] = name
        made: Any = maker.create(pods, pod)

        def edit(labels_: Mapping[str, str], made: Any = made, name: str = name) -> str:
            edited = {**made, "metadata": {**made["metadata"], "labels": dict(labels_)}}
            edited["status"] = {**made["status"], "message": "told"}
            return refusal(yard.tenant, f"{pods}/{name}/status", edited, verb="replace")

        # when they take our label off or put it on that way, which the server does like any label
        other = {} if given else OURS
        eventually(lambda other=other, edit=edit: ORIGIN in edit(other), what=f"a refusal of {other}")  # type: ignore[misc]
        # then it is refused, and a status as kubelets write it is not
        assert edit(given) == ""


def test_a_pod_of_ours_stays_that_of_its_workload_and_resource(yard: Yard) -> None:
    # given a pod of ours with its workload, for which any object that is there may stand
    pods = yard.pods()
    holder: Any = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "holder"}}
    holder = yard.admin.create(f"/api/v1/namespaces/{yard.namespace}/configmaps", holder)
    uid = holder["metadata"]["uid"]
    workload_ = {"apiVersion": "v1", "kind": "ConfigMap", "name": "holder", "uid": uid, "controller": True}
    ours = a_pod({labels.ASSISTANT: "desk"}, CLASS)
    ours["metadata"] |= {"name": "owned", "ownerReferences": [workload_]}
    made: Any = yard.controller.create(pods, ours)

    def edit(**metadata: object) -> str:
        edited = {**made, "metadata": {**made["metadata"], **metadata}}
        return refusal(yard.tenant, f"{pods}/owned", edited, verb="replace")

    # when a tenant gives it to another controller, or names another resource of ours: nobody would end it then
    own = made["metadata"]["labels"]
    mine = {**workload_, "name": "mine", "uid": "u-2"}
    changes: list[dict[str, Any]] = [{"ownerReferences": [mine]}, {"ownerReferences": []}]
    for change in (*changes, {"labels": {**own, labels.MODEL: "other"}}):
        eventually(lambda change=change: ORIGIN in edit(**change), what=f"a refusal of {change}")  # type: ignore[misc]
    # then it is refused
    assert edit(labels={**own, "mine": "too"}) == ""


def test_runtimes_are_told_nothing_else_of_a_pod_of_ours(yard: Yard) -> None:
    # given a pod that waits for its node, whose annotations its runtime will read
    pods, key = yard.pods(), "io.katacontainers.config.hypervisor.cc_init_data"
    ours = a_pod(OURS, CLASS)
    ours["metadata"] |= {"name": "annotated", "annotations": {key: "of-the-policy"}}
    made: Any = yard.controller.create(pods, ours)

    def edit(annotations: Mapping[str, str]) -> str:
        edited = {**made, "metadata": {**made["metadata"], "annotations": dict(annotations)}}
        return refusal(yard.tenant, f"{pods}/annotated", edited, verb="replace")

    # when a tenant changes what the runtime is told, or tells it more
    parameters = {"io.katacontainers.config.hypervisor.kernel_params": "agent.debug_console"}
    for told in ({}, {key: "another"}, {key: "of-the-policy", **parameters}):
        eventually(lambda told=told: ORIGIN in edit(told), what=f"a refusal of {told}")  # type: ignore[misc]
    # then it is refused; annotations of their own are not
    assert edit({key: "of-the-policy", "mine": "too"}) == ""


@pytest.mark.parametrize(
    ("kind", "group", "plural"),
    [
        ("Deployment", "apps", "deployments"),
        ("ReplicaSet", "apps", "replicasets"),
        ("Job", "batch", "jobs"),
        ("CronJob", "batch", "cronjobs"),
    ],
)
def test_what_bears_our_labels_comes_from_the_operator_alone(
    yard: Yard, kind: str, group: str, plural: str
) -> None:
    path = f"/apis/{group}/v1/namespaces/{yard.namespace}/{plural}"
    for own, pods in ((OURS, {}), ({}, OURS)):
        assert ORIGIN in refusal(yard.tenant, path, workload(kind, own=own, pods=pods))
    assert refusal(yard.tenant, path, workload(kind, own={}, pods={})) == ""
    made: Any = yard.controller.create(path, workload(kind, own=OURS, pods={}))
    stripped = {**made, "metadata": {**made["metadata"], "labels": {}}}
    assert ORIGIN in refusal(yard.tenant, f"{path}/w", stripped, verb="replace")


def test_our_claims_are_mounted_by_our_pods_alone(yard: Yard) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "small-cache", "labels": OURS},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    yard.admin.create(f"/api/v1/namespaces/{yard.namespace}/persistentvolumeclaims", claim)
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "small-cache"}}]

    def refused() -> bool:
        return "claim small-cache belongs to Nimblet" in refusal(
            yard.tenant, yard.pods(), a_pod({}, CLASS, volumes=volumes)
        )

    eventually(refused, what="a refusal of the claim")
    assert refusal(yard.controller, yard.pods(), a_pod(OURS, CLASS, volumes=volumes)) == ""
    other = [{"name": "v", "persistentVolumeClaim": {"claimName": "mine-cache"}}]
    assert refusal(yard.tenant, yard.pods(), a_pod({}, volumes=other)) == ""


def test_a_bound_secret_goes_to_its_runtime_classes_alone(yard: Yard) -> None:
    secrets = f"/api/v1/namespaces/{yard.namespace}/secrets"
    for name, marks in (("small-key", {labels.RUNTIME_CLASSES: f"kata-qemu-snp,{CLASS}"}), ("free-key", {})):
        metadata = {"name": name, "labels": OURS, "annotations": marks}
        yard.admin.create(secrets, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata})

    def ways(name: str) -> list[dict[str, Any]]:
        reading = {"name": "c", "image": "example.com/c:1"}
        item = {"name": "K", "valueFrom": {"secretKeyRef": {"name": name, "key": "api-key"}}}
        return [
            {"volumes": [{"name": "v", "secret": {"secretName": name}}]},
            {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": name}}]}}]},
            {"containers": [{**reading, "env": [item]}]},
            {"initContainers": [{**reading, "name": "i", "envFrom": [{"secretRef": {"name": name}}]}]},
            {"volumes": [{"name": "v", "csi": {"driver": "d.example", "nodePublishSecretRef": {"name": name}}}]},
        ]

    def refused(spec: dict[str, Any]) -> bool:
        return "Secret small-key is bound by a TEEPolicy" in refusal(yard.tenant, yard.pods(), a_pod({}, **spec))

    for spec in ways("small-key"):
        eventually(lambda spec=spec: refused(spec), what=f"a refusal of {spec}")  # type: ignore[misc]
        assert refusal(yard.tenant, yard.pods(), a_pod({}, CLASS, **spec)) == ""
    for spec in ways("free-key"):
        assert refusal(yard.tenant, yard.pods(), a_pod({}, **spec)) == ""

    # a debug container can read one too, in a pod that was there without it
    for class_, told in (("", "Secret small-key is bound by a TEEPolicy"), (CLASS, "")):
        mine = a_pod({"app": "mine"}, class_)
        mine["metadata"]["name"] = f"reader-{class_ or 'plain'}"
        made: Any = yard.tenant.create(yard.pods(), mine)
        path = f"{yard.pods()}/{mine['metadata']['name']}/ephemeralcontainers"
        item = {"name": "K", "valueFrom": {"secretKeyRef": {"name": "small-key", "key": "api-key"}}}
        for way in ({"env": [item]}, {"envFrom": [{"secretRef": {"name": "small-key"}}]}, {}):
            debug = {"name": "debug", "image": "example.com/shell:1", **way}
            spied = {**made, "spec": {**made["spec"], "ephemeralContainers": [debug]}}
            found = refusal(yard.tenant, path, spied, verb="replace")
            assert (told in found and bool(found) == bool(told)) if way else found == "", (class_, way, found)


@pytest.mark.parametrize(
    ("kind", "marks"),
    [("PersistentVolumeClaim", {}), ("Secret", {labels.RUNTIME_CLASSES: CLASS})],
)
def test_what_is_found_by_its_marks_keeps_them(yard: Yard, kind: str, marks: dict[str, str]) -> None:
    path = f"/api/v1/namespaces/{yard.namespace}/{kind.lower()}s"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    given = {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": "marked", "labels": OURS, "annotations": marks},
    }
    made: Any = yard.admin.create(path, given if kind == "Secret" else {**given, "spec": spec})

    def edit(**metadata: object) -> str:
        edited = {**made, "metadata": {**made["metadata"], **metadata}}
        return refusal(yard.tenant, f"{path}/marked", edited, verb="replace")

    # when the tenant, who may edit it, takes marks away or changes them
    eventually(lambda: KEPT in edit(labels={}), what="a refusal to take labels away")
    assert KEPT in edit(labels={labels.MODEL: "other"})
    if marks:
        assert KEPT in edit(annotations={labels.RUNTIME_CLASSES: "runc"})
    # or, of a claim, by way of its status
    if kind == "PersistentVolumeClaim":
        bare = {**made, "metadata": {**made["metadata"], "labels": {}}}
        assert KEPT in refusal(yard.tenant, f"{path}/marked/status", bare, verb="replace")
        assert refusal(yard.tenant, f"{path}/marked/status", made, verb="replace") == ""
    # then it is refused, while whatever else is theirs
    assert edit(labels={**OURS, "mine": "too"}, annotations={**marks, "also": "mine"}) == ""
