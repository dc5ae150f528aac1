# SPDX-License-Identifier: Apache-2.0
"""The life of an index and an Assistant beside a model, and who answers for a retriever's pod. Only for tests.

Builds are real Jobs whose pods kwok ends; what they built is what the stub of the retriever says it holds.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from e2e.cluster.api import Api, Manifest
from e2e.cluster.errors import ApiError
from nimblet import labels
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.api.retrievalindex import RetrievalIndex, RetrievalIndexSpec
from nimblet.cluster.indexfacts import config_map_facts
from nimblet.plan.index_build import wanted_build
from nimblet.plan.index_embedding import known_embeddings
from nimblet.plan.indexfacts import IndexFacts
from tests.cluster.operator_support import SMALLEST, View, condition_of
from tests.cluster.stub_server import RETRIEVER_STATUS, Stub
from tests.faults.story import Story

MODEL: Final = "small"
INDEX: Final = "handbook"
ASSISTANT: Final = "help"
FIRST: Final = "g000001"
SECOND: Final = "g000002"
STORE: Final[Mapping[str, object]] = {"store": {"type": "Embedded"}}
EDITED: Final[Mapping[str, object]] = {**STORE, "chunking": {"tokens": 128, "overlap": 16}}
BROKEN: Final[Mapping[str, object]] = {
    **EDITED,
    "sources": [{"name": "docs", "configMap": {"name": "broken"}}],
}
PINNED: Final[Mapping[str, object]] = {**EDITED, "generation": FIRST}
ANSWERING: Final[Mapping[str, object]] = {
    "modelRef": {"name": MODEL},
    "grounding": "Required",
    "indexRefs": [{"name": INDEX}],
}
ANSWERING_MORE: Final[Mapping[str, object]] = {**ANSWERING, "systemPrompt": "Be brief."}
MODELLESS: Final[Mapping[str, object]] = {**ANSWERING_MORE, "modelRef": {"name": "nobody"}}
CLASS: Final = "by-hand"
LIVES: Final = 2
"""Of the index in one story: each takes a volume."""


def documents(name: str) -> dict[str, Any]:
    """Return a ConfigMap that an index may read."""
    head = {"name": name, "labels": {labels.USE: "true"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": head, "data": {"a.md": f"This is {name}."}}


def _inputs(spec: Mapping[str, object], name: str) -> str:
    """Return the hash by which a build of this spec is known."""
    parsed = RetrievalIndexSpec.model_validate({**SMALLEST["RetrievalIndex"], **spec})
    status = RetrievalIndexStatus()
    index = RetrievalIndex(name=INDEX, namespace="", uid="", generation=1, spec=parsed, status=status)
    facts = IndexFacts(config_maps={name: config_map_facts(documents(name))})
    return wanted_build(index, facts, fingerprint=known_embeddings(index, facts)[0].fingerprint).inputs


BROKEN_INPUTS: Final = _inputs(BROKEN, "broken")
"""Names the build that finds no repository."""


def storage_class(api: Api) -> None:
    """Make the default StorageClass, whose volumes are made by hand and bound by the real controller."""
    head = {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    manifest = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": head}
    api.create(
        "/apis/storage.k8s.io/v1/storageclasses", {**manifest, "provisioner": "kubernetes.io/no-provisioner"}
    )


def volume(view: View, number: int) -> Manifest:
    """Return a volume for the index's claim in one of its lives."""
    claim = {"namespace": view.namespace, "name": f"{INDEX}-index"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{view.namespace}-{number}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/nowhere"},
            "claimRef": claim,
        },
    }


