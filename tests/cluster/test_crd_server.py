# SPDX-License-Identifier: Apache-2.0
"""The generated definition on a real API server: accepted, served, and refusing what it should refuse."""

from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest

from e2e.cluster.api import Api, field, has_condition, items
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ApiError
from nimblet import labels
from nimblet.api.compactmodel import DEFINITION, HTTPS_RULE, CompactModelSpec
from nimblet.api.definition import NAME_RULE
from nimblet.api.encryption import CACHE_ENCRYPTION_RULE, ENCRYPTION_RULE, KEY_RULE, LISTED_RULE
from nimblet.api.modelsource import CLAIM_RULE, ROLE_RULE
from nimblet.cluster.parse import InvalidModel, parse_compactmodel
from nimblet.conditions import ConditionType
from nimblet.crdgen.crd import KINDS, Kind, crd_manifest
from tests.cluster.crd_support import (
    CRDS,
    DRY_RUN,
    ROOT,
    Object,
    deep_copy,
    install,
    model_manifest,
    models_in,
    read_manifest,
    valid_spec,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
SAMPLES = sorted((ROOT / "samples").glob("compactmodel-*.yaml"))
DIGEST = "0" * 64
TEXT = {"name": "a", "key": "k"}
ENCRYPTION: Object = {"model": "m", "revision": "1", "kbs": {"resource": "kbs:///a/b/c"}}
SEALED: Object = {"uri": "hf://o/r", "encryption": ENCRYPTION}
PINNED: Object = {"sha256": {"nimblet-encryption.json": DIGEST}}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Api:
    return control_plane.api


def dry_run(api: Api, spec: object, *, name: str = "sample") -> object:
    return api.create(f"{models_in('default')}?{DRY_RUN}", model_manifest(spec, name=name))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.definition.kind)
def test_the_definition_is_structural_and_its_names_are_accepted(api: Api, kind: Kind) -> None:
    found = api.get(f"{CRDS}/{kind.crd_name}")
    assert has_condition(found, "NamesAccepted")
    assert not has_condition(found, "NonStructuralSchema")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_pass_strictly_and_parse(api: Api, path: Path) -> None:
    sample = read_manifest(path)
    stored = api.create(f"{models_in('default')}?{DRY_RUN}", sample)
    given = CompactModelSpec.model_validate(sample["spec"], by_alias=True, by_name=False)
    assert CompactModelSpec.model_validate(stored["spec"]) == given


def test_defaults_of_nested_objects_are_shown_to_the_user(api: Api) -> None:
    stored = dry_run(api, valid_spec())
    assert field(stored, "spec", "replicas") == 1
    assert field(stored, "spec", "runtime", "parallel") == 2
    assert field(stored, "spec", "rollout", "strategy") == "RollingUpdate"
    assert field(stored, "spec", "integrity") is None


@pytest.mark.parametrize("name", ["a" * 41, "with.dots", "0digit"])
def test_names_that_children_could_not_carry_are_refused(api: Api, name: str) -> None:
    with pytest.raises(ApiError, match=NAME_RULE.message):
        dry_run(api, valid_spec(), name=name)


def test_the_longest_name_is_accepted(api: Api) -> None:
    dry_run(api, valid_spec(), name="a" * 40)


def scheduled(**fields: object) -> Object:
    return valid_spec(scheduling=fields)


