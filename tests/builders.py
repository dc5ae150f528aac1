# SPDX-License-Identifier: Apache-2.0
"""CompactModels, facts and artifacts as tests need them: a plain good case, and overrides by name.

Headers are those of the real files that e2e/models.py pins.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from nimblet import labels, names
from nimblet.api.compactmodel import CompactModel, CompactModelSpec, CompactModelStatus
from nimblet.plan.adapters import wanted_sources
from nimblet.plan.artifact import Artifact, Header, parse_artifact
from nimblet.plan.compactmodel import plan_compactmodel
from nimblet.plan.facts import (
    Answer,
    ArtifactFacts,
    ContainerFailure,
    DeploymentFacts,
    FailureKind,
    JobFacts,
    ModelFacts,
    NodeFacts,
    Observation,
    PodFacts,
    SecretFacts,
    TrustTextFacts,
)
from nimblet.plan.integrity import known_trust
from nimblet.plan.result import Plan
from nimblet.plan.runtime.interface import Serve
from nimblet.plan.source import source_hash
from nimblet.settings import Settings

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SETTINGS: Final = Settings()
Texts = Mapping[str, TrustTextFacts]
NO_TEXTS: Final[Texts] = {}
GIBIBYTE: Final = 2**30
API_KEY: Final = "nk-0123456789abcdef"
COMMIT: Final = "1" * 40
DIGEST: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_URI: Final = "hf://HuggingFaceTB/SmolLM2-135M-Instruct-GGUF"

SMOLLM2: Final[Mapping[str, object]] = {
    "architecture": "llama",
    "parameters": 134515008,
    "tensorBytes": 96576768,
    "tokenEmbeddingBytes": 30081024,
    "outputTied": True,
    "contextLength": 8192,
    "embeddingLength": 576,
    "feedForwardLength": 1536,
    "blockCount": 30,
    "headCount": 9,
    "headCountKv": 3,
    "keyLength": 64,
    "valueLength": 64,
    "vocabSize": 49152,
    "mergeCount": 48900,
    "chatTemplate": True,
}
GEMMA3_270M: Final[Mapping[str, object]] = {
    "architecture": "gemma3",
    "parameters": 268098176,
    "tensorBytes": 246587904,
    "tokenEmbeddingBytes": 178257920,
    "outputTied": True,
    "contextLength": 32768,
    "embeddingLength": 640,
    "feedForwardLength": 2048,
    "blockCount": 18,
    "headCount": 4,
    "headCountKv": 1,
    "keyLength": 256,
    "valueLength": 256,
    "slidingWindow": 512,
    "vocabSize": 262144,
    "mergeCount": 0,
    "chatTemplate": False,
}


MINILM: Final[Mapping[str, object]] = {
    "architecture": "bert",
    "parameters": 22565376,
    "tensorBytes": 45586944,
    "outputTied": True,
    "contextLength": 512,
    "embeddingLength": 384,
    "feedForwardLength": 1536,
    "blockCount": 6,
    "headCount": 12,
    "headCountKv": 12,
    "keyLength": 32,
    "valueLength": 32,
    "vocabSize": 30522,
    "mergeCount": 0,
    "poolingType": 1,
    "causalAttention": False,
    "chatTemplate": False,
}
RERANKER: Final[Mapping[str, object]] = {**MINILM, "poolingType": 4, "classifier": True}
CLASSIFIER: Final[Mapping[str, object]] = {
    **RERANKER,
    "classifierOutputs": 3,
    "classifierLabels": ["sport", "money", "weather"],
}


def a_header(base: Mapping[str, object] = SMOLLM2, **overrides: object) -> Header:
    """Return a header; overrides are in the camelCase of the wire."""
    return Header.model_validate({**base, **overrides})


def artifact_text(*, header: Mapping[str, object] = SMOLLM2, **overrides: object) -> str:
    """Return a resolver's result as it lies in the ConfigMap."""
    document: dict[str, object] = {
        "version": 1,
        "uri": SMOLLM2_URI,
        "commit": COMMIT,
        "files": [{"path": SMOLLM2_FILE, "size": 98362432, "sha256": DIGEST}],
        "digestSource": "Source",
        "format": "GGUF",
        "header": dict(header),
    }
    return json.dumps({**document, **overrides}, sort_keys=True, separators=(",", ":"))


def an_artifact(**overrides: Any) -> Artifact:
    """Return the parsed artifact of `artifact_text`."""
    parsed = parse_artifact(artifact_text(**overrides))
    if parsed is None:
        raise ValueError(f"expected overrides that give a valid artifact, found {overrides}")
    return parsed


