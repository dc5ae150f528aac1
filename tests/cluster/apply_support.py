# SPDX-License-Identifier: Apache-2.0
"""What the tests of the apply rules share: an owner, its children, a rival that writes to them. Only for tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from e2e.cluster.api import Api
from nimblet.cluster.apply import ApplyContext, Owner, apply_children
from nimblet.cluster.client import Client, Json
from nimblet.cluster.contest import ContestLedger
from nimblet.cluster.resources import CONFIG_MAP, Resource, path, resource_of
from nimblet.cluster.sightings import Recent
from nimblet.plan.facts import WriteFailure
from nimblet.plan.result import Manifest

RIVAL = "nimblet-test-cluster"
"""The field manager that the rival's writes carry."""


def owner_of(body: Json) -> Owner:
    metadata = body["metadata"]
    return Owner(
        api_version=body["apiVersion"],
        kind=body["kind"],
        name=metadata["name"],
        uid=metadata["uid"],
        namespace=metadata["namespace"],
    )


def config_map(name: str = "child", **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data or {"a": "1"}}


def deployment(name: str = "server", *, app: str = "server", cpu: str = "1000m") -> dict[str, object]:
    """Return a Deployment without replicas' pods ever starting: its namespace has no node that fits."""
    container = {
        "name": "server",
        "image": "example.test/server:1",
        "ports": [{"containerPort": 8080}],
        "resources": {"requests": {"cpu": cpu, "memory": "1024Mi"}, "limits": {"memory": "1Gi"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": app}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {"containers": [container], "hostNetwork": False},
            },
        },
    }


@dataclass
class Rig:
    """An owner with its children. The mirror is what earlier writes returned, as in the operator."""

    client: Client
    rival: Api
    owner: Owner
    contests: ContestLedger = field(default_factory=ContestLedger)
    mirror: dict[tuple[str, str], Json] = field(default_factory=dict)
    recent: Recent | None = None
    """What was read a moment ago, where it outlives a pass."""
    writes: int = 0

    async def apply(self, *children: Manifest, deleting: bool = False) -> tuple[WriteFailure, ...]:
        """Apply with what the mirror holds."""
        context = ApplyContext(
            client=self.client,
            owner=replace(self.owner, deleting=deleting),
            live=lambda kind, name: self.mirror.get((kind, name)),
            observed=self._observed,
            contests=self.contests,
            recent=self.recent or Recent(),
        )
        return await apply_children(context, children)

    async def apply_fresh(self, *children: Manifest) -> tuple[WriteFailure, ...]:
        """Apply after the mirror has seen everything."""
        for manifest in children:
            kind, name = str(manifest["kind"]), name_of(manifest)
            live = await self.get(name, resource_of(kind))
            if live is not None:
                self.mirror[kind, name] = live
        return await self.apply(*children)

    async def get(self, name: str = "child", resource: Resource = CONFIG_MAP) -> Json | None:
        return await self.client.get(resource, namespace=self.owner.namespace, name=name)

    async def read(self, name: str = "child", resource: Resource = CONFIG_MAP) -> Json:
        """Return an object that must exist."""
        found = await self.get(name, resource)
        assert found is not None
        return found

    def overwrite(self, manifest: Mapping[str, object]) -> Mapping[str, object]:
        """Let the rival take the manifest's fields by force."""
        kind = resource_of(str(manifest["kind"]))
        return self.rival.apply(path(kind, namespace=self.owner.namespace, name=name_of(manifest)), manifest)

    def remove(self, name: str = "child", resource: Resource = CONFIG_MAP) -> None:
        self.rival.delete(path(resource, namespace=self.owner.namespace, name=name))

    def _observed(self, result: Json) -> None:
        self.writes += 1
        self.mirror[result["kind"], result["metadata"]["name"]] = result


def name_of(manifest: Mapping[str, object]) -> str:
    metadata = manifest["metadata"]
    assert isinstance(metadata, Mapping)
    return str(metadata["name"])


def version_of(body: Json) -> str:
    return str(body["metadata"]["resourceVersion"])
