# SPDX-License-Identifier: Apache-2.0
"""The life of a CompactModel under a Required TEEPolicy: no place, a place, kept, evicted, and let in again.

What the operator writes is looked at too: a template of pods without the place breaks the policy, however soon it
is put right. Only for tests.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nimblet import labels
from tests.cluster.operator_support import View, condition_of
from tests.cluster.tee_support import POLICIES
from tests.faults.story import EDITED_CONTEXT, ModelStory
from tests.teepools import SIMULATED

NODE: Final = "node-1"
PLACES: Final[Mapping[str, str]] = {"first": "kata-qemu-snp", "second": "kata-qemu-tdx"}
"""Place → its RuntimeClass; the policy names both."""
LENDING: Final[Mapping[str, object]] = {
    "source": {"uri": "hf://org/repo", "credentialsSecretRef": {"name": "hub"}},
}
"""A model with a Secret of its user's. Own keys would name pods by a hash under each run's own master key."""
POD_MAKERS: Final = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True, kw_only=True)
class ConfinedStory(ModelStory):
    """A CompactModel alone, in a namespace that a policy of its own binds. Places are labels of the one node."""

    @classmethod
    def furnish(cls, view: View) -> Mapping[str, str]:
        """Bind the namespace: the policy is there before the model; and give what the model's user gives."""
        _label(view, f"/api/v1/namespaces/{view.namespace}", _manager(view), {"security": view.namespace})
        _put_policy(view, place="first")
        head = {"name": "hub", "labels": {labels.USE: "true"}, "annotations": {labels.HOSTS: "huggingface.co"}}
        manifest = {"kind": "Secret", "metadata": head, "stringData": {"token": f"canary-{view.namespace}-hub"}}
        view.api.create(f"/api/v1/namespaces/{view.namespace}/secrets", {"apiVersion": "v1", **manifest})
        return {}

    @classmethod
    def clear(cls, view: View) -> None:
        """Remove the policy and the labels."""
        view.api.delete(_path(view))
        _label(view, f"/api/v1/nodes/{NODE}", _manager(view), {})

    @classmethod
    def breach(cls, body: str) -> str:
        """Return what of a written body a Required policy forbids, "" where it does not."""
        written = json.loads(body) if body else {}
        if written.get("kind") not in POD_MAKERS:
            return ""
        spec: Mapping[str, Any] = written["spec"]["template"]["spec"]
        chosen = {key.rpartition("/")[2] for key in spec.get("nodeSelector", {})}
        if any(place in chosen and spec.get("runtimeClassName") == name for place, name in PLACES.items()):
            return ""
        return f"{written['kind']} {written['metadata']['name']} may run anywhere"

    def first_part(self) -> None:
        """Refuse, place, edit, keep, evict, let in."""
        self.refuse()
        self.place()
        self.edit()
        self.keep_out()
        self.evict()
        self.let_in()

    def refuse(self) -> None:
        """There is no place: told, and nothing is made that makes pods."""
        self.view.create(self.name, **LENDING)
        self._wait(lambda: self._violates() and self._has_no_pods(), "a model without a place refused")
        self.after("refused")

    def place(self) -> None:
        """The node becomes a place."""
        self._offer("first")
        self._wait(lambda: self._is_placed(1), "a model placed and Ready")
        self.after("placed")

    def edit(self) -> None:
        """Another context length: the pods are rolled, inside of the place."""
        self.view.respec(self.name, {**LENDING, "runtime": {"contextLength": EDITED_CONTEXT}})
        self._wait(lambda: self._is_placed(1) and self._rolled(), "a model edited and rolled")
        self.after("edited")

    def keep_out(self) -> None:
        """The policy asks for another place: what runs stays, and that is told."""
        _put_policy(self.view, place="second")
        self._wait(lambda: self._violates() and self._serves(), "a model kept, and told that it may not be there")
        self.after("kept")

    def evict(self) -> None:
        """The policy asks for no pods outside."""
        _put_policy(self.view, place="second", onViolation="Evict")
        self._wait(lambda: self._violates() and self._has_no_pods(), "a model evicted")
        self.after("evicted")

    def let_in(self) -> None:
        """The node becomes the other place."""
        self._offer("first", "second")
        self._wait(lambda: self._is_placed(1), "a model let in and Ready")
        self.after("let in")

    def recreate(self) -> None:
        """Another model under the same name, still bound."""
        self.view.create(self.name, **LENDING)
        self._wait(lambda: self._is_placed(1), "a model recreated and placed")
        self.after("recreated")

    def _offer(self, *places: str) -> None:
        offered = {f"{self.view.namespace}/{place}": "true" for place in places}
        _label(self.view, f"/api/v1/nodes/{NODE}", _manager(self.view), offered)

    def _violates(self) -> bool:
        model = self.view.model(self.name)
        told = condition_of(model, "PolicyEnforced") == ("False", "NoConfidentialPlace")
        # another reason while an older spec serves on
        return told and (condition_of(model, "Ready") or ("", ""))[0] == "False"

    def _serves(self) -> bool:
        return condition_of(self.view.model(self.name), "Serving") == ("True", "Answering") and self._pods() == 1

    def _has_no_pods(self) -> bool:
        return not any(self.view.children(kind) for kind in (*POD_MAKERS, "Pod"))

    def _is_placed(self, replicas: int) -> bool:
        model = self.view.model(self.name)
        met = condition_of(model, "PolicyEnforced") == ("True", "Simulated")
        return met and self.is_settled(replicas)


def _put_policy(view: View, *, place: str, **more: object) -> None:
    asked = {f"{view.namespace}/{place}": "true"}
    override = {"technology": "SNP", "runtimeClassName": PLACES[place], "nodeLabels": asked}
    spec = {
        "technologies": ["SNP"],
        "enforcement": "Required",
        "namespaceSelector": {"matchLabels": {"security": view.namespace}},
        "overrides": [override],
        "attestation": SIMULATED,
        **more,
    }
    head = {"apiVersion": labels.API_VERSION, "kind": "TEEPolicy", "metadata": {"name": view.namespace}}
    view.api.apply(_path(view), {**head, "spec": spec})


def _path(view: View) -> str:
    return f"{POLICIES}/{view.namespace}"


def _manager(view: View) -> str:
    """Return by whose name a run labels what all runs share: each takes away its own labels only."""
    return view.namespace


def _label(view: View, path: str, manager: str, wanted: Mapping[str, str]) -> None:
    kind = "Node" if "/nodes/" in path else "Namespace"
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"labels": dict(wanted)}}
    view.api.apply(path, manifest, manager=manager)
