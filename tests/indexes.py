# SPDX-License-Identifier: Apache-2.0
"""RetrievalIndexes and their facts as tests need them: a plain good case, and overrides by name."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from nimblet import labels
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.api.retrievalindex import RetrievalIndex, RetrievalIndexSpec
from nimblet.plan.facts import ClaimFacts
from nimblet.plan.indexfacts import (
    BuildFacts,
    GenerationFacts,
    IndexFacts,
    KeySet,
    NamedFacts,
    RetrieverFacts,
)
from nimblet.plan.modelfacts import ModelReference
from nimblet.plan.retrievalindex import IndexPlan, plan_retrievalindex
from nimblet.settings import Settings
from tests.builders import GIBIBYTE, NOW, SETTINGS, a_deployment, a_node, a_pod, child

KEYS: Final = KeySet(search="nk-search-1", build="nk-build-1", push="nk-push-1", operate="nk-operate-1")
NEW_KEYS: Final = KeySet(search="nk-search-2", build="nk-build-2", push="nk-push-2", operate="nk-operate-2")
MINILM: Final = ModelReference(
    name="minilm",
    found=True,
    serving=True,
    ready=True,
    reason="Answering",
    task="Embedding",
    url="http://minilm-model.team.svc/v1",
    served_name="minilm",
    key_secret="minilm-key",
    digest="d" * 32,
)
JUDGE: Final = replace(
    MINILM, name="judge", task="Rerank", url="http://judge-model.team.svc/v1", served_name="judge"
)
DOCS: Final[Mapping[str, object]] = {"name": "docs", "configMap": {"name": "handbook"}}
HANDBOOK: Final = NamedFacts(name="handbook", usable=True, keys=("a.md",), content_hash="content-1")
GOLDEN: Final = NamedFacts(name="golden", usable=True, keys=("golden.jsonl",), content_hash="golden-1")
GATE: Final[Mapping[str, object]] = {"goldenRef": {"name": "golden", "key": "golden.jsonl"}, "minRecall": 0.9}
EARLIER: Final = NOW - timedelta(minutes=10)


def an_index_spec(**overrides: object) -> RetrievalIndexSpec:
    """Return a spec; overrides replace whole top-level fields, in camelCase."""
    plain = {"embedding": {"modelRef": {"name": "minilm"}}, "sources": [DOCS]}
    return RetrievalIndexSpec.model_validate({**plain, **overrides})


def an_index(
    *, generation: int = 1, status: RetrievalIndexStatus | None = None, requested: str = "", **spec: object
) -> RetrievalIndex:
    """Return a RetrievalIndex in namespace `team`."""
    return RetrievalIndex(
        name="handbook",
        namespace="team",
        uid="uid-index",
        generation=generation,
        build_requested_at=requested,
        spec=an_index_spec(**spec),
        status=status or RetrievalIndexStatus(),
    )


def a_claim(**overrides: Any) -> ClaimFacts:
    claim = ClaimFacts(
        name="handbook-index",
        uid="uid-claim",
        phase="Bound",
        access_modes=("ReadWriteOnce",),
        storage_class="standard",
        requested="10Gi",
        capacity="10Gi",
    )
    return replace(claim, **overrides)


def a_generation(name: str = "g000001", **overrides: Any) -> GenerationFacts:
    found = GenerationFacts(name=name, embedding="e", sealed=True, documents=2, chunks=12, bytes=4096)
    return replace(found, **overrides)


def a_retriever(serving: str | None = "g000001", **overrides: Any) -> RetrieverFacts:
    """Return what a retriever tells that is in order."""
    generations = (a_generation(serving),) if serving is not None else ()
    return replace(RetrieverFacts(serving=serving, generations=generations), **overrides)


def first_facts(**overrides: Any) -> IndexFacts:
    """Return facts where all that the spec names is there, and nothing of ours."""
    facts = IndexFacts(
        nodes=(a_node(memory=8 * GIBIBYTE),),
        embedding=MINILM,
        reranker=JUDGE,
        config_maps={"handbook": HANDBOOK, "golden": GOLDEN},
        keys={1: KEYS, 2: NEW_KEYS},
    )
    return replace(facts, **overrides)


def index_plan(
    index: RetrievalIndex, facts: IndexFacts, *, settings: Settings = SETTINGS, now: datetime = NOW
) -> IndexPlan:
    return plan_retrievalindex(index, facts, settings, now)


def workload(plan: IndexPlan) -> dict[str, Any]:
    """Return the retriever's StatefulSet or Deployment."""
    named: list[Any] = [item for item in plan.children if item["kind"] in ("StatefulSet", "Deployment")]
    return next(item for item in named if item["metadata"]["name"] == "handbook-retriever")


