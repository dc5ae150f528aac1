# SPDX-License-Identifier: Apache-2.0
"""Builds of an index: when one is wanted, which Job does it, when it is tried again. Pure.

One Job is one try, named by what it is for and its number. What it was for stands on the Job, and of the last
good build in the status, so that a crash between any two writes makes no second build.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nimblet import labels, names
from nimblet.api.common import ConditionStatus
from nimblet.api.indexstatus import BuildStatus
from nimblet.api.indexstore import Dedicated
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import ConditionType, Reason
from nimblet.manifests.common import Manifest
from nimblet.manifests.indexer import COMPONENT as INDEXER
from nimblet.manifests.indexer import BuildJob, build_job_manifest
from nimblet.manifests.retriever import config_manifest, retriever_part
from nimblet.merging import find
from nimblet.plan.facts import ChildRef
from nimblet.plan.failure import failure_problem
from nimblet.plan.index_config import Build, build_terms, build_volumes, credentials_of, indexer_config
from nimblet.plan.index_report import LASTING, Report, build_failure, report_of
from nimblet.plan.indexfacts import BuildFacts, IndexFacts
from nimblet.plan.schedule import last_due, next_due
from nimblet.plan.stage import Problem, Progress, StageOutcome
from nimblet.plan.tries import retry_delay, told_problem
from nimblet.settings import Settings

DEFAULT_CPU: Final = "250m"
DEFAULT_MEMORY: Final = "2Gi"
MAX_REQUEST: Final = 64
TOLD_SECONDS: Final = 15
"""How long after a build's end a retriever is asked that may not know of it: two machines' clocks differ."""
BUILD: Final = "build"
"""Component of a build's ConfigMap."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the current spec asks of a build."""

    inputs: str
    request: str
    circumstances: str
    """What lets a failed build try again at once where it changes: Secrets, bounds, room."""


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Outcome of the stage. `state` is about the build that is wanted; None: nothing is."""

    outcome: StageOutcome
    done: BuildStatus | None
    """The last build that ended well."""
    report: Report | None = None
    """Of that build, as long as its Job is there."""
    failed: Report | None = None
    """Of the latest build, where it failed."""
    current: bool = False
    """The last good build is of the current inputs."""
    running: BuildFacts | None = None


def wanted_build(index: RetrievalIndex, facts: IndexFacts, *, fingerprint: str, servers: int = 1) -> Wanted:
    """Return what a build must be for. `servers`: the set of a Dedicated store that it goes to."""
    spec = index.spec
    gate = spec.quality_gate
    mapped = [source.config_map.name for source in spec.sources if source.config_map is not None]
    named = [*mapped, *([gate.golden_ref.name] if gate is not None else [])]
    contents = {name: facts.config_maps[name].content_hash for name in named if name in facts.config_maps}
    inputs: dict[str, object] = {
        "sources": [
            source.model_dump(mode="json", by_alias=True, exclude_defaults=True) for source in spec.sources
        ],
        "chunking": spec.chunking.model_dump(mode="json", by_alias=True),
        "language": spec.search.language,
        "embedding": fingerprint,
        "gate": gate.model_dump(mode="json", by_alias=True, exclude_none=True) if gate is not None else None,
        "contents": contents,
    }
    if spec.store.type == "Dedicated":
        layout = _layout(spec.store.dedicated or Dedicated())
        inputs["servers"] = layout if servers == 1 else {**layout, "set": servers}
    secrets = [facts.secrets[name] for name in _secret_names(index) if name in facts.secrets]
    room = facts.claim.capacity if facts.claim is not None else ""
    circumstances = [[item.content_hash, list(item.hosts)] for item in secrets]
    return Wanted(
        inputs=names.content_hash(inputs),
        request=request_of(index),
        circumstances=names.content_hash([circumstances, spec.max_shrink_percent, room]),
    )


def _layout(dedicated: Dedicated) -> dict[str, object]:
    """Return how a generation lies on its servers: another way means building it again."""
    kept: dict[str, object] = dedicated.model_dump(mode="json", by_alias=True, exclude={"passages", "snapshots"})
    return kept


def request_of(index: RetrievalIndex) -> str:
    """Return the request for a build; any text will do, and one that is no good to read becomes its hash."""
    text = index.build_requested_at
    return text if len(text) <= MAX_REQUEST and text.isprintable() else names.content_hash(text)


def _secret_names(index: RetrievalIndex) -> list[str]:
    return sorted({name for source in index.spec.sources if (name := credentials_of(source)) is not None})


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the parts of this stage look at. `ready`: a retriever answers that can take a build."""

    index: RetrievalIndex
    facts: IndexFacts
    settings: Settings
    wanted: Wanted
    now: datetime
    blocked: Problem | Progress | None
    """Why no build can begin now."""


