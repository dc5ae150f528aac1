# SPDX-License-Identifier: Apache-2.0
"""The frame that every row of the matrix goes through: break, tell, mend, edit a serving model, undo.

1. The model that can't work is applied, or a serving one is broken: Ready goes False with the right reason, what
   was found and what to do, soon after the cluster recorded it; Stalled says the same, Serving tells the truth.
2. The fault is mended without deleting the CompactModel: Ready comes.
3. The same fault as an edit of the model that now serves: Ready False UpdateFailed, Stalled with the cause, and
   not one request fails. Undone, Ready comes back with the same pods: nothing was rolled.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from e2e.matrix.records import PULL, Record
from e2e.matrix.scene import NAME, Scene, Wish, now
from e2e.scenarios.test_rolling_change import Traffic, traffic
from e2e.support.asking import endpoint_of
from e2e.support.objects import Model
from e2e.support.wait import until
from e2e.support.watching import Sighting
from nimblet.conditions import Reason
from nimblet.nextstep import NEXT_STEP

RESTORED_SECONDS: Final = 150.0
"""What is made anew may need a resolver first, whose pod must start beside those of other rows."""
SOON: Final = timedelta(seconds=15)
CLOCK_GRAIN: Final = timedelta(seconds=1)
PATIENCE_SECONDS: Final = 150.0
PAUSE_SECONDS: Final = 1.0
"""Between two requests to a model that an edit must not harm: several rows share two cores."""
Act = Callable[[Scene], None]


def nothing(_: Scene) -> None:
    """Change nothing around the model."""


@dataclass(frozen=True)
class Fault:
    """A row. `spoil` and `mend` change what is around the model, `bad` and `good` are its specs.

    `start`: the fault strikes a model that serves already, written so after `prepare`. `edit` is applied to a
    serving model in the third part, after `spoil`; None where the fault is no edit. `good` None: the spec stays,
    mending alone heals. `step`: the next step, where the loader's own words replace the reason's.
    """

    name: str
    title: str
    reason: Reason
    record: Record
    bad: Wish
    cure: str
    good: Wish | None = field(default_factory=Wish)
    spoil: Act = nothing
    mend: Act = nothing
    edit: Wish | None = None
    start: Wish | None = None
    prepare: Act = nothing
    step: str = ""
    restored: Callable[[Scene], bool] | None = None
    """Tells when what was broken is made anew: then nothing needs to be told, and the serving pods stay."""
    slow: bool = False
    """Takes a minute or more by its nature: begun first."""

    @property
    def namespace(self) -> str:
        """The namespace that the row plays in."""
        return f"fault-{self.name}"


@dataclass(frozen=True)
class Outcome:
    """What a row showed: seconds from the record to the sight of the reason, and from mending to Ready."""

    message: str
    told_seconds: float
    healed_seconds: float
    answered: int | None
    """Requests answered while the edit was broken; None where there was no edit."""


def play(scene: Scene, fault: Fault) -> Outcome:
    """Play a row; AssertionError or NotInTimeError says what was not as it must be."""
    fault.prepare(scene)
    if fault.start is not None:
        scene.apply(fault.start)
        wait_ready(scene, since=0)
    if fault.restored is not None:
        return _restore(scene, fault, fault.restored)
    message, told, mark = _break(scene, fault)
    uid = scene.kube.model(NAME, scene.namespace).metadata.uid
    began = now()
    fault.mend(scene)
    generation = scene.apply(fault.good) if fault.good is not None else 0
    # from the sight of the reason on: some heal by themselves, before this has looked
    healed = wait_ready(scene, since=mark, generation=generation)
    model = Model.model_validate(healed.body)
    assert model.condition("Stalled") is None
    assert model.metadata.uid == uid
    answered = _edit(scene, fault, fault.edit) if fault.edit is not None else None
    return Outcome(message, told, max((healed.seen_at - began).total_seconds(), 0.0), answered)


def _restore(scene: Scene, fault: Fault, restored: Callable[[Scene], bool]) -> Outcome:
    """Break what the operator makes anew by itself; return how long that took."""
    before, began = scene.servers(), now()
    fault.spoil(scene)
    until(lambda: restored(scene), what=f"{fault.title}: made anew", seconds=RESTORED_SECONDS)
    seconds = (now() - began).total_seconds()
    assert scene.servers() == before, "a serving pod was ended or restarted"
    assert scene.kube.model(NAME, scene.namespace).shown("Serving")[0] == "True"
    return Outcome("They are there again; the pods serve on.", seconds, seconds, None)


def _break(scene: Scene, fault: Fault) -> tuple[str, float, int]:
    """Bring the fault about; return the message that told it, after how many seconds, and where the watch was."""
    mark, applied = scene.mark(), now()
    fault.spoil(scene)
    if fault.start is None:
        applied = now()
    generation = scene.apply(fault.bad)

    def told(model: Model) -> bool:
        return model.metadata.generation == generation and model.shown("Ready") == ("False", fault.reason.value)

    what = f"Ready False with {fault.reason}"
    sighting = scene.wait(told, since=mark, what=what, seconds=PATIENCE_SECONDS)
    model = Model.model_validate(sighting.body)
    ready, stalled = model.condition("Ready"), model.condition("Stalled")
    assert ready is not None
    assert stalled is not None
    assert (stalled.reason, stalled.message) == (ready.reason, ready.message)
    step = fault.step or NEXT_STEP[fault.reason]
    assert step in ready.message, f"expected the next step {step!r} in {ready.message!r}"
    if fault.start is None:
        assert model.shown("Serving")[0] in ("False", "")
    recorded = fault.record.at(scene, applied)
    if fault.record is PULL:  # two watchers, either of which may be late
        recorded = min(recorded, sighting.seen_at)
    delay = sighting.seen_at - recorded
    assert -CLOCK_GRAIN <= delay <= SOON, f"told {delay.total_seconds():.1f} s after {fault.record.words}"
    return ready.message, max(delay.total_seconds(), 0.0), scene.after(sighting)


def wait_ready(scene: Scene, *, since: int, generation: int = 0) -> Sighting:
    """Wait until the model is Ready, as seen from `since` on, of `generation` or later."""

    def ready(model: Model) -> bool:
        return model.metadata.generation >= generation and model.shown("Ready")[0] == "True"

    return scene.wait(ready, since=since, what="Ready", seconds=PATIENCE_SECONDS)


@contextmanager
def served(scene: Scene) -> Iterator[Traffic]:
    """Ask the model, plainly and by streams, while the block runs."""
    with (
        endpoint_of(scene.kube, NAME, scene.namespace) as endpoint,
        traffic(endpoint, pause_seconds=PAUSE_SECONDS) as met,
    ):
        yield met


def _edit(scene: Scene, fault: Fault, edit: Wish) -> int:
    """Edit the serving model so that it can't work, and undo it; return how many requests were answered."""
    before = scene.servers()
    with served(scene) as met:
        mark = scene.mark()
        fault.spoil(scene)
        generation = scene.apply(edit)

        def told(model: Model) -> bool:
            shown = model.shown("Ready"), model.shown("Stalled")
            wanted = ("False", Reason.UPDATE_FAILED.value), ("True", fault.reason.value)
            return model.metadata.generation == generation and shown == wanted

        what = f"Ready False UpdateFailed and Stalled {fault.reason}"
        scene.wait(told, since=mark, what=what, seconds=PATIENCE_SECONDS)
        assert before <= scene.servers(), "the edit ended or restarted a serving pod"
        enough = met.answered + 2
        until(lambda: met.answered >= enough or met.failures, what="answers beside the broken edit", seconds=60)
        undone = scene.mark()
        generation = scene.apply(fault.good or fault.bad)
        wait_ready(scene, since=undone, generation=generation)
        fault.mend(scene)
        told_all = [Model.model_validate(item.body).shown("Serving")[0] for item in scene.models.sightings[mark:]]
    assert met.failures == []
    assert set(told_all) <= {"True", ""}, "Serving was told untruly"
    assert scene.servers() == before, "undoing the edit rolled or restarted pods"
    return met.answered + met.streamed
