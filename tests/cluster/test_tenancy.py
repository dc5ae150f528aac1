# SPDX-License-Identifier: Apache-2.0
"""What a user gains who may write our resources but read no Secret: nothing that stands in one."""

import json
import urllib.request
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest
import pytest_asyncio

from e2e.cluster.controlplane import ControlPlane
from nimblet import labels
from nimblet.cluster.client import Client, connect
from nimblet.cluster.errors import Forbidden
from nimblet.cluster.resources import LEASE, RESOURCES, SECRET, Resource, resource_of
from tests.cluster.operator_support import RBAC, SMALLEST, Launcher, Process, View, eventually
from tests.cluster.settling import ready, settled, started
from tests.cluster.stub_server import Stub
from tests.cluster.test_index import first_build
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

TENANT: Final = "tenant"
CANARY: Final = "canary-7f3c9a5e1b"
SHORTEST: Final = 8
"""Characters; shorter values of a Secret are words that stand elsewhere too."""
READABLE: Final = tuple(item for item in RESOURCES if item.namespaced and item not in (SECRET, LEASE))


def secret(view: View, name: str, *, namespace: str = "", hosts: str | None = None) -> None:
    """Make a Secret of everything that a spec could name; with `hosts` its owner lets it be used there."""
    namespace = namespace or view.namespace
    metadata: dict[str, object] = {"name": name, "namespace": namespace}
    if hosts is not None:
        metadata |= {"labels": {labels.USE: "true"}, "annotations": {labels.HOSTS: hosts}}
    data = {key: f"{CANARY}-{name}-{key}" for key in ("token", "password", "api-key", "api-keys")}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
    view.api.create(f"/api/v1/namespaces/{namespace}/secrets", manifest)


def grant(view: View) -> None:
    """Let the tenant write our resources in the namespace, and read all there but Secrets."""
    base = f"/apis/{RBAC}/v1/namespaces/{view.namespace}"
    groups: dict[str, list[str]] = {}
    for item in READABLE:
        groups.setdefault(item.group, []).append(item.plural)
    rules: list[dict[str, object]] = [
        {"apiGroups": [group], "resources": [*plurals, "pods/log"], "verbs": ["get", "list"]}
        for group, plurals in groups.items()
    ]
    rules.append({"apiGroups": [labels.GROUP], "resources": ["*"], "verbs": ["*"]})
    head: dict[str, object] = {"apiVersion": f"{RBAC}/v1", "metadata": {"name": TENANT}}
    view.api.create(f"{base}/roles", {**head, "kind": "Role", "rules": rules})
    subject = {"kind": "User", "name": TENANT, "apiGroup": RBAC}
    reference = {"apiGroup": RBAC, "kind": "Role", "name": TENANT}
    binding = {**head, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
    view.api.create(f"{base}/rolebindings", binding)


@pytest_asyncio.fixture
async def tenant(plane: ControlPlane, view: View) -> AsyncIterator[Client]:
    """The user, as soon as the authorizer knows what it may."""
    grant(view)
    client = await connect(plane.user_kubeconfig(TENANT))

    async def may_read() -> bool:
        try:
            [each async for each in client.list(READABLE[0], namespace=view.namespace)]
        except Forbidden:
            return False
        return True

    await until(may_read, seconds=10, what="the tenant's grant in the authorizer")
    yield client
    await client.close()


def manifest_of(kind: str, name: str, namespace: str, **spec: object) -> dict[str, object]:
    return {
        "apiVersion": labels.API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**SMALLEST[kind], **spec},
    }


def values_of(view: View) -> dict[str, str]:
    """Return every value of every Secret of the namespace, in clear and as the API shows it, with where it is."""
    listed: Any = view.api.get(f"/api/v1/namespaces/{view.namespace}/secrets")
    found: dict[str, str] = {}
    for item in listed["items"]:
        for key, encoded in (item.get("data") or {}).items():
            clear = b64decode(encoded).decode()
            if len(clear) >= SHORTEST:
                found |= dict.fromkeys((clear, encoded), f"{item['metadata']['name']}/{key}")
    return found


async def readable(tenant: Client, namespace: str, *, of: tuple[Resource, ...] = READABLE) -> str:
    """Return all that the tenant can read of the namespace's objects, as one text."""
    return json.dumps([[each async for each in tenant.list(item, namespace=namespace)] for item in of])


def metrics_of(process: Process) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics", timeout=5) as response:
        return str(response.read().decode())


def spilled(values: Mapping[str, str], **places: str) -> list[str]:
    """Return which Secret's value stands in which place."""
    return [
        f"{where} in {place}" for place, text in places.items() for value, where in values.items() if value in text
    ]