def plan_build(stage: Stage) -> BuildPlan:
    """Return the build to run, a look at the one that runs, or how the last one ended."""
    job = _latest_known(stage)
    empty = _empty_for(stage, job)
    lost = empty is not None and empty > TOLD_SECONDS
    done, report = _last_good(stage, job) if not lost else (None, None)
    current = done is not None and done.inputs == stage.wanted.inputs
    outcome = _outcome(stage, job, done)
    # that a store stays empty is no news: nothing but time brings the pass in which it counts
    certain = TOLD_SECONDS + 1.0 - empty if empty is not None and not lost else None
    waits = (outcome.requeue_after, _until_due(stage), certain)
    requeue = min((wait for wait in waits if wait is not None), default=None)
    return BuildPlan(
        outcome=StageOutcome(
            children=outcome.children,
            deletions=_leftovers(stage, job, outcome, ends=job is not None and _must_end(stage, job, done)),
            state=outcome.state,
            requeue_after=requeue,
        ),
        done=done,
        report=report,
        failed=report_of(job) if job is not None and job.failed else None,
        current=current,
        running=job if job is not None and not job.ended and not _superseded(stage, job) else None,
    )


def _latest_known(stage: Stage) -> BuildFacts | None:
    """Return the latest build's Job, unless the status remembers a later build.

    What is seen of Jobs may be older than the status: no build of now is in it then.
    """
    job, done = latest(stage.facts.builds), stage.index.status.build
    return None if job is not None and done is not None and done.generation > job.generation else job


def latest(builds: Iterable[BuildFacts]) -> BuildFacts | None:
    """Return the newest try of the newest generation."""
    return max(builds, key=lambda build: (build.generation, build.attempt), default=None)


def _last_good(stage: Stage, job: BuildFacts | None) -> tuple[BuildStatus | None, Report | None]:
    """Return the last build that ended well: the latest Job's, or the one that the status remembers."""
    stored = stage.index.status.build
    if job is None or not job.succeeded:
        return stored, None
    found = BuildStatus(
        generation=job.generation,
        inputs=job.inputs,
        request=job.request,
        started_at=job.created_at,
        finished_at=job.finished_at,
    )
    return found, report_of(job)


def _empty_for(stage: Stage, job: BuildFacts | None) -> float | None:
    """Return how long after the end of a good build the store was told to be empty; None where it was not.

    Its volume or its server was replaced, unless that was told before the build's end, or some seconds after.
    """
    told, stored = stage.facts.retriever, stage.index.status.build
    ended = job.finished_at if job is not None else (stored.finished_at if stored is not None else None)
    if told is None or not told.store.ok or told.generations or ended is None:
        return None
    return (stage.now - ended).total_seconds() - told.age


def _outcome(stage: Stage, job: BuildFacts | None, done: BuildStatus | None) -> StageOutcome:
    if job is not None and not job.ended and not _superseded(stage, job):
        return StageOutcome(state=_under_way(stage, job))
    if not _is_wanted(stage, done):
        return StageOutcome()
    if stage.blocked is not None:
        return StageOutcome(state=stage.blocked)
    if job is None or not job.failed or _changed(stage, job):
        return _begin(stage, job, state=None)
    return _again(stage, job)


