# SPDX-License-Identifier: Apache-2.0
"""Stage between sizing and running: with `spec.cache`, a claim whose folder a Job has filled. Pure.

The server's pods check every file themselves before they start; what they find wrong comes back here as a reason
to fill the folder anew. The model, each of its adapters and the model that drafts for it are a set of files each,
with a folder and a Job of their own: an edit of one fills none of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from nimblet import labels, names
from nimblet.api.cache import READ_WRITE_ONCE, Cache, CacheStatus
from nimblet.api.common import ConditionStatus
from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import ConditionType, Reason
from nimblet.manifests.cache import CLAIM, FILLER, CacheMount, FillJob, claim_manifest, fill_job_manifest
from nimblet.manifests.common import Manifest, Part
from nimblet.manifests.configuration import service_account_manifest
from nimblet.manifests.loader import LoaderPod
from nimblet.manifests.network import filler_policy_manifest
from nimblet.merging import find
from nimblet.plan.artifact import Artifact
from nimblet.plan.claim import binding, claim_problem, wanted_claim, wish_of
from nimblet.plan.facts import (
    ChildRef,
    ClaimFacts,
    DeploymentFacts,
    FailureKind,
    JobFacts,
    ModelFacts,
    PodFacts,
    SecretFacts,
)
from nimblet.plan.failure import loader_told
from nimblet.plan.further import Further, own_facts, said_of, together
from nimblet.plan.resolve import SUSPENDED, secret_problem
from nimblet.plan.stage import Problem, Progress, StageOutcome, problem
from nimblet.plan.tries import (
    LEAVING_SECONDS,
    Tries,
    job_refs,
    newest,
    plan_next,
    plan_tries,
    retry_delay,
    told_problem,
)
from nimblet.settings import Settings

FOLDER_LENGTH: Final = 32
"""Hex digits of a folder's name: 128 bits, since its content is the name's only claim."""

CLASS_LOOK_SECONDS: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """Outcome of the stage. Without `spec.cache` there is no mount and nothing to wait for."""

    outcome: StageOutcome = field(default_factory=StageOutcome)
    mount: CacheMount | None = None
    filled: bool = True
    status: CacheStatus | None = None
    download_percent: int | None = None
    """Progress of the filler while it runs."""


@dataclass(frozen=True, kw_only=True)
class _Load:
    """One set of files: the model's own, an adapter's or the drafting model's."""

    loader: LoaderPod
    artifact: Artifact
    secret: SecretFacts | None
    unusable: Problem | None
    """What is wrong with the Secret that its source names."""
    prefix: str = ""

    @property
    def folder(self) -> str:
        """Name of the folder that holds it."""
        return cache_folder(self.artifact)


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """What the parts of this stage look at."""

    model: CompactModel
    cache: Cache
    facts: ModelFacts
    settings: Settings
    loads: tuple[_Load, ...]
    """All that is known, in folders that differ; the model's own first."""
    complete: bool
    """Every source of the spec is resolved."""
    mount: CacheMount
    now: datetime

    @property
    def folders(self) -> frozenset[str]:
        """Names of the folders."""
        return frozenset(load.folder for load in self.loads)

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(load.artifact.total_bytes for load in self.loads)


def cache_folder(artifact: Artifact) -> str:
    """Return the name of the folder of an artifact's files: equal files, equal folder, wherever they come from."""
    files = sorted([file.path, file.size, file.sha256] for file in artifact.files)
    pinned = all(file.sha256 is not None for file in artifact.files)
    origin = [] if pinned else [artifact.uri, artifact.commit]
    return names.content_hash([files, origin], length=FOLDER_LENGTH)


def plan_cache(
    model: CompactModel,
    facts: ModelFacts,
    settings: Settings,
    *,
    loader: LoaderPod,
    artifact: Artifact | None,
    further: Sequence[Further] = (),
    now: datetime,
) -> CachePlan:
    """Return the claim, the Jobs that fill it, and whether the server's pods may use it.

    `loader` and `artifact` are the model's own; `further` are its adapters and its drafting model.
    """
    cache = model.spec.cache
    if cache is None:
        return CachePlan()
    if artifact is None:
        return CachePlan(filled=False, status=model.status.cache)
    mount = CacheMount(claim=names.claim(model.name), folder=cache_folder(artifact))
    stage = _Stage(
        model=model,
        cache=cache,
        facts=facts,
        settings=settings,
        loads=_loads(model, facts, settings, own=(loader, artifact), further=further),
        complete=all(item.artifact is not None for item in further),
        mount=mount,
        now=now,
    )
    outcome, filled = _plan(stage)
    return CachePlan(
        outcome=outcome,
        mount=mount,
        filled=filled,
        status=_status(stage, filled=filled),
        download_percent=min(
            (job.download_percent for job in facts.fills if job.download_percent is not None), default=None
        ),
    )