@pytest.mark.asyncio
async def test_who_may_not_read_secrets_learns_no_value_of_one(
    launcher: Launcher, view: View, stub: Stub, tenant: Client
) -> None:
    # Given Secrets that may be used for what they are for, and all kinds naming them
    process = started(launcher)
    first_build(view, view.of("RetrievalIndex"), stub)
    for name, host in (("hub", "huggingface.co"), ("store", "huggingface.co"), ("callers", "")):
        secret(view, name, hosts=host)
    credentials = {"source": {"uri": "hf://org/repo", "credentialsSecretRef": {"name": "hub"}}}
    own_keys = {"access": {"apiKeysSecretRef": {"name": "callers"}}}
    await tenant.create(manifest_of("CompactModel", "small", view.namespace, **credentials, **own_keys))
    store = {"type": "External", "url": "https://huggingface.co/qdrant", "keySecretRef": {"name": "store"}}
    await tenant.create(manifest_of("RetrievalIndex", "stored", view.namespace, store=store))
    await tenant.create(manifest_of("Assistant", "help", view.namespace, apiKeysSecretRef={"name": "callers"}))
    # When all of them answer
    ready(view, "small")
    ready(view.of("Assistant"), "help")
    indexes = view.of("RetrievalIndex")
    ready(indexes, "handbook")
    eventually(lambda: indexes.condition("stored", "Serving") == ("True", "Answering"), what="the store in use")
    settled(process, view)
    # Then no value of theirs, nor of the keys that were made, stands in anything that the user can see
    values = values_of(view)
    assert {where.partition("/")[0] for where in values.values()} >= {"hub", "store", "callers", "small-key"}
    seen = await readable(tenant, view.namespace)
    log = process.log.read_text(encoding="utf-8")
    assert spilled(values, objects=seen, log=log, metrics=metrics_of(process)) == []
    with pytest.raises(Forbidden):
        await tenant.get(SECRET, namespace=view.namespace, name="small-key")


NAMING: Final[Mapping[str, tuple[str, dict[str, object]]]] = {
    "a model's credentials": (
        "CompactModel",
        {"source": {"uri": "hf://org/repo", "credentialsSecretRef": {"name": "treasure"}}},
    ),
    "a model's own keys": ("CompactModel", {"access": {"apiKeysSecretRef": {"name": "treasure"}}}),
    "an assistant's own keys": (
        "Assistant",
        {"apiKeysSecretRef": {"name": "treasure"}},
    ),
    "an index's source": (
        "RetrievalIndex",
        {
            "sources": [
                {
                    "name": "docs",
                    "git": {
                        "url": "https://huggingface.co/docs.git",
                        "credentialsSecretRef": {"name": "treasure"},
                    },
                }
            ]
        },
    ),
    "an index's store": (
        "RetrievalIndex",
        {"store": {"type": "External", "url": "https://huggingface.co/q", "keySecretRef": {"name": "treasure"}}},
    ),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("named", NAMING)
async def test_a_secret_that_nobody_lends_reaches_no_pod(
    launcher: Launcher, view: View, tenant: Client, named: str
) -> None:
    # Given a Secret whose owner did not mark it for use
    started(launcher)
    view.create("small")
    ready(view, "small")
    secret(view, "treasure")
    kind, spec = NAMING[named]
    # When the user names it
    await tenant.create(manifest_of(kind, "thief", view.namespace, **spec))
    # Then that is told, and no pod's template knows its name
    own = view.of(kind)
    eventually(
        lambda: "SecretNotUsable" in json.dumps(own.model("thief").get("status", {})),
        seconds=15,
        what="the refusal",
    )
    templates = tuple(resource_of(each) for each in ("Deployment", "StatefulSet", "Job", "Pod"))
    assert "treasure" not in await readable(tenant, view.namespace, of=templates)
    assert CANARY not in await readable(tenant, view.namespace)


@pytest.mark.asyncio
async def test_a_secret_of_another_namespace_is_not_there(launcher: Launcher, view: View, tenant: Client) -> None:
    started(launcher)
    other = f"{view.namespace}-other"
    view.api.create("/api/v1/namespaces", {"metadata": {"name": other}})
    secret(view, "treasure", namespace=other, hosts="huggingface.co")
    _, spec = NAMING["a model's credentials"]
    await tenant.create(manifest_of("CompactModel", "thief", view.namespace, **spec))
    eventually(
        lambda: view.condition("thief", "Ready") == ("False", "SecretMissing"),
        seconds=15,
        what="that none is there",
    )
    view.api.delete(f"/api/v1/namespaces/{other}")