def _again(stage: Stage, job: BuildFacts) -> StageOutcome:
    """Return the try after a failed one, once it is time and where it can help."""
    failed = build_failure(job)
    if failed.reason in LASTING:
        return StageOutcome(state=failed)
    due = (job.finished_at or stage.now) + timedelta(seconds=retry_delay(job.attempt, stage.settings.timing))
    if stage.now >= due:
        return _begin(stage, job, state=failed)
    return StageOutcome(state=failed, requeue_after=(due - stage.now).total_seconds())


def _superseded(stage: Stage, job: BuildFacts) -> bool:
    """Tell whether what a running build reads, or does at its end, is no longer what the spec says."""
    return job.inputs != stage.wanted.inputs or _defies_pin(stage, job)


def _defies_pin(stage: Stage, job: BuildFacts) -> bool:
    """Tell whether a build was begun before the index was pinned: it would swap, and drop older ones."""
    return job.swaps and stage.index.spec.generation is not None


def _must_end(stage: Stage, job: BuildFacts, done: BuildStatus | None) -> bool:
    """Tell whether a running build may not come to its swap, also where none can take its place.

    One of an older spec may while nothing of the current one was built: a broken edit ends no build.
    """
    if job.ended or stage.index.spec.suspend or not _superseded(stage, job):
        return False
    return _defies_pin(stage, job) or (done is not None and done.inputs == stage.wanted.inputs)


def _changed(stage: Stage, job: BuildFacts) -> bool:
    """Tell whether a failed build has a reason to be tried again at once."""
    wanted = stage.wanted
    before = (job.inputs, job.request, job.credentials_hash)
    return before != (wanted.inputs, wanted.request, wanted.circumstances) or _due_since(stage, job.created_at)


def _is_wanted(stage: Stage, done: BuildStatus | None) -> bool:
    if stage.index.spec.suspend:
        return False
    if done is None or done.inputs != stage.wanted.inputs:
        return True
    asked = bool(stage.wanted.request) and stage.wanted.request != done.request
    return asked or _due_since(stage, done.started_at)


def _due_since(stage: Stage, moment: datetime | None) -> bool:
    """Tell whether the schedule was due after a build began."""
    schedule = stage.index.spec.schedule
    return schedule is not None and moment is not None and last_due(schedule, stage.now) > moment


def _until_due(stage: Stage) -> float | None:
    schedule = stage.index.spec.schedule
    if schedule is None or stage.index.spec.suspend:
        return None
    return (next_due(schedule, stage.now) - stage.now).total_seconds()


def _under_way(stage: Stage, job: BuildFacts) -> Problem | Progress:
    """Return how a build stands; a failure stays in view while it is retried."""
    if job.failure is not None:
        return failure_problem(job.failure, pod=job.name)
    told = _told(stage.index) if job.attempt > 1 else None
    if told is not None:
        return told
    percent = f"{job.percent // 10 * 10} %" if job.percent is not None else "begun"
    return Progress(reason=Reason.BUILDING, message=f"Generation {job.generation} is being built: {percent}.")


def _told(index: RetrievalIndex) -> Problem | None:
    """Return the failure that the stored status tells of this spec's build."""
    stored = find(index.status.conditions, ConditionType.INDEXED)
    return told_problem(stored, bad=ConditionStatus.FALSE, generation=index.generation)


def _begin(stage: Stage, job: BuildFacts | None, *, state: Problem | None) -> StageOutcome:
    """Return the next try; the same generation goes on where the same work was cut off before it was complete."""
    generation, attempt = _next_generation(stage), 1
    if job is not None and job.failed and job.inputs == stage.wanted.inputs and not _is_sealed(stage, job):
        generation, attempt = job.generation, job.attempt + 1
    making = Progress(reason=Reason.BUILDING, message=f"Generation {generation} is being built.")
    return StageOutcome(
        children=_children(stage, generation=generation, attempt=attempt),
        state=state or making,
    )


