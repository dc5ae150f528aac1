# SPDX-License-Identifier: Apache-2.0
"""The permissions of permissions.py suffice for every verb we use, and give nothing more that matters."""

from dataclasses import replace

import pytest

from e2e.cluster.controlplane import ControlPlane
from nimblet import labels
from nimblet.api.compactmodel import CompactModelStatus
from nimblet.cluster.apply import delete_children
from nimblet.cluster.client import Client, connect
from nimblet.cluster.errors import Forbidden
from nimblet.cluster.lease import Lease, LeaseOptions
from nimblet.cluster.masterkey import get_master_key
from nimblet.cluster.permissions import PERMISSIONS, Permission, Scope
from nimblet.cluster.resources import COMPACT_MODEL, NODE, POD, SECRET
from nimblet.cluster.status import write_status
from nimblet.plan.facts import ChildRef
from tests.cluster.apply_support import Rig, config_map, deployment
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
USER = "least"


def rule(permission: Permission) -> dict[str, object]:
    return {
        "apiGroups": [permission.group],
        "resources": [permission.resource],
        "verbs": list(permission.verbs),
        **({"resourceNames": list(permission.names)} if permission.names else {}),
    }


def grant(control_plane: ControlPlane, namespace: str) -> None:
    """Grant the list to a user: all of it in one namespace, cluster-scoped resources beside."""
    subject = {"kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io"}
    roles = (
        ("ClusterRole", RBAC, [each for each in PERMISSIONS if each.scope is Scope.CLUSTER]),
        (
            "Role",
            f"{RBAC}/namespaces/{namespace}",
            [each for each in PERMISSIONS if each.scope is not Scope.CLUSTER],
        ),
    )
    for kind, base, permissions in roles:
        plural = f"{kind.lower()}s"
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": USER}}
        control_plane.api.apply(f"{base}/{plural}/{USER}", {**role, "rules": [rule(each) for each in permissions]})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": USER}
        binding = {**role, "kind": f"{kind}Binding", "roleRef": reference, "subjects": [subject]}
        control_plane.api.apply(f"{base}/{kind.lower()}bindings/{USER}", binding)


async def has_both_roles(client: Client, namespace: str) -> bool:
    """Tell whether the authorizer has seen the grants: it follows its own watches."""
    try:
        await client.get(SECRET, namespace=namespace, name="none")
        [each async for each in client.list(NODE)]
    except Forbidden:
        return False
    return True


async def test_the_listed_rights_suffice_and_secrets_stay_unlisted(rig: Rig, control_plane: ControlPlane) -> None:
    namespace = rig.owner.namespace
    grant(control_plane, namespace)
    client = await connect(control_plane.user_kubeconfig(USER))
    await until(lambda: has_both_roles(client, namespace), seconds=60, what="the grants in the authorizer")
    least = replace(rig, client=client)
    children = (config_map(a="1"), deployment(), _secret())

    assert await least.apply(*children) == ()
    assert await least.apply_fresh(config_map(a="2")) == ()
    await get_master_key(client, namespace=namespace, fresh=b"1" * 32)
    lease = Lease(client, LeaseOptions(namespace=namespace, identity="least"))
    await lease.acquire()
    await lease.release()
    body = await least.read("owner", COMPACT_MODEL)
    assert await write_status(client, body=body, status=CompactModelStatus(observed_generation=1))
    uid = (await least.read())["metadata"]["uid"]
    await delete_children(client, namespace=namespace, refs=[ChildRef(kind="ConfigMap", name="child", uid=uid)])
    assert [each async for each in client.list(POD, namespace=namespace)] == []
    assert [each async for each in client.list(NODE)] == []

    with pytest.raises(Forbidden):
        [each async for each in client.list(SECRET, namespace=namespace)]
    with pytest.raises(Forbidden):
        await client.apply({**body_of_owner(namespace), "spec": {}}, force=True)
    await client.close()


def body_of_owner(namespace: str) -> dict[str, object]:
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "CompactModel",
        "metadata": {"name": "owner", "namespace": namespace},
    }


def _secret() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "key"},
        "type": "Opaque",
        "stringData": {"api-key": "nk-1"},
    }
