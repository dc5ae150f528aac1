# SPDX-License-Identifier: Apache-2.0
"""Stage between sizing and running: with `spec.cache`, a claim whose folder a Job has filled. Pure.

The server's pods check every file themselves before they start; what they find wrong comes back here as a reason
to fill the folder anew.
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
from nimblet.plan.facts import ChildRef, ClaimFacts, FailureKind, JobFacts, ModelFacts, PodFacts
from nimblet.plan.failure import loader_told
from nimblet.plan.resolve import SUSPENDED, secret_problem
from nimblet.plan.stage import Problem, Progress, StageOutcome, problem
from nimblet.plan.tries import Tries, job_refs, newest, plan_next, plan_tries, retry_delay, told_problem
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
class _Stage:
    """What the parts of this stage look at."""

    model: CompactModel
    cache: Cache
    facts: ModelFacts
    settings: Settings
    loader: LoaderPod
    artifact: Artifact
    mount: CacheMount
    now: datetime


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
    now: datetime,
) -> CachePlan:
    """Return the claim, the Job that fills it, and whether the server's pods may use it."""
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
        loader=loader,
        artifact=artifact,
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


def _plan(stage: _Stage) -> tuple[StageOutcome, bool]:
    model, facts, claim = stage.model, stage.facts, stage.facts.claim
    blocked = claim_problem(wish_of(stage.cache), claim, facts.storage_classes)
    if blocked is not None:
        # No watch tells of a StorageClass that is made: look by the clock.
        look = CLASS_LOOK_SECONDS if blocked.reason is Reason.STORAGE_CLASS_MISSING else None
        return StageOutcome(state=blocked, requeue_after=look), False
    wanted = wanted_claim(stage.cache, facts, file_bytes=stage.artifact.total_bytes)
    part = Part(owner=model.name, namespace=model.namespace, component=CLAIM)
    child = claim_manifest(part, wanted, name=names.claim(model.name))
    if claim is None:
        making = Progress(reason=Reason.PROGRESSING, message=f"PersistentVolumeClaim {stage.mount.claim} is made.")
        return StageOutcome(children=(child,), state=making), False
    tries = _tries(stage, claim)
    job = tries.latest
    if job is not None and job.succeeded and (bad := _corruption(stage, job)) is not None:
        wait = retry_delay(job.attempt - 1, stage.settings.timing) if job.attempt > 1 else 0.0
        outcome, filled = plan_next(tries, job, bad, wait=wait, now=stage.now), False
    elif job is not None and job.succeeded:
        outcome, filled = StageOutcome(deletions=job_refs(facts.fills, but=job)), True
    else:
        outcome, filled = _fill(stage, tries, claim), False
    return replace(outcome, children=(child, *outcome.children)), filled


def _fill(stage: _Stage, tries: Tries, claim: ClaimFacts) -> StageOutcome:
    if stage.model.spec.suspend:
        return StageOutcome(state=Progress(reason=Reason.SUSPENDED, message=SUSPENDED))
    blocked = secret_problem(stage.model, stage.facts)
    if blocked is not None:
        return StageOutcome(state=blocked)
    outcome = plan_tries(tries, stage.settings.timing, now=stage.now)
    unbound = binding(claim, tries.latest, stage.facts.storage_classes, now=stage.now)
    state = unbound if unbound is not None else _with_claim(outcome.state, claim)
    return replace(outcome, state=state)


def _tries(stage: _Stage, claim: ClaimFacts) -> Tries:
    model, facts, folder = stage.model, stage.facts, stage.mount.folder
    secret = facts.secret.content_hash if facts.secret is not None else ""
    inputs = names.content_hash([secret, claim.capacity])  # more room is a reason to try at once
    mine = (job for job in facts.fills if job.folder == folder and job.claim_uid == claim.uid)
    job = newest(mine)
    percent = job.download_percent if job is not None else None
    done = f"{percent} %" if percent is not None else "begun"
    working = Progress(reason=Reason.DOWNLOADING, message=f"Filling the cache {claim.name}: {done}.")

    def make(attempt: int) -> Manifest:
        fill = FillJob(
            mount=stage.mount,
            claim_uid=claim.uid,
            attempt=attempt,
            inputs_hash=inputs,
            keep=_keep(stage),
            node=_node(stage),
        )
        return fill_job_manifest(stage.loader, fill)

    told = told_problem(
        find(model.status.conditions, ConditionType.STALLED), bad=ConditionStatus.TRUE, generation=model.generation
    )
    return Tries(jobs=facts.fills, latest=job, inputs_hash=inputs, make=make, working=working, told=told)


def _corruption(stage: _Stage, job: JobFacts) -> Problem | None:
    """Return what a pod found wrong in the folder since the Job filled it."""
    for pod in stage.facts.pods:
        failure = pod.failure
        if pod.cache_folder != stage.mount.folder or failure is None:
            continue
        told = loader_told(failure, pod=pod.name)
        if told is None or told.reason != Reason.CACHE_CORRUPTED:
            continue
        if failure.at is None or job.finished_at is None or failure.at >= job.finished_at:
            return problem(Reason.CACHE_CORRUPTED, f"Pod {pod.name}: {told.message}")
    return None


def _keep(stage: _Stage) -> tuple[str, ...] | None:
    """Return the other folders in use and the one before; None while the status does not know which that is."""
    facts, before = stage.facts, stage.model.status.cache
    if before is None or not before.folder:
        return None
    folders = {before.folder, *(pod.cache_folder for pod in facts.pods)}
    if facts.deployment is not None:
        folders.add(facts.deployment.cache_folder)
    if before.folder == stage.mount.folder:
        folders.add(before.previous_folder)
    return tuple(sorted(folders - {stage.mount.folder, ""})) or None


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
    return CacheStatus(
        claim=stage.mount.claim,
        folder=stage.mount.folder,
        previous_folder=before.folder if moved else before.previous_folder,
        bytes=stage.artifact.total_bytes,
    )