def _is_sealed(stage: Stage, job: BuildFacts) -> bool:
    known = stage.facts.retriever.generation(job.generation) if stage.facts.retriever is not None else None
    return known is not None and known.sealed


def _next_generation(stage: Stage) -> str:
    """Return a name that no generation has had, as far as anybody remembers."""
    status, facts = stage.index.status, stage.facts
    known = [status.serving_generation, status.building_generation]
    known += [item.name for item in status.generations]
    known += [build.generation for build in facts.builds]
    if status.build is not None:
        known.append(status.build.generation)
    if facts.retriever is not None:
        known += [item.name for item in facts.retriever.generations]
    numbers = [int(name[1:]) for name in known if name[:1] == "g" and name[1:].isdecimal()]
    return f"g{max(numbers, default=0) + 1:06d}"


def _children(stage: Stage, *, generation: str, attempt: int) -> tuple[Manifest, ...]:
    index, wanted, resources = stage.index, stage.wanted, stage.index.spec.resources.indexer
    build = Build(generation=generation, serve=index.spec.generation is None)
    # all that it is told: a ConfigMap that a try left before its Job was made can't be changed. But nothing that
    # is only observed, as the claim's room: a Job that is not seen yet, after a crash, must be met by its name
    terms = build_terms(index, stage.facts, stage.settings, build)
    hashed = names.content_hash([wanted.inputs, wanted.request, stage.settings.tls.mode, terms])
    name = names.build(index.name, build_hash=hashed, attempt=attempt)
    token = names.content_hash([index.uid, generation, name])
    text = indexer_config(index, stage.facts, stage.settings, terms=terms, token=token)
    config = config_manifest(
        retriever_part(index.name, index.namespace, BUILD),
        name=name,
        text=text,
        more_labels={labels.BUILD_GENERATION: generation},
        immutable=True,
    )
    job = BuildJob(
        part=retriever_part(index.name, index.namespace, INDEXER),
        name=name,
        generation=generation,
        inputs=wanted.inputs,
        request=wanted.request,
        attempt=attempt,
        credentials_hash=wanted.circumstances,
        image=stage.settings.images.indexer,
        pull_policy=stage.settings.images.pull_policy,
        memory=resources.memory or DEFAULT_MEMORY,
        cpu=resources.cpu or DEFAULT_CPU,
        volumes=build_volumes(index),
        scheduling=index.spec.scheduling,
        swaps=build.serve,
    )
    # one that a try left can't be changed, and tells the same but for the counts of its time
    left = any(child.kind == "ConfigMap" and child.name == name for child in stage.facts.children)
    return (build_job_manifest(job),) if left else (config, build_job_manifest(job))


def _leftovers(stage: Stage, job: BuildFacts | None, outcome: StageOutcome, *, ends: bool) -> tuple[ChildRef, ...]:
    """Return the ConfigMaps and Jobs of older builds; those of the latest tell how it ended, unless it `ends`.

    A ConfigMap goes before its Job, so that none is left over after a crash, and without a Job only where a later
    build is known: what is seen of Jobs may be older than what is seen of ConfigMaps.
    """
    latest_name, latest_generation = (job.name, job.generation) if job is not None else ("", "")
    name = _made(outcome) or ("" if ends else latest_name)
    old = [build for build in stage.facts.builds if build.name != name]
    ended = {build.name for build in old}
    configs = (
        child
        for child in stage.facts.children
        if child.kind == "ConfigMap" and child.labels.get(labels.COMPONENT) == BUILD and child.name != name
        if child.name in ended or child.labels.get(labels.BUILD_GENERATION, "") < latest_generation
    )
    return (*configs, *(ChildRef(kind="Job", name=item.name, uid=item.uid) for item in old))


def _made(outcome: StageOutcome) -> str | None:
    """Return the name of the Job that is made now."""
    for child in outcome.children:
        metadata = child["metadata"]
        if child["kind"] == "Job" and isinstance(metadata, dict):
            return str(metadata["name"])
    return None
