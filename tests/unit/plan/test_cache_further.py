# SPDX-License-Identifier: Apache-2.0
"""Adapters and drafting model in the cache: folders of their own, filled and healed alone; servers never fetch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from nimblet import labels, names
from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import Reason
from nimblet.plan.artifact import Artifact
from nimblet.plan.cache import cache_folder
from nimblet.plan.facts import ContainerFailure, FailureKind, JobFacts, ModelFacts
from tests.builders import (
    NOW,
    SMOLLM2,
    SMOLLM2_FILE,
    SMOLLM2_URI,
    a_deployment,
    a_model,
    a_pod,
    a_secret,
    artifact_text,
    child,
    edited,
    kinds,
    plan_of,
    stored,
    stored_adapters,
    stored_draft,
    waiting_pod,
)
from tests.cached import FOLDER, RWX, a_claim, cached_facts, facts_of, filled
from tests.conditions import message, shown

FILE = "lora.gguf"
LEGAL: Mapping[str, Any] = {"name": "legal", "source": {"uri": "hf://team/lora"}}
DRAFT: Mapping[str, Any] = {"speculative": {"type": "Draft", "source": {"uri": "hf://acme/draft"}}}
BOTH: Mapping[str, Any] = {**RWX, "adapters": [dict(LEGAL)], "runtime": dict(DRAFT)}
DRAFT_TEXT = artifact_text(
    uri="hf://acme/draft",
    files=[{"path": "draft.gguf", "size": 51_000_000, "sha256": "d" * 64}],
    header={**SMOLLM2, "parameters": 70_000_000},
)
DRAFT_FOLDER = cache_folder(Artifact.model_validate_json(DRAFT_TEXT))


def lora(digest: str = "a" * 64, *, size: int = 4_001_000) -> dict[str, Any]:
    """Return what the resolver tells of an adapter of the model."""
    return {
        "version": 1,
        "uri": "hf://team/lora",
        "commit": "1" * 40,
        "files": [{"path": FILE, "size": size, "sha256": digest}],
        "digestSource": "Source",
        "format": "GGUF",
        "header": {
            "architecture": "llama",
            "parameters": 1_000_000,
            "tensorBytes": 4_000_000,
            "contextLength": 0,
            "embeddingLength": 0,
            "blockCount": 0,
            "adapter": {"rank": 8, "layers": 30, "embeddingLength": 576, "feedForwardLength": 1536},
        },
    }


def folder_of(found: Mapping[str, Any]) -> str:
    return cache_folder(Artifact.model_validate(found))


ADAPTER_FOLDER = folder_of(lora())


def fill_of(folder: str, attempt: int = 1, **overrides: Any) -> JobFacts:
    """Return a fill Job of a folder that ended well."""
    name = names.fill_job("smollm2", folder=folder, attempt=attempt)
    return filled(attempt, **{"name": name, "uid": f"uid-{folder[:4]}-{attempt}", "folder": folder, **overrides})


FILLS = (filled(), fill_of(ADAPTER_FOLDER), fill_of(DRAFT_FOLDER))


def resolved(model: CompactModel, adapter: Mapping[str, Any] | None = None, **facts: Any) -> ModelFacts:
    """Return facts where all sources are resolved and a claim is bound."""
    own = (stored(model), *stored_adapters(model, {"legal": adapter or lora()}))
    draft = (stored_draft(model, DRAFT_TEXT),) if model.spec.runtime.speculative is not None else ()
    return facts_of(model, **{"artifacts": (*own, *draft), "claim": a_claim(), **facts})


def running(model: CompactModel, **facts: Any) -> ModelFacts:
    """Return facts where every folder is filled and a pod answers."""
    found = resolved(model, **{"fills": FILLS, **facts})
    deployment = child(plan_of(model, found).children, "Deployment")
    revision = deployment["metadata"]["labels"][labels.REVISION]
    pod = a_pod(revision, cache_folder=FOLDER, further_folders=further(deployment))
    live = a_deployment(revision, cache_folder=FOLDER, further_folders=further(deployment))
    return replace(found, pods=(pod,), deployment=live)


def further(deployment: Mapping[str, Any]) -> dict[str, str]:
    return labels.checked_folders(deployment["spec"]["template"]["metadata"]["labels"])


def pod_of(model: CompactModel) -> dict[str, Any]:
    deployment = child(plan_of(model, resolved(model, fills=FILLS)).children, "Deployment")
    return dict(deployment["spec"]["template"]["spec"])


def filler(children: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """Return the pod of the one Job that is made."""
    return dict(child(children, "Job")["spec"]["template"]["spec"])


def arguments(children: Sequence[Mapping[str, object]]) -> list[str]:
    [container] = filler(children)["containers"]
    args: list[str] = container["args"]
    return args[args.index("--folder") :]


def answered(model: CompactModel) -> CompactModel:
    """Return the model with the status that a pass over `running` leaves."""
    return model.model_copy(update={"status": plan_of(model, running(model)).status})


def test_each_source_is_filled_by_a_job_of_its_own_one_after_the_other() -> None:
    model = a_model(**BOTH)
    done: tuple[JobFacts, ...] = ()
    for folder, prefix in ((FOLDER, ""), (ADAPTER_FOLDER, "Adapter legal: "), (DRAFT_FOLDER, "Drafting model: ")):
        plan = plan_of(model, resolved(model, fills=done))
        assert arguments(plan.children) == ["--folder", folder]
        assert message(plan, "Ready") == f"{prefix}Filling the cache smollm2-cache: begun."
        assert "Deployment" not in kinds(plan)
        done = (*done, fill_of(folder))
    plan = plan_of(model, resolved(model, fills=done))
    assert "Job" not in kinds(plan)
    assert "Deployment" in kinds(plan)
    assert plan.deletions == ()
    assert plan.status.cache is not None
    assert plan.status.cache.further_folders == sorted([ADAPTER_FOLDER, DRAFT_FOLDER])
    assert plan.status.cache.bytes == 98362432 + 4_001_000 + 51_000_000


def test_the_filler_of_an_adapter_has_its_source_and_its_credentials_alone() -> None:
    source = {"uri": "hf://team/lora", "credentialsSecretRef": {"name": "own"}}
    model = a_model(**RWX, adapters=[{**LEGAL, "source": source}])
    lacking = plan_of(model, resolved(model, fills=(filled(),)))
    assert shown(lacking, "Ready") == ("False", Reason.SECRET_MISSING)
    assert message(lacking, "Ready").startswith("Adapter legal: Secret own is not")

    plan = plan_of(model, resolved(model, fills=(filled(),), adapter_secrets={"own": a_secret(name="own")}))
    pod = filler(plan.children)
    volumes = {item["name"]: item for item in pod["volumes"]}
    assert set(volumes) == {"policy-legal", "credentials-legal", "artifact-legal", "models"}
    assert volumes["policy-legal"]["configMap"]["items"] == [{"key": "adapter-legal.json", "path": "policy.json"}]
    [container] = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert json.loads(container["env"][0]["value"])["adapter"] is True


def test_a_secret_that_goes_later_stops_no_new_pod() -> None:
    source = {"uri": "hf://team/lora", "credentialsSecretRef": {"name": "own"}}
    model = a_model(**RWX, adapters=[{**LEGAL, "source": source}])
    plan = plan_of(model, resolved(model, fills=(filled(), fill_of(ADAPTER_FOLDER))))
    assert "Deployment" in kinds(plan)


def test_the_pods_check_every_folder_and_fetch_nothing() -> None:
    pod = pod_of(a_model(**BOTH))
    assert {item["name"] for item in pod["volumes"]} == {
        "models",
        "artifact",
        "artifact-legal",
        "draft-artifact",
        "key",
        "tmp",
    }
    checks = {item["name"]: item for item in pod["initContainers"]}
    assert list(checks) == ["loader", "loader-legal", "drafter"]
    folders = {"loader": FOLDER, "loader-legal": ADAPTER_FOLDER, "drafter": DRAFT_FOLDER}
    for name, container in checks.items():
        assert container["args"][0] == "verify"
        assert container["args"][-2:] == ["--folder", folders[name]]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/etc/nimblet/artifact", "/models"}
        assert all(mount["readOnly"] for mount in container["volumeMounts"])
    [server] = pod["containers"]
    places = {item["mountPath"]: item for item in server["volumeMounts"] if item["name"] == "models"}
    assert set(places) == {"/models", "/adapters/legal", "/draft"}
    assert all(item["readOnly"] and "subPath" not in item for item in places.values())
    args = server["args"]
    assert args[args.index("--lora-scaled") + 1] == f"/adapters/legal/{ADAPTER_FOLDER}/{FILE}:0"
    assert args[args.index("--spec-draft-model") + 1] == f"/draft/{DRAFT_FOLDER}/draft.gguf"
    assert "ephemeral-storage" not in server["resources"]["requests"]


def test_no_pod_of_the_server_has_egress_once_none_fetches() -> None:
    model = a_model(**BOTH)
    facts = running(model)
    plan = plan_of(model, facts)
    assert shown(plan, "Ready") == ("True", "Ready")
    assert child(plan.children, "NetworkPolicy", "smollm2-model")["spec"]["egress"] == []
    older = replace(facts.pods[0], name="older", further_folders={}, adapters="LlamaCpp-x")
    rolling = plan_of(model, replace(facts, pods=(*facts.pods, older)))
    assert child(rolling.children, "NetworkPolicy", "smollm2-model")["spec"]["egress"] != []


def test_the_claim_is_made_for_all_of_it_once_all_is_known() -> None:
    model = a_model(**RWX, adapters=[dict(LEGAL)])
    waiting = plan_of(model, facts_of(model))
    assert "PersistentVolumeClaim" not in kinds(waiting)
    plan = plan_of(model, resolved(model, lora(size=900_000_000), claim=None))
    claim = child(plan.children, "PersistentVolumeClaim")
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"


def test_an_edited_adapter_is_filled_anew_and_nothing_else_is() -> None:
    before = answered(a_model(**RWX, adapters=[dict(LEGAL)]))
    facts = running(before, fills=(filled(), fill_of(ADAPTER_FOLDER)))
    before = before.model_copy(update={"status": plan_of(before, facts).status})
    model = edited(before, **RWX, adapters=[{**LEGAL, "source": {"uri": "hf://team/newer"}}])
    newer = lora("b" * 64)

    known = resolved(model, newer, fills=facts.fills, pods=facts.pods, deployment=facts.deployment)
    filling = plan_of(model, known)
    assert arguments(filling.children) == ["--folder", folder_of(newer), *kept(FOLDER, ADAPTER_FOLDER)]
    assert [ref.name for ref in filling.deletions if ref.kind == "Job"] == [facts.fills[1].name]
    assert "Deployment" not in kinds(filling)
    assert shown(filling, "Serving") == ("True", "Answering")

    ready = plan_of(model, replace(known, fills=(filled(), fill_of(folder_of(newer)))))
    assert further(child(ready.children, "Deployment")) == {"loader-legal": folder_of(newer)}
    cache = ready.status.cache
    assert cache is not None
    assert (cache.folder, cache.further_folders) == (FOLDER, [folder_of(newer)])
    assert (cache.previous_folder, cache.previous_further_folders) == ("", [ADAPTER_FOLDER])


def kept(*folders: str) -> list[str]:
    return [word for folder in sorted(folders) for word in ("--keep", folder)]


def test_what_is_filled_next_keeps_the_adapter_before() -> None:
    model = a_model(**RWX, adapters=[dict(LEGAL)])
    status = plan_of(model, resolved(model, fills=(filled(), fill_of(ADAPTER_FOLDER)))).status
    assert status.cache is not None
    older = status.cache.model_copy(update={"previous_further_folders": ["b" * 32]})
    model = model.model_copy(update={"status": status.model_copy(update={"cache": older})})
    plan = plan_of(model, resolved(model, fills=(filled(),)))
    assert arguments(plan.children) == ["--folder", ADAPTER_FOLDER, *kept(FOLDER, "b" * 32)]
    newer = plan_of(model, resolved(model, lora("c" * 64), fills=(filled(),)))
    assert arguments(newer.children) == ["--folder", folder_of(lora("c" * 64)), *kept(FOLDER, ADAPTER_FOLDER)]


def test_a_broken_adapter_leaves_the_folders_of_what_serves() -> None:
    before = answered(a_model(**BOTH))
    facts = running(before)
    model = edited(before, **{**BOTH, "adapters": [{**LEGAL, "source": {"uri": "hf://team/nothing"}}]})
    plan = plan_of(model, replace(facts, artifacts=(stored(model), stored_draft(model, DRAFT_TEXT))))
    assert not [ref for ref in plan.deletions if ref.kind == "Job" and "fill" in ref.name]
    assert child(plan.children, "Job")["metadata"]["name"].startswith("smollm2-resolve-")
    assert plan.status.cache == before.status.cache
    assert shown(plan, "Serving") == ("True", "Answering")


def test_a_poisoned_adapter_is_told_and_its_folder_alone_filled_anew() -> None:
    model = answered(a_model(**BOTH))
    facts = running(model)
    report = {"version": 1, "error": {"reason": "CacheCorrupted", "message": "Expected sha256 a; found b."}}
    failure = ContainerFailure(
        kind=FailureKind.LOADER,
        container="loader-legal",
        message=json.dumps(report),
        exit_code=56,
        at=NOW - timedelta(seconds=1),
    )
    pod = waiting_pod(
        facts.pods[0].revision,
        cache_folder=FOLDER,
        further_folders=facts.pods[0].further_folders,
        failure=failure,
    )
    plan = plan_of(model, replace(facts, pods=(pod,)))
    assert shown(plan, "Ready") == ("False", Reason.CACHE_CORRUPTED)
    assert shown(plan, "Verified") == ("False", Reason.CACHE_CORRUPTED)
    assert message(plan, "Ready").startswith("Adapter legal: Pod pod-1: Expected sha256 a; found b.")
    assert arguments(plan.children) == ["--folder", ADAPTER_FOLDER, *kept(FOLDER, DRAFT_FOLDER)]
    assert child(plan.children, "Job")["metadata"]["name"].endswith("-2")
    again = fill_of(ADAPTER_FOLDER, 2, finished_at=NOW - timedelta(seconds=0.5))
    healed = plan_of(model, replace(facts, pods=(pod,), fills=(*FILLS, again)))
    assert "Job" not in kinds(healed)
    assert [ref.name for ref in healed.deletions if ref.kind == "Job"] == [FILLS[1].name]


def test_equal_files_are_filled_once() -> None:
    own = {"speculative": {"type": "Draft", "source": {"uri": SMOLLM2_URI}}}
    model = a_model(**RWX, runtime=own)
    facts = facts_of(model, artifacts=(stored(model), stored_draft(model, artifact_text())), claim=a_claim())
    plan = plan_of(model, replace(facts, fills=(filled(),)))
    deployment = child(plan.children, "Deployment")
    assert further(deployment) == {"drafter": FOLDER}
    args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--spec-draft-model") + 1] == f"/draft/{FOLDER}/{SMOLLM2_FILE}"
    assert plan.status.cache is not None
    assert (plan.status.cache.further_folders, plan.status.cache.bytes) == (None, 98362432)


def test_a_model_without_further_sources_sees_nothing_of_them() -> None:
    model = a_model(**RWX)
    plan = plan_of(model, cached_facts(model))
    assert further(child(plan.children, "Deployment")) == {}
    assert plan.status.cache is not None
    assert plan.status.cache.further_folders is None