def running_facts(index: RetrievalIndex, retriever: RetrieverFacts | None = None, **overrides: Any) -> IndexFacts:
    """Return facts where the retriever of this spec answers."""
    before = replace(first_facts(), claim=a_claim())
    revision = workload(index_plan(index, replace(before, **_kept(overrides))))["metadata"]["labels"][
        labels.REVISION
    ]
    told = retriever if retriever is not None else a_retriever(None)
    pod = a_pod(revision, "handbook-retriever-0")
    deployment = a_deployment(revision, name="handbook-retriever", uid="uid-set")
    return replace(before, deployment=deployment, pods=(pod,), retriever=told, **overrides)


def _kept(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides that the retriever's template depends on."""
    return {key: value for key, value in overrides.items() if key in ("embedding", "reranker", "secrets")}


def build_of(index: RetrievalIndex, **overrides: Any) -> BuildFacts:
    """Return the Job that the plan makes for an index whose retriever answers, as it runs."""
    made = job_of(index_plan(index, running_facts(index)))
    meta = made["metadata"]
    build = BuildFacts(
        name=meta["name"],
        uid=f"uid-{meta['name']}",
        generation=meta["labels"][labels.BUILD_GENERATION],
        inputs=meta["labels"][labels.BUILD_INPUTS],
        request=meta["annotations"].get(labels.BUILD_REQUESTED_AT, ""),
        attempt=int(meta["annotations"][labels.ATTEMPT]),
        credentials_hash=meta["annotations"][labels.CREDENTIALS_HASH],
        created_at=EARLIER,
    )
    return replace(build, **overrides)


def ended(build: BuildFacts, *, error: tuple[str, str] | None = None, **report: object) -> BuildFacts:
    """Return a build that ended a minute ago with a report; with `error`, its reason and message, it failed."""
    document: dict[str, object] = {
        "version": 1,
        "generation": build.generation,
        "documents": 2,
        "passages": 12,
        "sources": [{"name": "docs", "hash": "h1", "documents": 2}],
        **report,
    }
    if error is not None:
        document["error"] = {"reason": error[0], "message": error[1]}
    return replace(
        build,
        succeeded=error is None,
        failed=error is not None,
        finished_at=NOW - timedelta(minutes=1),
        exit_code=0 if error is None else 1,
        result=json.dumps(document),
    )


def job_of(plan: IndexPlan) -> dict[str, Any]:
    """Return the plan's one build Job."""
    return child(plan.children, "Job")


def jobs_of(plan: IndexPlan) -> list[str]:
    """Return the names of the Jobs that the plan applies."""
    found: list[Any] = [item for item in plan.children if item["kind"] == "Job"]
    return [item["metadata"]["name"] for item in found]


def config_of(plan: IndexPlan, name: str) -> dict[str, Any]:
    """Return a configuration file as it was rendered."""
    found: dict[str, Any] = json.loads(child(plan.children, "ConfigMap", name)["data"]["config.json"])
    return found


def built(index: RetrievalIndex, **overrides: Any) -> tuple[RetrievalIndex, IndexFacts]:
    """Return an index whose first build serves, with the status that a pass leaves, and the facts."""
    facts = running_facts(index, a_retriever("g000001"), builds=(ended(build_of(index)),), **overrides)
    status = index_plan(index, facts).status
    return index.model_copy(update={"status": status}), facts
