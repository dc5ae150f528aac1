# SPDX-License-Identifier: Apache-2.0
"""What a story is, and the life of one CompactModel as its user sees it: each step waits until it is seen done.

Nothing here knows of faults: the same story is told in every run. Only for tests.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from e2e.cluster.api import Api
from nimblet.api.compactmodel import CompactModelSpec
from nimblet.plan.integrity import NO_TRUST
from nimblet.plan.source import source_hash
from nimblet.settings import Settings
from tests.cluster.operator_support import View, condition_of
from tests.cluster.stub_server import Stub
from tests.faults.admin import eventually

NAME: Final = "small"
GOOD: Final[Mapping[str, object]] = {"source": {"uri": "hf://org/repo"}}
MISSING: Final[Mapping[str, object]] = {"source": {"uri": "hf://org/missing"}}
MISSING_HASH: Final = source_hash(CompactModelSpec.model_validate(MISSING), Settings(), NO_TRUST)
"""Names the resolver pods that find no repository."""
EDITED_CONTEXT: Final = 2048
SECONDS: Final = 240.0
"""For a step. Waits end as soon as they can; on a busy machine the start of a process alone may take a minute."""


@dataclass(frozen=True, kw_only=True)
class Story(ABC):
    """`after` is told the name of each step that is done; `patient` False: nothing is waited for but the API."""

    view: View
    after: Callable[[str], None]
    patient: bool = True
    waits_for_deletion: bool = True

    @classmethod
    def furnish(cls, view: View) -> Mapping[str, str]:
        """Make what is there before the story begins; return names of this run and what stands for them."""
        del view
        return {}

    @classmethod
    def clear(cls, view: View) -> None:
        """Remove what is left outside of the namespace."""
        del view

    @classmethod
    def breach(cls, body: str) -> str:
        """Return what of a body that the operator wrote is forbidden at any time, "" where nothing is."""
        del body
        return ""

    @classmethod
    def stub(cls, api: Api, namespace: str) -> Stub:
        """Return who answers for the pods."""
        del api, namespace
        return Stub()

    @abstractmethod
    def first_part(self) -> None:
        """Tell everything up to the deletion."""

    @abstractmethod
    def second_part(self) -> None:
        """Delete, and create again under the same name."""

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        if self.patient:
            eventually(condition, seconds=SECONDS, what=what)


@dataclass(frozen=True, kw_only=True)
class ModelStory(Story):
    """A CompactModel alone."""

    name: str = field(default=NAME)

    def first_part(self) -> None:
        """Create, edit, break, repair, scale up and down."""
        self.create()
        self.edit()
        self.break_()
        self.repair()
        self.scale_up()
        self.scale_down()

    def second_part(self) -> None:
        """Delete, and create again under the same name."""
        self.delete()
        self.recreate()

    def create(self) -> None:
        """A first model, Ready."""
        self.view.create(self.name)
        self._wait(lambda: self.is_settled(1), "a model created and Ready")
        self.after("created")

    def edit(self) -> None:
        """Another context length: the pods are rolled."""
        self.view.respec(self.name, {**GOOD, "runtime": {"contextLength": EDITED_CONTEXT}})
        self._wait(lambda: self.is_settled(1) and self._rolled(), "a model edited and rolled")
        self.after("edited")

    def break_(self) -> None:
        """A repository that is not there: told, and the old pods serve on."""
        self.view.respec(self.name, {**MISSING, "runtime": {"contextLength": EDITED_CONTEXT}})
        self._wait(self._is_broken, "a model broken, told, and served by the old pods")
        self.after("broken")

    def repair(self) -> None:
        """Back to the good repository."""
        self.view.respec(self.name, {**GOOD, "runtime": {"contextLength": EDITED_CONTEXT}})
        self._wait(lambda: self.is_settled(1), "a model repaired and Ready")
        self.after("repaired")

    def scale_up(self) -> None:
        """Two replicas and a budget."""
        self.view.scale(self.name, 2)
        self._wait(lambda: self.is_settled(2) and self._budgets() == 1, "a model two replicas and a budget")
        self.after("scaled up")

    def scale_down(self) -> None:
        """One replica again, and no budget."""
        self.view.scale(self.name, 1)
        self._wait(lambda: self.is_settled(1) and self._budgets() == 0, "a model one replica and no budget")
        self.after("scaled down")

    def delete(self) -> None:
        """Nothing of it is left."""
        self.view.api.delete(f"{self.view.models()}/{self.name}")
        if self.waits_for_deletion:
            self._wait(lambda: not self.view.versions(), "a model deleted with all its children")
        else:
            self._wait(lambda: self.view.is_gone(f"{self.view.models()}/{self.name}"), "a model deleted")
        self.after("deleted")

    def recreate(self) -> None:
        """Another model under the same name."""
        self.view.create(self.name)
        self._wait(lambda: self.is_settled(1), "a model recreated and Ready")
        self.after("recreated")

    def is_settled(self, replicas: int) -> bool:
        """Tell whether the model is Ready with so many pods and nothing is under way."""
        return self.view.is_ready(self.name) and not self.view.children("Job") and self._pods() == replicas

    def _pods(self) -> int:
        return len(self.view.children("Pod"))

    def _budgets(self) -> int:
        return len(self.view.children("PodDisruptionBudget"))

    def _rolled(self) -> bool:
        resolved = self.view.model(self.name)["status"]["resolved"]
        return bool(resolved["contextLength"] == EDITED_CONTEXT)

    def _is_broken(self) -> bool:
        model = self.view.model(self.name)
        fresh = model["status"]["observedGeneration"] == model["metadata"]["generation"]
        told = condition_of(model, "Ready") == ("False", "UpdateFailed")
        serves = condition_of(model, "Serving") == ("True", "Answering")
        return bool(fresh and told and serves)
