# SPDX-License-Identifier: Apache-2.0
"""A model with a cache as tests need it: its claim, its fill Jobs, its pods."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from nimblet import labels, names
from nimblet.api.compactmodel import CompactModel
from nimblet.plan.cache import cache_folder
from nimblet.plan.facts import (
    ClaimFacts,
    ContainerFailure,
    FailureKind,
    JobFacts,
    ModelFacts,
    PodFacts,
    StorageClassFacts,
)
from tests.builders import (
    NOW,
    a_deployment,
    a_pod,
    an_artifact,
    base_facts,
    child,
    plan_of,
    waiting_pod,
)

FOLDER: Final = cache_folder(an_artifact())
RWX: Final[dict[str, Any]] = {"cache": {"storageClassName": "shared"}}
RWO: Final[dict[str, Any]] = {"cache": {"accessMode": "ReadWriteOnce"}, "rollout": {"strategy": "Recreate"}}
SHARED: Final = StorageClassFacts(name="shared", expandable=True)
DEFAULT: Final = StorageClassFacts(name="standard", is_default=True, waits_for_pod=True)
CLASSES: Final = (SHARED, DEFAULT)


def a_claim(**overrides: Any) -> ClaimFacts:
    """Return the bound claim of a model with RWX."""
    claim = ClaimFacts(
        name="smollm2-cache",
        uid="uid-claim",
        phase="Bound",
        access_modes=("ReadWriteMany",),
        storage_class="shared",
        requested="1Gi",
        capacity="1Gi",
        created_at=NOW - timedelta(seconds=5),
    )
    return replace(claim, **overrides)


def a_fill(attempt: int = 1, **overrides: Any) -> JobFacts:
    """Return a running fill Job of the claim; its inputs are those of `a_claim` without a Secret."""
    job = JobFacts(
        name=names.fill_job("smollm2", folder=FOLDER, attempt=attempt),
        uid=f"uid-fill-{attempt}",
        source_hash="",
        credentials_hash=names.content_hash(["", "1Gi"]),
        attempt=attempt,
        folder=FOLDER,
        claim_uid="uid-claim",
        created_at=NOW - timedelta(seconds=5),
    )
    return replace(job, **overrides)


def filled(attempt: int = 1, **overrides: Any) -> JobFacts:
    ended = {"succeeded": True, "finished_at": NOW - timedelta(seconds=60), "exit_code": 0}
    return a_fill(attempt, **{**ended, **overrides})


def failed(reason: str, attempt: int = 1, **overrides: Any) -> JobFacts:
    result = json.dumps({"version": 1, "error": {"reason": reason, "message": f"The loader said {reason}."}})
    ended = {"failed": True, "finished_at": NOW - timedelta(seconds=1), "exit_code": 55, "result": result}
    return a_fill(attempt, **{**ended, **overrides})


def facts_of(model: CompactModel, **overrides: Any) -> ModelFacts:
    return base_facts(model, **{"storage_classes": CLASSES, **overrides})


def cached_facts(model: CompactModel, **overrides: Any) -> ModelFacts:
    """Return facts where the folder is filled."""
    return facts_of(model, **{"claim": a_claim(), "fills": (filled(),), **overrides})


def running_facts(model: CompactModel, **overrides: Any) -> ModelFacts:
    """Return facts where the folder is filled and a pod of it answers."""
    revision = revision_of_cached(model)
    pod = a_pod(revision, cache_folder=FOLDER)
    deployment = a_deployment(revision, cache_folder=FOLDER)
    return cached_facts(model, **{"pods": (pod,), "deployment": deployment, **overrides})


def revision_of_cached(model: CompactModel) -> str:
    deployment = child(plan_of(model, cached_facts(model)).children, "Deployment")
    return str(deployment["metadata"]["labels"][labels.REVISION])


def corrupted(model: CompactModel, *, seconds_ago: float = 1.0) -> PodFacts:
    """Return a pod whose check refused the folder."""
    report = {"version": 1, "error": {"reason": "CacheCorrupted", "message": "Expected sha256 a; found b."}}
    failure = ContainerFailure(
        kind=FailureKind.LOADER,
        container="loader",
        message=json.dumps(report),
        exit_code=56,
        at=NOW - timedelta(seconds=seconds_ago),
    )
    return waiting_pod(revision_of_cached(model), cache_folder=FOLDER, failure=failure)
