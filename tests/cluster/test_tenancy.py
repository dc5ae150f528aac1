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
from e2e.support.needles import forms, spilled, words
from nimblet import labels
from nimblet.cluster.client import Client, connect
from nimblet.cluster.errors import Forbidden
from nimblet.cluster.resources import CERTIFICATE, LEASE, RESOURCES, SECRET, Resource, resource_of
from tests.cluster.operator_support import ANSWER_SECONDS, RBAC, SMALLEST, Launcher, Process, View, eventually
from tests.cluster.settling import ready, settled, started
from tests.cluster.stub_server import Stub
from tests.cluster.test_index import first_build
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TENANT: Final = "tenant"
CANARY: Final = "canary-7f3c9a5e1b"
SECRET_KEYS: Final = (
    *("token", "username", "password", "accessKeyId", "secretAccessKey"),
    *("api-key", "api-keys", "identity"),
)
"""All keys that any field asks for."""
SHORTEST: Final = 8
"""Characters; shorter values of a Secret are words that stand elsewhere too."""
READABLE: Final = tuple(item for item in RESOURCES if item.namespaced and item not in (SECRET, LEASE, CERTIFICATE))
"""Certificates are cert-manager's, which this API server does not know."""


def secret(view: View, name: str, *, namespace: str = "", hosts: str | None = None) -> None:
    """Make a Secret of everything that a spec could name; with `hosts` its owner lets it be used there."""
    namespace = namespace or view.namespace
    metadata: dict[str, object] = {"name": name, "namespace": namespace}
    if hosts is not None:
        metadata |= {"labels": {labels.USE: "true"}, "annotations": {labels.HOSTS: hosts}}
    data = {key: f"{CANARY}-{name}-{key}" for key in SECRET_KEYS}
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

    await until(may_read, seconds=60, what="the tenant's grant in the authorizer")
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
    """Return every value of every Secret of the namespace in all forms in which it may stand, with where it is."""
    listed: Any = view.api.get(f"/api/v1/namespaces/{view.namespace}/secrets")
    found: dict[str, str] = {}
    for item in listed["items"]:
        for key, encoded in (item.get("data") or {}).items():
            clear = b64decode(encoded).decode()
            for word in {clear, *words(clear)}:
                if len(word) >= SHORTEST:
                    found |= dict.fromkeys(forms(word), f"{item['metadata']['name']}/{key}")
    return found


async def readable(tenant: Client, namespace: str, *, of: tuple[Resource, ...] = READABLE) -> str:
    """Return all that the tenant can read of the namespace's objects, as one text."""
    return json.dumps([[each async for each in tenant.list(item, namespace=namespace)] for item in of])


def metrics_of(process: Process) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics", timeout=ANSWER_SECONDS) as response:
        return str(response.read().decode())


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
    assert spilled(values, {"objects": seen, "log": log, "metrics": metrics_of(process)}) == []
    with pytest.raises(Forbidden):
        await tenant.get(SECRET, namespace=view.namespace, name="small-key")


def naming(secret_name: str) -> Mapping[str, tuple[str, dict[str, object]]]:
    """Return every field that names a Secret: the kind, and a spec that lends it to an address of the tenant's."""
    named: dict[str, object] = {"credentialsSecretRef": {"name": secret_name}}

    def index_of(**source: object) -> tuple[str, dict[str, object]]:
        return "RetrievalIndex", {"sources": [{"name": "docs", **source}]}

    pinned = {"integrity": {"sha256": {"m.gguf": "0" * 64}}}
    sealed = {"model": "small", "revision": "1", "keySecretRef": {"name": secret_name}}
    listed = {"integrity": {"sha256": {"nimblet-encryption.json": "0" * 64}}}
    store = {"type": "External", "url": "https://huggingface.co/q", "keySecretRef": {"name": secret_name}}
    drafting = {"type": "Draft", "source": {"uri": "hf://org/draft", **named}}
    return {
        "hub": ("CompactModel", {"source": {"uri": "hf://org/repo", **named}}),
        "web": ("CompactModel", {"source": {"uri": "https://huggingface.co/m.gguf", **named}, **pinned}),
        "bucket": ("CompactModel", {"source": {"uri": "s3://weights/small", **named}}),
        "registry": ("CompactModel", {"source": {"uri": "oci://huggingface.co/weights/small:1", **named}}),
        "adapter": ("CompactModel", {"adapters": [{"name": "a", "source": {"uri": "hf://org/lora", **named}}]}),
        "draft": ("CompactModel", {"runtime": {"speculative": drafting}}),
        "weights-key": ("CompactModel", {"source": {"uri": "hf://org/repo", "encryption": sealed}, **listed}),
        "model-keys": ("CompactModel", {"access": {"apiKeysSecretRef": {"name": secret_name}}}),
        "assistant-keys": ("Assistant", {"apiKeysSecretRef": {"name": secret_name}}),
        "git-source": index_of(git={"url": "https://huggingface.co/docs.git", **named}),
        "s3-source": index_of(s3={"uri": "s3://papers/handbook", **named}),
        "store": ("RetrievalIndex", {"store": store}),
    }