@dataclass(kw_only=True)
class Retrieving(Stub):
    """Also answers as a retriever that holds what the builds of the index of now have built.

    It looks at the Jobs whenever it is asked, so that it knows no less than who asks.
    """

    api: Api
    namespace: str
    serving: dict[str, str] = field(default_factory=dict)
    """Uid of the index → generation."""
    sealed: dict[str, list[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Whoever hangs up and asks again is answered by two threads."""

    def told_by_retriever(self) -> Mapping[str, object]:
        """Return the generations that ended builds made."""
        uid = self._look()
        generations = [
            {"name": name, "embedding": "e", "documents": 2, "chunks": 12, "bytes": 4096, "sealed": True}
            for name in self.sealed.get(uid, ())
        ]
        return {**RETRIEVER_STATUS, "serving": self.serving.get(uid), "generations": generations}

    def serve(self, generation: str) -> None:
        """Swap by an order."""
        self.orders.append(generation)
        self.serving[self._look()] = generation

    def _look(self) -> str:
        """Take up what was built since; return the uid of the index of now, none where there is none."""
        view = View(api=Api(self.api.endpoint), namespace=self.namespace, kind="RetrievalIndex")
        try:
            index = view.model(INDEX)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise  # no answer is better than a wrong one
            return ""
        uid = str(index["metadata"]["uid"])
        with self.lock:
            self._take_up(view, index, uid)
        return uid

    def _take_up(self, view: View, index: Any, uid: str) -> None:
        held = self.sealed.setdefault(uid, [])
        for job in view.children("Job").values():
            name = job["metadata"]["labels"].get(labels.BUILD_GENERATION)
            owned = any(owner["uid"] == uid for owner in job["metadata"]["ownerReferences"])
            if name and owned and job["status"].get("succeeded") and name not in held:
                held.append(name)
                if "generation" not in index["spec"]:
                    self.serving[uid] = name


@dataclass(frozen=True, kw_only=True)
class GroundedStory(Story):
    """A CompactModel, a RetrievalIndex with a store of its own, and an Assistant over both."""

    @classmethod
    def furnish(cls, view: View) -> Mapping[str, str]:
        """Make documents and volumes."""
        for name in (INDEX, "broken"):
            view.api.create(f"/api/v1/namespaces/{view.namespace}/configmaps", documents(name))
        for number in range(LIVES):
            view.api.create("/api/v1/persistentvolumes", volume(view, number))
        return {f"{view.namespace}-{number}": "VOLUME" for number in range(LIVES)}

    @classmethod
    def clear(cls, view: View) -> None:
        """Remove the volumes."""
        for number in range(LIVES):
            view.api.delete(f"/api/v1/persistentvolumes/{view.namespace}-{number}")

    @classmethod
    def stub(cls, api: Api, namespace: str) -> Stub:
        """Return a stub that holds what was built."""
        return Retrieving(api=api, namespace=namespace)

    @property
    def indexes(self) -> View:
        """The namespace's RetrievalIndexes."""
        return self.view.of("RetrievalIndex")

    @property
    def assistants(self) -> View:
        """The namespace's Assistants."""
        return self.view.of("Assistant")

    def first_part(self) -> None:
        """Create, edit, break, repair, roll back and forth, suspend and resume."""
        self.create("created")
        self.edit()
        self.break_()
        self.repair()
        self.roll_back()
        self.roll_forth()
        self.suspend()
        self.resume()

    def second_part(self) -> None:
        """Delete all three, and create them again under the same names."""
        self.delete()
        self.create("recreated")

    def create(self, step: str) -> None:
        """All three Ready, with a first generation."""
        self.assistants.create(ASSISTANT, **ANSWERING)
        self.indexes.create(INDEX, **STORE)
        self.view.create(MODEL)
        self._wait(lambda: self.answers_from(FIRST), f"all three {step} and Ready")
        self.after(step)

    def edit(self) -> None:
        """Other passages and another prompt: a second generation, and a gateway that is rolled."""
        self.indexes.respec(INDEX, EDITED)
        self.assistants.respec(ASSISTANT, ANSWERING_MORE)
        self._wait(lambda: self.answers_from(SECOND) and self.has_built(SECOND), "edited, built and rolled")
        self.after("edited")

    def break_(self) -> None:
        """A source that can't be read and a model that is not there: told, and both serve on."""
        self.indexes.respec(INDEX, BROKEN)
        self.assistants.respec(ASSISTANT, MODELLESS)
        self._wait(self._is_broken, "broken, told, and serving on")
        self.after("broken")

    def repair(self) -> None:
        """Back to what worked: nothing is built, nothing is rolled."""
        self.indexes.respec(INDEX, EDITED)
        self.assistants.respec(ASSISTANT, ANSWERING_MORE)
        self._wait(lambda: self.answers_from(SECOND), "repaired and Ready")
        self.after("repaired")

    def roll_back(self) -> None:
        """The first generation is pinned."""
        self.indexes.respec(INDEX, PINNED)
        self._wait(lambda: self.answers_from(FIRST), "rolled back")
        self.after("rolled back")

    def roll_forth(self) -> None:
        """The pin is taken away."""
        self.indexes.respec(INDEX, EDITED)
        self._wait(lambda: self.answers_from(SECOND), "rolled forth")
        self.after("rolled forth")

    def suspend(self) -> None:
        """Index and Assistant rest without a pod."""
        self.indexes.respec(INDEX, {**EDITED, "suspend": True})
        self.assistants.respec(ASSISTANT, {**ANSWERING_MORE, "suspend": True})
        self._wait(self._rests, "suspended")
        self.after("suspended")

    def resume(self) -> None:
        """Both are there again, with what was built before."""
        self.indexes.respec(INDEX, EDITED)
        self.assistants.respec(ASSISTANT, ANSWERING_MORE)
        self._wait(lambda: self.answers_from(SECOND), "resumed")
        self.after("resumed")

    def delete(self) -> None:
        """Nothing of them is left."""
        paths = [f"{view.models()}/{name}" for view, name in self._all()]
        for path in paths:
            self.view.api.delete(path)
        if self.waits_for_deletion:
            self._wait(lambda: not self.view.versions(), "deleted with all children")
        else:
            self._wait(lambda: all(self.view.is_gone(path) for path in paths), "deleted")
        self.after("deleted")

    def answers_from(self, generation: str) -> bool:
        """Tell whether all three are Ready as written now, over this generation, and nothing is under way."""
        if not all(view.is_ready(name) for view, name in self._all()):
            return False
        index, assistant = self.indexes.model(INDEX), self.assistants.model(ASSISTANT)
        used = [item.get("generation") for item in assistant["status"]["indexes"]]
        serves = index["status"].get("servingGeneration") == generation
        return serves and used == [generation] and self._is_calm()

    def has_built(self, generation: str) -> bool:
        """Tell whether the last build is known to have made this generation."""
        return bool(self.indexes.model(INDEX)["status"]["build"]["generation"] == generation)

    def _all(self) -> Iterator[tuple[View, str]]:
        yield self.view, MODEL
        yield self.indexes, INDEX
        yield self.assistants, ASSISTANT

    def _is_calm(self) -> bool:
        """Tell whether one pod of each kind and what belongs to it is there, and nothing older."""
        pods = [name for name in self.view.children("Pod") if "-build-" not in name]
        jobs = [name for name in self.view.children("Job") if "-build-" not in name]
        maps = [name for name in self.view.children("ConfigMap") if f"{ASSISTANT}-gateway-" in name]
        return (len(pods), len(jobs), len(maps)) == (3, 0, 1)

    def _is_broken(self) -> bool:
        index, assistant = self.indexes.model(INDEX), self.assistants.model(ASSISTANT)
        serve = all(condition_of(item, "Serving") == ("True", "Answering") for item in (index, assistant))
        fresh = all(
            item["status"]["observedGeneration"] == item["metadata"]["generation"] for item in (index, assistant)
        )
        told = condition_of(index, "Indexed") == ("False", "RepositoryNotFound")
        return serve and fresh and told and condition_of(assistant, "Stalled") == ("True", "ModelMissing")

    def _rests(self) -> bool:
        found = [condition_of(view.model(name), "Ready") for view, name in self._all() if name != MODEL]
        pods = [name for name in self.view.children("Pod") if f"{MODEL}-" not in name and "-build-" not in name]
        return found == [("False", "Suspended")] * 2 and not pods
