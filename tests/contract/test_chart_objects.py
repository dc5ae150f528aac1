# SPDX-License-Identifier: Apache-2.0
"""What the chart renders: exactly the rights of the code's list, and an upgrade that touches the operator only."""

import json
import re
import shutil
from pathlib import Path

import pytest

from nimblet.cluster.permissions import ISSUER_PERMISSIONS, PERMISSIONS, Permission, Scope
from nimblet.crdgen.crd import KINDS
from nimblet.manifests.gate import GATE_PORT
from nimblet.manifests.network import HTTP_PORT, PROGRESS_PORT
from nimblet.plan.places import PLACES
from nimblet.shell.options import parser
from tests.contract.chart_support import CHART, NAMESPACE, Object, at, helm, of_kind, only, render

pytestmark = pytest.mark.timeout(180)
MAX_TEMPLATE_LINES = 80
TEAM = "team-a"
NAMESPACED_MODE = [f'watchNamespaces=["{TEAM}"]']
GENERATED = CHART / "templates" / "crds"

CLUSTER_WIDE = ("Cluster", "CustomResource", "ValidatingAdmission")

Grant = tuple[str, str, str, str, str]
"""Where (a namespace, or * for everywhere), group, resource, name (or *), verb."""


def granted(objects: list[Object]) -> set[Grant]:
    """Return what the rendered roles allow the operator's ServiceAccount, through their bindings."""
    roles = {
        (role["kind"], at(role, "metadata", "name"), namespace_of(role)): role["rules"]
        for role in of_kind(objects, "ClusterRole", "Role")
    }
    grants: set[Grant] = set()
    for binding in of_kind(objects, "ClusterRoleBinding", "RoleBinding"):
        subject = {"kind": "ServiceAccount", "name": "nimblet-operator", "namespace": NAMESPACE}
        assert binding["subjects"] == [subject]
        where = namespace_of(binding)
        rules = roles.pop((at(binding, "roleRef", "kind"), at(binding, "roleRef", "name"), where))
        assert isinstance(rules, list)
        for rule in rules:
            grants |= {
                (where, group, resource, name, verb)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", ["*"])
                for verb in rule["verbs"]
            }
    assert not roles, f"expected a binding for each role, found none for {list(roles)}"
    return grants


def namespace_of(item: Object) -> str:
    metadata = item["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata.get("namespace", "*"))


def wanted(served: list[str], permissions: tuple[Permission, ...] = PERMISSIONS) -> set[Grant]:
    """Return what the code's list asks for, with SERVED meaning the given places."""
    places = {Scope.CLUSTER: ["*"], Scope.SERVED: served, Scope.OWN: [NAMESPACE]}
    return {
        (where, permission.group, permission.resource, name, verb)
        for permission in permissions
        for where in places[permission.scope]
        for name in permission.names or ("*",)
        for verb in permission.verbs
    }


@pytest.mark.parametrize(
    ("sets", "served"), [([], ["*"]), (NAMESPACED_MODE, [TEAM])], ids=["cluster", "namespaced"]
)
def test_the_roles_are_exactly_the_operators_list(sets: list[str], served: list[str]) -> None:
    found, listed = granted(render(sets=sets)), wanted(served)
    assert found == listed, f"missing: {sorted(listed - found)}; surplus: {sorted(found - listed)}"


@pytest.mark.parametrize(
    ("sets", "served"), [([], ["*"]), (NAMESPACED_MODE, [TEAM])], ids=["cluster", "namespaced"]
)
def test_certificates_are_the_operators_while_an_issuer_is_named(sets: list[str], served: list[str]) -> None:
    listed = wanted(served, (*PERMISSIONS, *ISSUER_PERMISSIONS))
    for mode in ("CertManager", "OwnCA"):
        assert granted(render(sets=[*sets, f'tls.mode="{mode}"', 'tls.issuer.name="ours"'])) == listed


def test_the_rights_have_no_wildcard() -> None:
    assert not [grant for grant in granted(render()) if "*" in (grant[1], grant[2], grant[4])]


def test_lint_is_clean() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_definitions_are_kept_on_uninstall_and_can_be_left_out() -> None:
    definitions = list(of_kind(render(), "CustomResourceDefinition"))
    assert {at(item, "metadata", "name") for item in definitions} == {kind.crd_name for kind in KINDS}
    for item in definitions:
        annotations = at(item, "metadata", "annotations")
        # Argo CD keeps what helm keeps when an application is deleted, and not when it prunes
        assert annotations == {
            "argocd.argoproj.io/sync-options": "Prune=false",
            "helm.sh/resource-policy": "keep",
        }
    assert not list(of_kind(render(sets=["crds.enabled=false"]), "CustomResourceDefinition"))


def test_the_operator_understands_its_arguments() -> None:
    objects = render()
    spec = at(only(objects, "Deployment"), "spec", "template", "spec")
    assert isinstance(spec, dict)
    (container,) = spec["containers"]
    options = parser().parse_args(container["args"])
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "settings"]
    data = at(only(objects, "ConfigMap"), "data")
    assert isinstance(data, dict)
    (file,) = data
    assert options.settings == Path(mount["mountPath"]) / file
    assert [port["containerPort"] for port in container["ports"]] == [options.metrics_port]