KEEPS_ITS_HOSTS: Final = ("hub", "web", "bucket", "registry", "adapter", "draft", "s3-source")
"""The Secret is mounted with the hosts that it names itself, and whoever connects sends it nowhere else."""
KEYS: Final = ("model-keys", "assistant-keys")
"""Keys that callers show us: they are sent to nobody."""
TEMPLATES: Final = tuple(resource_of(each) for each in ("Deployment", "StatefulSet", "Job", "Pod"))


async def thieves(tenant: Client, view: View, chosen: Mapping[str, tuple[str, dict[str, object]]]) -> None:
    """Have the tenant make a resource for each of the ways."""
    for name, (kind, spec) in chosen.items():
        await tenant.create(manifest_of(kind, name, view.namespace, **spec))


def told(view: View, kind: str, name: str, reason: str) -> None:
    eventually(
        lambda: reason in json.dumps(view.of(kind).model(name).get("status", {})),
        what=f"{reason} told by {kind} {name}",
    )


@pytest.mark.asyncio
async def test_a_secret_that_nobody_lends_reaches_no_pod(launcher: Launcher, view: View, tenant: Client) -> None:
    # Given a Secret whose owner did not mark it for use
    started(launcher)
    view.create("small")
    ready(view, "small")
    secret(view, "treasure")
    # When the user names it wherever one can be named
    ways = naming("treasure")
    await thieves(tenant, view, ways)
    # Then that is told, and no pod's template knows its name
    for name, (kind, _) in ways.items():
        told(view, kind, name, "SecretNotUsable")
    assert "treasure" not in await readable(tenant, view.namespace, of=TEMPLATES)
    assert CANARY not in await readable(tenant, view.namespace)


@pytest.mark.asyncio
async def test_nothing_of_another_namespace_is_there(launcher: Launcher, view: View, tenant: Client) -> None:
    # Given another namespace, whose owner lends a Secret, and where a model is called as one that the user names
    started(launcher)
    other = View(api=view.api, namespace=f"{view.namespace}-other")
    view.api.create("/api/v1/namespaces", {"metadata": {"name": other.namespace}})
    secret(view, "treasure", namespace=other.namespace, hosts="huggingface.co")
    other.create("foreign")
    view.create("small")
    ready(view, "small")
    ready(other, "foreign")
    # When the user names them
    ways = naming("treasure")
    await thieves(tenant, view, ways)
    embedding: dict[str, object] = {"modelRef": {"name": "foreign"}}
    foreign: dict[str, tuple[str, dict[str, object]]] = {
        "by-foreign": ("Assistant", {"modelRef": {"name": "foreign"}}),
        "of-foreign": ("RetrievalIndex", {"embedding": embedding}),
    }
    await thieves(tenant, view, foreign)
    # Then none is there, and no pod's template knows the Secret's name
    for name, (kind, _) in ways.items():
        told(view, kind, name, "SecretMissing")
    for name, (kind, _) in foreign.items():
        told(view, kind, name, "ModelMissing")
    assert "treasure" not in await readable(tenant, view.namespace, of=TEMPLATES)
    view.api.delete(f"/api/v1/namespaces/{other.namespace}")


@pytest.mark.asyncio
async def test_a_lent_secret_goes_to_no_address_of_the_tenants_choice(
    launcher: Launcher, view: View, tenant: Client
) -> None:
    # Given a Secret that its owner lends for one host
    started(launcher)
    secret(view, "treasure", hosts="vault.example")
    # When the user names it beside other addresses
    ways = {name: way for name, way in naming("treasure").items() if name not in KEYS}
    await thieves(tenant, view, ways)
    # Then either it is refused, or whoever connects is given the owner's host and no other
    for name, (kind, _) in ways.items():
        if name in KEEPS_ITS_HOSTS:
            eventually(
                lambda name=name: lent_hosts(view, name) == {"vault.example"},  # type: ignore[misc]
                what=f"the owner's host alone in what the pods of {name} read",
            )
        else:
            told(view, kind, name, "SecretNotUsable")


def lent_hosts(view: View, owner: str) -> set[str]:
    """Return the hosts that the pods of a resource may send its credential to, by what loader and indexer read."""
    found: set[str] = set()
    for item in view.children("ConfigMap").values():
        if owner in item["metadata"]["labels"].values():
            for text in item["data"].values():
                document = json.loads(text) if text.startswith("{") else {}
                found |= set(document.get("credentialHosts", ()))
                lent = (source.get("credentials", {}) for source in document.get("sources", ()))
                found |= {host for each in lent for host in each.get("hosts", ())}
    return found