def leftovers(model: CompactModel, facts: ModelFacts) -> tuple[ChildRef, ...]:
    """Return what a removed cache leaves, once no pod uses it; a retained claim has no owner and stays."""
    if model.spec.cache is not None or any(pod.cache_folder for pod in facts.pods):
        return ()
    return tuple(child for child in facts.children if child.labels.get(labels.COMPONENT) in (CLAIM, FILLER))


def filler_children(
    model: CompactModel, settings: Settings, *, egress: Sequence[Manifest]
) -> tuple[Manifest, ...]:
    """Return identity and network of the pods that fill the cache."""
    if model.spec.cache is None:
        return ()
    part = Part(owner=model.name, namespace=model.namespace, component=FILLER)
    return (
        service_account_manifest(part, name=names.filler(model.name)),
        filler_policy_manifest(part, operator_namespace=settings.access.operator_namespace, egress=egress),
    )


def _loads(
    model: CompactModel,
    facts: ModelFacts,
    settings: Settings,
    *,
    own: tuple[LoaderPod, Artifact],
    further: Sequence[Further],
) -> tuple[_Load, ...]:
    """Return the sets of files that are known; equal ones share a folder and are filled once."""
    loader, artifact = own
    unusable = secret_problem(model, facts)
    mine = _Load(loader=loader, artifact=artifact, secret=facts.secret, unusable=unusable)
    found = {mine.folder: mine}
    for item in further:
        if item.artifact is not None:
            seen = own_facts(item, facts)
            load = _Load(
                loader=replace(item.loader, image=settings.images.loader),
                artifact=item.artifact,
                secret=seen.secret,
                unusable=secret_problem(item.view, seen),
                prefix=item.prefix,
            )
            found.setdefault(load.folder, load)
    return tuple(found.values())


def _plan(stage: _Stage) -> tuple[StageOutcome, bool]:
    """Return the claim and one Job: the folders are filled one after the other, so that no two hold the claim."""
    model, facts, claim = stage.model, stage.facts, stage.facts.claim
    blocked = claim_problem(wish_of(stage.cache), claim, facts.storage_classes)
    if blocked is not None:
        # No watch tells of a StorageClass that is made: look by the clock.
        look = CLASS_LOOK_SECONDS if blocked.reason is Reason.STORAGE_CLASS_MISSING else None
        return StageOutcome(state=blocked, requeue_after=look), False
    if claim is None and not stage.complete:
        return StageOutcome(), False  # not every class lets a claim grow: it is made for all that it will hold
    wanted = wanted_claim(stage.cache, facts, file_bytes=stage.total_bytes)
    part = Part(owner=model.name, namespace=model.namespace, component=CLAIM)
    child = claim_manifest(part, wanted, name=names.claim(model.name))
    if claim is None:
        making = Progress(reason=Reason.PROGRESSING, message=f"PersistentVolumeClaim {stage.mount.claim} is made.")
        return StageOutcome(children=(child,), state=making), False
    outcomes, filled = [StageOutcome(children=(child,), deletions=job_refs(_strays(stage)))], True
    # what a Job keeps was told to it when it was made: one that may be writing is alone
    at_work = {job.folder: job for job in facts.fills if not job.ended}
    unwanted = (job for folder, job in at_work.items() if folder not in stage.folders)
    if (leaving := next(unwanted, None)) is not None:
        found = f"Job {leaving.name} fills a folder of {claim.name} that is wanted no more: it ends first."
        waits = Progress(reason=Reason.PROGRESSING, message=found)
        return replace(outcomes[0], state=waits, requeue_after=LEAVING_SECONDS), False
    for load in sorted(stage.loads, key=lambda item: item.folder not in at_work):
        outcome, filled = _load(stage, load, claim)
        outcomes.append(outcome)
        if not filled:
            break
    return together(outcomes, outcomes[-1].state), filled and stage.complete


def _strays(stage: _Stage) -> list[JobFacts]:
    """Return the Jobs of folders that the spec wants no more; while it is not known which it wants, none."""
    return [job for job in stage.facts.fills if stage.complete and job.folder not in stage.folders]


def _load(stage: _Stage, load: _Load, claim: ClaimFacts) -> tuple[StageOutcome, bool]:
    """Return what becomes of one folder, and whether it is filled."""
    tries = _tries(stage, load, claim)
    job = tries.latest
    if job is None or not job.succeeded:
        outcome = _fill(stage, load, tries, claim)
    elif (bad := _corruption(stage, load, job)) is not None:
        wait = retry_delay(job.attempt - 1, stage.settings.timing) if job.attempt > 1 else 0.0
        outcome = plan_next(tries, job, bad, wait=wait, now=stage.now)
    else:
        return StageOutcome(deletions=job_refs(tries.jobs, but=job)), True
    return replace(outcome, state=said_of(load.prefix, outcome.state)), False


def _fill(stage: _Stage, load: _Load, tries: Tries, claim: ClaimFacts) -> StageOutcome:
    if stage.model.spec.suspend:
        return StageOutcome(state=Progress(reason=Reason.SUSPENDED, message=SUSPENDED))
    if load.unusable is not None:
        return StageOutcome(state=load.unusable)
    outcome = plan_tries(tries, stage.settings.timing, now=stage.now)
    unbound = binding(claim, tries.latest, stage.facts.storage_classes, now=stage.now)
    state = unbound if unbound is not None else _with_claim(outcome.state, claim)
    return replace(outcome, state=state)


