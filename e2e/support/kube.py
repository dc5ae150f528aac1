# SPDX-License-Identifier: Apache-2.0
"""kubectl with types: what a user does at the command line, parsed. It decides and retries nothing."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from e2e.cluster.cluster import Cluster
from e2e.support.objects import Event, Model, Pod, Resource, Thing
from e2e.support.wait import until
from nimblet.api.common import Condition
from nimblet.labels import MODEL

Manifest = Mapping[str, object]
M = TypeVar("M", Model, Resource)
CHILD_KINDS = (
    "deployments,replicasets,pods,services,serviceaccounts,secrets,configmaps,jobs,networkpolicies,"
    "poddisruptionbudgets,persistentvolumeclaims"
)

ALONE_SECONDS = 120.0
ROLLOUT_SECONDS = 180
"""For a Deployment of ours or of a test's own: nothing promises how soon its pods start."""


class _List(BaseModel):
    items: list[dict[str, object]]


@dataclass(frozen=True)
class Kube:
    """kubectl with the admin's rights."""

    cluster: Cluster

    def run(self, *arguments: str, text: str = "") -> str:
        """Run kubectl and return its output; ClusterError with its words when it fails."""
        return self.cluster.kubectl(*arguments, text=text)

    def apply(self, manifest: Manifest) -> None:
        """`kubectl apply`, as users do."""
        self.run("apply", "--filename=-", text=json.dumps(manifest))

    def find(self, kind: str, name: str, namespace: str = "") -> dict[str, object] | None:
        """Return one object, None where there is none."""
        found = self.run("get", kind, name, *_in(namespace), "--ignore-not-found", "--output=json")
        return dict(json.loads(found)) if found.strip() else None

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, object]:
        """Return one object; LookupError where there is none."""
        found = self.find(kind, name, namespace)
        if found is None:
            raise LookupError(f"expected {kind} {name} in namespace {namespace or '-'}, found none")
        return found

    def items(self, kinds: str, namespace: str, *, selector: str = "") -> list[dict[str, object]]:
        """Return all objects of some kinds."""
        chosen = (f"--selector={selector}",) if selector else ()
        return _List.model_validate_json(self.run("get", kinds, *_in(namespace), *chosen, "--output=json")).items

    def model(self, name: str, namespace: str) -> Model:
        """Return a CompactModel."""
        return Model.model_validate(self.get("compactmodel", name, namespace))

    def pods(self, namespace: str, *, model: str = "", component: str = "") -> list[Pod]:
        """Return pods, of one model and component when named, the oldest first."""
        parts = [f"{MODEL}={model}"] if model else []
        parts += [f"app.kubernetes.io/component={component}"] if component else []
        pods = [Pod.model_validate(item) for item in self.items("pods", namespace, selector=",".join(parts))]
        return sorted(pods, key=lambda pod: (str(pod.metadata.creation_timestamp), pod.metadata.name))

    def children(self, namespace: str, model: str) -> list[Thing]:
        """Return everything that carries a model's label."""
        found = self.items(CHILD_KINDS, namespace, selector=f"{MODEL}={model}")
        return [Thing.model_validate(item) for item in found]

    def events(self, namespace: str) -> list[Event]:
        """Return a namespace's events."""
        return [Event.model_validate(item) for item in self.items("events", namespace)]

    def secret_value(self, name: str, key: str, namespace: str) -> str:
        """Return one value of a Secret."""
        data = self.get("secret", name, namespace)["data"]
        if not isinstance(data, dict):
            raise TypeError(f"expected Secret {name} with data, found none")
        return base64.b64decode(str(data[key])).decode()

    def patch(self, kind: str, name: str, namespace: str, *, merge: Manifest) -> None:
        """Merge a patch into an object; a null removes its field."""
        self.run("patch", kind, name, *_in(namespace), "--type=merge", f"--patch={json.dumps(merge)}")

    def scale_deployment(self, name: str, namespace: str, *, replicas: int) -> None:
        """Scale a Deployment and wait until its pods are as many."""
        self.run("scale", "deployment", name, *_in(namespace), f"--replicas={replicas}")
        self.rolled_out(name, namespace)

    def rolled_out(self, name: str, namespace: str) -> None:
        """Wait until a Deployment runs as its spec says."""
        self.run("rollout", "status", f"deployment/{name}", *_in(namespace), f"--timeout={ROLLOUT_SECONDS}s")

    def wait_condition(self, name: str, namespace: str, *, wanted: Mapping[str, str], seconds: float) -> Model:
        """Wait until conditions of the current spec have these statuses, or reasons where they are no status."""
        title = f"CompactModel {namespace}/{name}"
        return _conditions_met(lambda: self.model(name, namespace), title, wanted=wanted, seconds=seconds)

    def resource(self, kind: str, name: str, namespace: str) -> Resource:
        """Return a RetrievalIndex or an Assistant."""
        return Resource.model_validate(self.get(kind, name, namespace))

    def wait_resource(
        self, kind: str, name: str, namespace: str, *, wanted: Mapping[str, str], seconds: float
    ) -> Resource:
        """Wait as `wait_condition` does, for a RetrievalIndex or an Assistant."""
        title = f"{kind} {namespace}/{name}"
        return _conditions_met(lambda: self.resource(kind, name, namespace), title, wanted=wanted, seconds=seconds)

    def wait_alone(self, name: str, namespace: str, *, pods: int = 1) -> None:
        """Wait until a model has so many server pods and none of before.

        A pod that is replaced drains once the model is Ready, and is asked until the cluster's proxies forget it.
        """

        def alone() -> bool:
            return len(self.pods(namespace, model=name, component="model")) == pods

        until(alone, what=f"{pods} server pod(s) of {namespace}/{name} alone", seconds=ALONE_SECONDS)

    def wait_ready(self, name: str, namespace: str, *, seconds: float = 120.0) -> Model:
        """Wait until a model's current spec answers."""
        return self.wait_condition(name, namespace, wanted={"Ready": "True"}, seconds=seconds)


def _conditions_met(read: Callable[[], M], title: str, *, wanted: Mapping[str, str], seconds: float) -> M:
    def holds() -> M | None:
        found = read()
        # conditions of an older spec are true of that one: a test that has just edited waits for its own
        if found.status.observed_generation != found.metadata.generation:
            return None
        return found if all(_is(found.condition(type_), value) for type_, value in wanted.items()) else None

    what = ", ".join(f"{type_} {value}" for type_, value in wanted.items())
    return until(holds, what=f"{what} of {title}", seconds=seconds, seen=lambda: conditions_text(read()))


def _is(condition: Condition | None, wanted: str) -> bool:
    if condition is None:
        return False
    return wanted == (condition.status.value if wanted in {"True", "False", "Unknown"} else condition.reason)


def _in(namespace: str) -> tuple[str, ...]:
    return (f"--namespace={namespace}",) if namespace else ()


def conditions_text(model: Model | Resource) -> str:
    """Return all conditions, one a line."""
    head = f"generation {model.metadata.generation}, observed {model.status.observed_generation}"
    lines = [
        f"  {item.type}={item.status.value} {item.reason}: {item.message}" for item in model.status.conditions
    ]
    return "\n".join([head, *lines])