def a_spec(**overrides: object) -> CompactModelSpec:
    """Return a spec; overrides replace whole top-level fields, in camelCase."""
    return CompactModelSpec.model_validate({"source": {"uri": SMOLLM2_URI}, **overrides})


def a_model(
    *, name: str = "smollm2", generation: int = 1, status: CompactModelStatus | None = None, **spec: object
) -> CompactModel:
    """Return a CompactModel in namespace `team`."""
    return CompactModel(
        name=name,
        namespace="team",
        uid="uid-1",
        generation=generation,
        spec=a_spec(**spec),
        status=status or CompactModelStatus(),
    )


def hash_of(model: CompactModel, settings: Settings = SETTINGS, *, trust: Texts = NO_TEXTS) -> str:
    """Return the source hash that names the model's Job and artifact."""
    return source_hash(model.spec, settings, known_trust(model, trust))


def stored(
    model: CompactModel, text: str | None = None, *, settings: Settings = SETTINGS, trust: Texts = NO_TEXTS
) -> ArtifactFacts:
    """Return the stored artifact of the model's source."""
    digest = hash_of(model, settings, trust=trust)
    return ArtifactFacts(
        name=names.artifact(model.name, source_hash=digest),
        uid=f"artifact-{digest}",
        source_hash=digest,
        text=text if text is not None else artifact_text(),
    )


def stored_draft(
    model: CompactModel, text: str, *, settings: Settings = SETTINGS, trust: Texts = NO_TEXTS
) -> ArtifactFacts:
    """Return the stored artifact of a model's drafting model."""
    digest = wanted_sources(model, settings, trust)[-1]
    name = names.artifact(model.name, source_hash=digest)
    return ArtifactFacts(name=name, uid=f"artifact-{digest}", source_hash=digest, text=text)


def stored_adapters(
    model: CompactModel,
    found: Mapping[str, Mapping[str, object]],
    *,
    settings: Settings = SETTINGS,
    trust: Texts = NO_TEXTS,
) -> tuple[ArtifactFacts, ...]:
    """Return the stored artifacts of a model's adapters, those that `found` names."""
    hashes = wanted_sources(model, settings, trust)[1:]
    named = zip(hashes, model.spec.adapters or (), strict=False)
    return tuple(
        ArtifactFacts(
            name=names.artifact(model.name, source_hash=digest),
            uid=f"artifact-{digest}",
            source_hash=digest,
            text=json.dumps(dict(found[adapter.name]), sort_keys=True, separators=(",", ":")),
        )
        for digest, adapter in named
        if adapter.name in found
    )


def a_node(name: str = "node-1", *, memory: int = 24 * GIBIBYTE, cpu: int = 2000, **overrides: Any) -> NodeFacts:
    return NodeFacts(name=name, labels={}, memory_bytes=memory, cpu_millicores=cpu, **overrides)


def a_job(model: CompactModel, **overrides: Any) -> JobFacts:
    """Return the running first resolver Job of the model's source."""
    digest, attempt = hash_of(model), overrides.get("attempt", 1)
    job = JobFacts(
        name=names.resolver_job(model.name, source_hash=digest, attempt=attempt),
        uid=f"job-{attempt}",
        source_hash=digest,
        credentials_hash="",
        attempt=attempt,
    )
    return replace(job, **overrides)


def failed_job(model: CompactModel, reason: str = "RepositoryNotFound", **overrides: Any) -> JobFacts:
    """Return a Job that failed a second ago with a loader's report."""
    report = {"version": 1, "error": {"reason": reason, "message": f"The hub said {reason}."}}
    fields = {"failed": True, "finished_at": NOW - timedelta(seconds=1), "exit_code": 20}
    return a_job(model, **{**fields, "result": json.dumps(report), **overrides})


def a_secret(**overrides: Any) -> SecretFacts:
    secret = SecretFacts(
        name="hub", usable=True, hosts=("huggingface.co",), keys=("token",), content_hash="secret-hash-1"
    )
    return replace(secret, **overrides)


def a_pod(revision: str, name: str = "pod-1", **overrides: Any) -> PodFacts:
    """Return a pod that answers."""
    pod = PodFacts(
        name=name,
        uid=f"uid-{name}",
        revision=revision,
        source_hash="",
        ready=True,
        terminating=False,
        created_at=NOW - timedelta(minutes=5),
        node="node-1",
        ip="192.0.2.1",
        container_id=f"containerd://{name}",
        observation=Observation(answer=Answer.ANSWERED),
    )
    return replace(pod, **overrides)


