# SPDX-License-Identifier: Apache-2.0
"""The list of permissions stays least: what must never be in it, and that it names known resources."""

from nimblet.cluster.permissions import ISSUER_PERMISSIONS, PERMISSIONS, Permission, Scope
from nimblet.cluster.resources import RESOURCES

ALL = (*PERMISSIONS, *ISSUER_PERMISSIONS)
FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate", "deletecollection"}
FORBIDDEN_RESOURCES = {"*", "pods/exec", "pods/attach", "pods/portforward", "nodes/proxy"}


def of(resource: str) -> list[Permission]:
    return [each for each in ALL if each.resource == resource]


def test_no_permission_is_a_wildcard_or_leads_to_more_rights() -> None:
    assert not {verb for each in ALL for verb in each.verbs} & FORBIDDEN_VERBS
    assert not {each.resource for each in ALL} & FORBIDDEN_RESOURCES
    assert "*" not in {each.group for each in ALL}


def test_secrets_are_never_listed_or_watched() -> None:
    assert not {verb for each in of("secrets") for verb in each.verbs} & {"list", "watch"}


def test_our_resources_are_read_and_only_their_status_is_written() -> None:
    assert {verb for each in of("compactmodels") for verb in each.verbs} == {"get", "list", "watch"}
    assert [each.verbs for each in of("compactmodels/status")] == [("patch",)]


def test_every_permission_names_a_resource_of_the_table_with_its_scope() -> None:
    known = {(each.group, each.plural): each.namespaced for each in RESOURCES}

    for each in ALL:
        namespaced = known[each.group, each.resource.split("/")[0]]
        assert namespaced is (each.scope is not Scope.CLUSTER)
        assert each.why
        assert list(each.verbs) == sorted(each.verbs)


def test_every_resource_of_the_table_has_a_permission() -> None:
    named = {(each.group, each.resource) for each in ALL}

    assert {(each.group, each.plural) for each in RESOURCES} <= named