def _tries(stage: _Stage, load: _Load, claim: ClaimFacts) -> Tries:
    model, folder = stage.model, load.folder
    secret = load.secret.content_hash if load.secret is not None else ""
    inputs = names.content_hash([secret, claim.capacity])  # more room is a reason to try at once
    mine = tuple(job for job in stage.facts.fills if job.folder == folder)
    job = newest(job for job in mine if job.claim_uid == claim.uid)
    percent = job.download_percent if job is not None else None
    done = f"{percent} %" if percent is not None else "begun"
    working = Progress(reason=Reason.DOWNLOADING, message=f"Filling the cache {claim.name}: {done}.")

    def make(attempt: int) -> Manifest:
        fill = FillJob(
            mount=replace(stage.mount, folder=folder),
            claim_uid=claim.uid,
            attempt=attempt,
            inputs_hash=inputs,
            keep=_keep(stage, folder),
            node=_node(stage),
        )
        return fill_job_manifest(load.loader, fill)

    told = told_problem(
        find(model.status.conditions, ConditionType.STALLED), bad=ConditionStatus.TRUE, generation=model.generation
    )
    return Tries(jobs=mine, latest=job, inputs_hash=inputs, make=make, working=working, told=told)


def _corruption(stage: _Stage, load: _Load, job: JobFacts) -> Problem | None:
    """Return what a pod found wrong in the folder since the Job filled it."""
    for pod in stage.facts.pods:
        failure = pod.failure
        if failure is None or _checked(pod, failure.container) != load.folder:
            continue
        told = loader_told(failure, pod=pod.name)
        if told is None or told.reason != Reason.CACHE_CORRUPTED:
            continue
        if failure.at is None or job.finished_at is None or failure.at >= job.finished_at:
            return problem(Reason.CACHE_CORRUPTED, f"Pod {pod.name}: {told.message}")
    return None


def _checked(pod: PodFacts, container: str) -> str:
    """Return the folder that a container of a pod checks."""
    return pod.further_folders.get(container, pod.cache_folder)


def _keep(stage: _Stage, folder: str) -> tuple[str, ...] | None:
    """Return the other folders in use and those before; None while the status does not know which these are."""
    facts, before = stage.facts, stage.model.status.cache
    if before is None or not before.folder:
        return None
    folders = {before.folder, *(before.further_folders or ()), *stage.folders}
    templates: list[PodFacts | DeploymentFacts] = [*facts.pods]
    if facts.deployment is not None:
        templates.append(facts.deployment)
    for template in templates:
        folders |= {template.cache_folder, *template.further_folders.values()}
    if not stage.complete:  # no stray Job goes yet: what one tells of as filled has to stay so
        folders.update(job.folder for job in facts.fills)
    if before.folder == stage.mount.folder:
        folders.add(before.previous_folder)
    if before.further_folders == _further(stage):
        folders.update(before.previous_further_folders or ())
    return tuple(sorted(folders - {folder, ""})) or None


def _further(stage: _Stage) -> list[str] | None:
    """Return the folders beside the model's own, as the status tells them."""
    return sorted(stage.folders - {stage.mount.folder}) or None


def _node(stage: _Stage) -> str | None:
    """Return the node whose pods hold a ReadWriteOnce claim: no other node can mount it beside them."""
    if stage.cache.access_mode != READ_WRITE_ONCE:
        return None
    holders = sorted(pod.node for pod in stage.facts.pods if pod.node and pod.cache_folder and _lives(pod))
    return holders[0] if holders else None


def _lives(pod: PodFacts) -> bool:
    return pod.failure is None or pod.failure.kind not in (FailureKind.EVICTED, FailureKind.REFUSED)


def _with_claim(state: Problem | Progress | None, claim: ClaimFacts) -> Problem | Progress | None:
    """Name the claim where its volume is full: the loader knows no names of the cluster."""
    if not isinstance(state, Problem) or state.reason is not Reason.DISK_FULL or claim.name in state.message:
        return state
    size = claim.capacity or claim.requested
    found = f"{state.message} The volume is that of PersistentVolumeClaim {claim.name} ({size}): raise cache.size."
    return Problem(reason=state.reason, message=found)


def _status(stage: _Stage, *, filled: bool) -> CacheStatus:
    before = stage.model.status.cache or CacheStatus()
    if not filled:
        return before.model_copy(update={"claim": stage.mount.claim})
    moved = before.folder not in ("", stage.mount.folder)
    further, gone = _further(stage), before.previous_further_folders
    if further != before.further_folders:
        gone = sorted(set(before.further_folders or ()) - stage.folders) or None
    return CacheStatus(
        claim=stage.mount.claim,
        folder=stage.mount.folder,
        previous_folder=before.folder if moved else before.previous_folder,
        further_folders=further,
        previous_further_folders=gone,
        bytes=stage.total_bytes,
    )