def waiting_pod(revision: str, name: str = "pod-1", **overrides: Any) -> PodFacts:
    """Return a pod whose server has not started."""
    return replace(a_pod(revision, name), **{"ready": False, "observation": None, "container_id": "", **overrides})


def a_deployment(revision: str, **overrides: Any) -> DeploymentFacts:
    deployment = DeploymentFacts(
        name="smollm2-model",
        uid="uid-deployment",
        generation=1,
        observed_generation=1,
        revision=revision,
        source_hash="",
        replicas=1,
        updated_replicas=1,
    )
    return replace(deployment, **overrides)


def a_serve(**overrides: Any) -> Serve:
    """Return what a server's container depends on."""
    serve = Serve(
        image="registry.example/server:1",
        alias="chat",
        model_file="m.gguf",
        context_length=2048,
        parallel=2,
        kv_cache_type="f16",
        kv_cache_bytes=1,
        prompt_cache_mebibytes=0,
        threads=1,
        startup_seconds=60,
        key_secret=("s", "k"),
    )
    return replace(serve, **overrides)


def plan_of(
    model: CompactModel, facts: ModelFacts, *, settings: Settings = SETTINGS, now: datetime = NOW
) -> Plan[CompactModelStatus]:
    return plan_compactmodel(model, facts, settings, now)


def base_facts(model: CompactModel, **overrides: Any) -> ModelFacts:
    """Return facts where the source is resolved, one node is there, and nothing else."""
    return replace(ModelFacts(artifacts=(stored(model),), nodes=(a_node(),), api_key=API_KEY), **overrides)


def revision_of(model: CompactModel, settings: Settings = SETTINGS, *, trust: Texts = NO_TEXTS) -> str:
    """Return the revision of the model's pod template as the plan renders it."""
    secret = a_secret() if model.spec.source.credentials_secret_ref is not None else None
    artifact = stored(model, settings=settings, trust=trust)
    key = a_secret(keys=("identity",), for_weights=True)  # nothing but a spec that names it looks at it
    facts = base_facts(model, artifacts=(artifact,), secret=secret, trust=trust, weights_key=key)
    plan = plan_of(model, facts, settings=settings)
    found = child(plan.children, "Deployment")
    return str(found["metadata"]["labels"][labels.REVISION])


def serving_facts(model: CompactModel, **overrides: Any) -> ModelFacts:
    """Return facts where every wanted replica answers."""
    revision = revision_of(model)
    pods = tuple(a_pod(revision, f"pod-{index + 1}") for index in range(model.spec.replicas))
    deployment = a_deployment(revision, replicas=len(pods), updated_replicas=len(pods))
    return replace(base_facts(model, deployment=deployment, pods=pods), **overrides)


def served(model: CompactModel) -> CompactModel:
    """Return the model with the status that a pass over `serving_facts` leaves."""
    return model.model_copy(update={"status": plan_of(model, serving_facts(model)).status})


def edited(model: CompactModel, **spec: object) -> CompactModel:
    """Return the model after an edit of the spec: a new generation, the status still of the old one."""
    return model.model_copy(update={"spec": a_spec(**spec), "generation": model.generation + 1})


def child(children: Sequence[Mapping[str, object]], kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the one child of a kind (and name)."""
    found: list[Any] = [item for item in children if item["kind"] == kind]
    if name is not None:
        found = [item for item in found if item["metadata"]["name"] == name]
    if len(found) != 1:
        raise LookupError(f"expected one {kind} {name or ''}, found {len(found)}")
    return dict(found[0])


def kinds(plan: Plan[CompactModelStatus]) -> list[str]:
    """Return the kinds of the plan's children in the order of applying."""
    return [str(item["kind"]) for item in plan.children]


def failing(kind: FailureKind, said: str = "the cluster's words", **fields: Any) -> ContainerFailure:
    """Return a recorded failure of the server's container."""
    return ContainerFailure(kind=kind, container="server", message=said, **fields)


def starting_facts(failure: ContainerFailure | None = None, **pod: Any) -> ModelFacts:
    """A Deployment of the current spec whose only pod does not run yet."""
    model = a_model()
    revision = revision_of(model)
    pods = (waiting_pod(revision, failure=failure, **pod),)
    return base_facts(model, deployment=a_deployment(revision), pods=pods)