def test_a_changed_setting_restarts_the_operator() -> None:
    before = at(only(render(), "Deployment"), "spec", "template")
    after = at(only(render(sets=["timing.resyncSeconds=60"]), "Deployment"), "spec", "template")
    assert at(before, "metadata", "annotations") != at(after, "metadata", "annotations")
    assert at(before, "spec") == at(after, "spec")


def test_a_newer_chart_with_the_same_values_gives_the_operator_the_same_settings(tmp_path: Path) -> None:
    # the settings are all that the data plane's templates know of the chart
    newer = shutil.copytree(CHART, tmp_path / "nimblet")
    chart_file = newer / "Chart.yaml"
    text = re.sub(r"(?m)^(version|appVersion): .*$", r"\1: 9.9.9", chart_file.read_text(encoding="utf-8"))
    chart_file.write_text(text, encoding="utf-8")
    assert at(only(render(), "ConfigMap"), "data") == at(only(render(chart=newer), "ConfigMap"), "data")


def test_a_disruption_budget_exists_with_a_standby_only() -> None:
    assert not list(of_kind(render(), "PodDisruptionBudget"))
    assert only(render(sets=["operator.replicas=2"]), "PodDisruptionBudget")


def test_labels_of_the_user_never_replace_those_of_the_selector() -> None:
    sets = ['operator.podLabels={"team":"ml","app.kubernetes.io/name":"mine"}']
    deployment = only(render(sets=sets), "Deployment")
    labels = at(deployment, "spec", "template", "metadata", "labels")
    selector = at(deployment, "spec", "selector", "matchLabels")
    assert isinstance(labels, dict)
    assert isinstance(selector, dict)
    assert labels["team"] == "ml"
    assert selector.items() <= labels.items()


def test_a_service_monitor_is_made_on_request() -> None:
    assert not list(of_kind(render(), "ServiceMonitor"))
    sets = ["metrics.serviceMonitor.enabled=true", 'metrics.serviceMonitor.labels={"release":"prometheus"}']
    objects = render(sets=sets)
    monitor, service = only(objects, "ServiceMonitor"), only(objects, "Service")
    assert at(monitor, "metadata", "labels", "release") == "prometheus"
    selected, labelled = at(monitor, "spec", "selector", "matchLabels"), at(service, "metadata", "labels")
    assert isinstance(selected, dict)
    assert isinstance(labelled, dict)
    assert selected.items() <= labelled.items()


def test_the_operator_may_ask_pods_at_every_port_that_it_asks() -> None:
    policies = {str(at(item, "metadata", "name")): item for item in of_kind(render(), "NetworkPolicy")}
    rules = at(policies["nimblet-operator"], "spec", "egress")
    assert isinstance(rules, list)
    (to_pods,) = [rule for rule in rules if any("podSelector" in peer for peer in rule.get("to", []))]
    assert {item["port"] for item in to_pods["ports"]} == {HTTP_PORT, PROGRESS_PORT, GATE_PORT}


def test_templates_are_short() -> None:
    files = [path for path in (CHART / "templates").rglob("*") if path.is_file() and GENERATED not in path.parents]
    long = [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > MAX_TEMPLATE_LINES]
    assert long == []


def test_every_namespaced_object_is_in_the_releases_namespace() -> None:
    elsewhere = [
        json.dumps(item["metadata"])
        for item in render()
        if not str(item["kind"]).startswith(CLUSTER_WIDE) and namespace_of(item) != NAMESPACE
    ]
    assert elsewhere == []


def test_admission_and_plan_know_the_same_runtime_classes() -> None:
    policies = of_kind(render(), "ValidatingAdmissionPolicy")
    (place,) = [item for item in policies if str(at(item, "metadata", "name")).endswith("-place")]
    variables = at(place, "spec", "variables")
    assert isinstance(variables, list)
    (usual,) = [item["expression"] for item in variables if item["name"] == "usual"]
    known = {
        technology: sorted({name or "-" for each in places for name in each.classes})
        for technology, places in PLACES.items()
    }
    assert json.loads(usual.replace("'", '"')) == known


def test_admission_can_be_left_out_and_is_limited_to_what_is_served() -> None:
    assert list(of_kind(render(sets=["admission.enabled=false"]), "ValidatingAdmissionPolicy")) == []
    for binding in of_kind(render(sets=NAMESPACED_MODE), "ValidatingAdmissionPolicyBinding"):
        assert at(binding, "spec", "matchResources", "namespaceSelector") == {
            "matchLabels": {"nimblet.dev/tee-admission": "enforced"},
            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [TEAM]}],
        }
