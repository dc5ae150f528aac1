# SPDX-License-Identifier: Apache-2.0
"""Manifests made ready for apply, resources' paths, and refusals in words."""

import pytest

from nimblet import labels
from nimblet.cluster.child import Owner, controller_of, prepare, stored_hash
from nimblet.cluster.errors import Cause, Conflict, Invalid
from nimblet.cluster.refusal import field_conflicts, latest_rival, refusal_failure
from nimblet.cluster.resources import CONFIG_MAP, DEPLOYMENT, NODE, path, resource_for, resource_of

OWNER = Owner(api_version=labels.API_VERSION, kind="CompactModel", name="m", uid="u", namespace="n")


def config_map(**fields: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, **fields}


def test_a_prepared_child_is_found_again_by_owner_and_hash() -> None:
    child = prepare(config_map(data={"a": "1"}), OWNER)

    holder = controller_of({**child.manifest, "metadata": child.manifest["metadata"]})
    assert holder is not None
    assert holder.uid == "u"
    assert stored_hash(child.manifest) == child.hash


def test_the_hash_follows_content_and_owner_only() -> None:
    base = prepare(config_map(data={"a": "1", "b": "2"}), OWNER)

    assert prepare(config_map(data={"b": "2", "a": "1"}), OWNER).hash == base.hash
    assert prepare(config_map(data={"a": "1"}), OWNER).hash != base.hash


def test_string_data_is_sent_as_data() -> None:
    secret = {**config_map(stringData={"k": "v"}), "kind": "Secret"}

    manifest = prepare(secret, OWNER).manifest

    assert manifest["data"] == {"k": "dg=="}
    assert "stringData" not in manifest


def test_a_child_in_another_namespace_is_a_defect() -> None:
    with pytest.raises(ValueError, match="can't own across namespaces"):
        prepare(config_map(metadata={"name": "c", "namespace": "other"}), OWNER)


def test_paths_follow_group_scope_and_subresource() -> None:
    assert path(CONFIG_MAP, namespace="n", name="c") == "/api/v1/namespaces/n/configmaps/c"
    assert path(DEPLOYMENT) == "/apis/apps/v1/deployments"
    assert path(NODE, namespace="n", name="a", subresource="status") == "/api/v1/nodes/a/status"
    assert path(CONFIG_MAP, namespace="n", name="../x") == "/api/v1/namespaces/n/configmaps/..%2Fx"
    with pytest.raises(ValueError, match="pass it"):
        path(CONFIG_MAP, name="c")


def test_an_unknown_kind_or_version_is_a_defect() -> None:
    with pytest.raises(KeyError, match="add it to RESOURCES"):
        resource_of("Nothing")
    with pytest.raises(KeyError, match="expected Deployment of apps/v1"):
        resource_for({"apiVersion": "extensions/v1beta1", "kind": "Deployment"})


def test_immutable_fields_are_named_without_their_values() -> None:
    cause = Cause(
        reason="FieldValueInvalid",
        message="Invalid value: {very long}: field is immutable",
        field="spec.selector",
    )
    failure = refusal_failure(prepare(config_map(), OWNER), Invalid("x", detail="very long", causes=(cause,)))

    assert failure.category == "ImmutableField"
    assert failure.message == "ConfigMap c: spec.selector can't be changed."


def test_conflicts_name_field_and_manager() -> None:
    cause = Cause(
        reason="FieldManagerConflict",
        message='conflict with "kubectl-edit" with subresource "scale" using apps/v1',
        field=".spec.replicas",
    )

    assert field_conflicts(Conflict("x", causes=(cause,))) == {".spec.replicas": "kubectl-edit"}
    assert field_conflicts(Conflict("x")) == {}


def test_the_latest_rival_is_neither_us_nor_a_status_writer() -> None:
    fields = [
        {"manager": "early", "time": "2026-01-01T00:00:00Z"},
        {"manager": "late", "time": "2026-01-02T00:00:00Z"},
        {"manager": "nimblet", "time": "2026-01-03T00:00:00Z"},
        {"manager": "controller", "time": "2026-01-04T00:00:00Z", "subresource": "status"},
    ]

    assert latest_rival({"metadata": {"managedFields": fields}}) == "late"
    assert latest_rival({"metadata": {}}) == "an unnamed manager"