def required_nodes(expression: Object) -> Object:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def near_pods(selector: Object) -> Object:
    term = {"labelSelector": selector, "topologyKey": "zone"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


@pytest.mark.parametrize(
    "fields",
    [
        {"podAnnotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "a/b": ""}},
        {"tolerations": [{"operator": "Exists"}, {"key": "a"}]},
        {"affinity": required_nodes({"key": "a/b", "operator": "Gt", "values": ["1"]})},
        {"affinity": near_pods({"matchLabels": {"a": "b"}})},
    ],
    ids=str,
)
def test_scheduling_that_both_accept(api: Api, fields: Object) -> None:
    spec = scheduled(**fields)
    stored = dry_run(api, spec)
    parsed = CompactModelSpec.model_validate(spec, by_alias=True, by_name=False)
    assert CompactModelSpec.model_validate(field(stored, "spec")) == parsed


def test_encrypted_adapters_and_drafts_beside_a_cache_of_none_are_accepted(api: Api) -> None:
    draft = {"speculative": {"type": "Draft", "source": SEALED, "integrity": PINNED}}
    adapters = [{"name": "a", "source": SEALED, "integrity": PINNED}, {"name": "b", "source": {"uri": "hf://o/r"}}]
    dry_run(api, valid_spec(adapters=adapters, runtime=draft))
    dry_run(api, valid_spec(adapters=adapters[1:], cache={}))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"source": {"uri": "https://host/model.gguf"}}, HTTPS_RULE.message),
        ({"source": {"uri": "hf://o/r", "roleARN": "arn:aws:iam::1:role/r"}}, ROLE_RULE.message),
        ({"source": {"uri": "pvc://c", "credentialsSecretRef": {"name": "s"}}}, CLAIM_RULE.message),
        ({"source": SEALED}, ENCRYPTION_RULE.message),
        (valid_spec(source=SEALED, integrity=PINNED, cache={}), CACHE_ENCRYPTION_RULE.message),
        (valid_spec(adapters=[{"name": "a", "source": SEALED}]), ENCRYPTION_RULE.message),
        (
            valid_spec(adapters=[{"name": "a", "source": SEALED, "integrity": PINNED}], cache={}),
            CACHE_ENCRYPTION_RULE.message,
        ),
        (valid_spec(runtime={"speculative": {"type": "Draft", "source": SEALED}}), ENCRYPTION_RULE.message),
        (
            valid_spec(
                runtime={"speculative": {"type": "Draft", "source": SEALED, "integrity": PINNED}}, cache={}
            ),
            CACHE_ENCRYPTION_RULE.message,
        ),
        (valid_spec(source={**SEALED, "quantization": "Q4_0"}, integrity=PINNED), LISTED_RULE.message),
        (
            valid_spec(source={**SEALED, "encryption": {"model": "m", "revision": "1"}}, integrity=PINNED),
            KEY_RULE.message,
        ),
        ({"source": {"uri": "hf://o/r", "files": ["*"], "quantization": "Q4_0"}}, "set one of them"),
        (
            {"source": {"uri": "https://h/m", "revision": "main"}, "integrity": {"sha256": {"m": DIGEST}}},
            "hf:// sources only",
        ),
        (valid_spec(integrity={"sha256": {"a b": DIGEST}}), "each key has at most 200 characters"),
        (valid_spec(integrity={"sha256": {"a" * 201: DIGEST}}), "each key has at most 200 characters"),
        (valid_spec(integrity={}), "integrity needs sha256, manifestRef or signature"),
        (valid_spec(integrity={"sha256": {"a": DIGEST}, "manifestRef": TEXT}), "set one of them"),
        (valid_spec(integrity={"signature": {"bundleRef": TEXT}}), "set one of key, certificate and sigstore"),
        (
            valid_spec(
                integrity={
                    "signature": {
                        "bundleRef": TEXT,
                        "key": {"publicKeyRef": TEXT},
                        "certificate": {"rootsRef": TEXT},
                    }
                }
            ),
            "set one of key, certificate and sigstore",
        ),
        ({"source": {"uri": "https://h/m"}}, "needs integrity.sha256, manifestRef or signature"),
        (valid_spec(podTemplate={}), "unknown field"),
        (valid_spec(cache={"accessMode": "ReadWriteOnce"}), "at most one replica and rollout.strategy Recreate"),
        (
            valid_spec(cache={"accessMode": "ReadWriteOnce"}, rollout={"strategy": "Recreate"}, replicas=2),
            "a ReadWriteOnce cache is for one node",
        ),
        (scheduled(podLabels={"nimblet.dev/model": "x"}), "are reserved"),
        (scheduled(podLabels={"app.kubernetes.io/name": "x"}), "are reserved"),
        (scheduled(podAnnotations={"k8s.v1.cni.cncf.io/networks": "x"}), "are reserved"),
        (scheduled(podAnnotations={"io.katacontainers.config.hypervisor.kernel": "x"}), "are reserved"),
        (scheduled(nodeSelector={"a b": "x"}), "each key has at most 317 characters"),
        (scheduled(tolerations=[{"operator": "Equal"}]), "it needs operator Exists"),
        (scheduled(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]), "compares no value"),
        (scheduled(tolerations=[{"key": "a", "tolerationSeconds": 1}]), "NoExecute only"),
        (scheduled(affinity=required_nodes({"key": "a", "operator": "In"})), "In and NotIn need values"),
        (scheduled(affinity=near_pods({})), "an empty labelSelector"),
        (scheduled(spread=[{"topologyKey": "a"}, {"topologyKey": "a"}]), "Duplicate value"),
        (valid_spec(servedModelName="a,b"), "servedModelName"),
        (valid_spec(access={"namespaceSelector": {"matchLabels": {}}}), "matchLabels"),
    ],
)
def test_rules_refuse_with_their_message(api: Api, spec: object, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        dry_run(api, spec)
    assert isinstance(parse_compactmodel(model_manifest(spec)), InvalidModel)


@pytest.fixture
def two_tasks(api: Api) -> Iterator[str]:
    """Return the group of a copy of the definition that knows two tasks: there is only one to choose yet."""
    group = "immutable.example"
    copied = deep_copy({**crd_manifest(KINDS[0])})
    with_two_tasks(copied, group=group)
    install(api, copied)
    yield group
    api.delete(f"{CRDS}/{DEFINITION.plural}.{group}")


def test_task_is_immutable(api: Api, namespace: str, two_tasks: str) -> None:
    version = f"{two_tasks}/{labels.VERSION}"
    collection = f"/apis/{version}/namespaces/{namespace}/{DEFINITION.plural}"
    made = model_manifest(valid_spec(), name="fixed") | {"apiVersion": version}
    api.create(collection, made)
    with pytest.raises(ApiError, match="make a new CompactModel"):
        api.apply(f"{collection}/fixed", made | {"spec": valid_spec(task="Other")})


def with_two_tasks(manifest: dict[str, object], *, group: str) -> None:
    spec = manifest["spec"]
    assert isinstance(spec, dict)
    spec["group"] = group
    manifest["metadata"] = {"name": f"{DEFINITION.plural}.{group}"}
    task = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["task"]
    task["enum"].append("Other")


def test_scale_reads_and_writes_replicas_with_the_selector(control_plane: ControlPlane, namespace: str) -> None:
    api = control_plane.api
    selector = labels.selector_string({labels.MODEL: "scaled"})
    api.create(models_in(namespace), model_manifest(valid_spec(), name="scaled"))
    base = f"{models_in(namespace)}/scaled"
    status = {"replicas": 1, "selector": selector}
    identity = {key: value for key, value in model_manifest({}, name="scaled").items() if key != "spec"}
    api.apply(f"{base}/status", identity | {"status": status})

    scale = api.get(f"{base}/scale")
    assert (field(scale, "spec", "replicas"), field(scale, "status", "replicas")) == (1, 1)
    assert field(scale, "status", "selector") == selector

    # what `kubectl scale` and an HPA send: a merge patch
    connection = kubernetes.config.new_client_from_config(str(control_plane.kubeconfig))  # type: ignore[no-untyped-call]  # it has no types
    client = kubernetes.client.CustomObjectsApi(connection)
    client.patch_namespaced_custom_object_scale(
        labels.GROUP,
        labels.VERSION,
        namespace,
        DEFINITION.plural,
        "scaled",
        {"spec": {"replicas": 3}},
        _content_type="application/merge-patch+json",
    )
    assert field(api.get(base), "spec", "replicas") == 3


def test_status_is_written_through_its_subresource_only(api: Api) -> None:
    given = model_manifest(valid_spec()) | {"status": {"replicas": 9}}
    created = api.create(f"{models_in('default')}?{DRY_RUN}", given)
    assert field(created, "status") is None


def test_get_shows_the_columns(api: Api) -> None:
    found = api.get(f"{CRDS}/{DEFINITION.plural}.{labels.GROUP}")
    version = items(found, "spec", "versions")[0]
    shown = [field(column, "name") for column in items(version, "additionalPrinterColumns")]
    assert shown == [column.name for column in DEFINITION.columns]
    paths = " ".join(column.json_path for column in DEFINITION.columns)
    assert f'"{ConditionType.READY}"' in paths
    assert f'"{ConditionType.SERVING}"' in paths
