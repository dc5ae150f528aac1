# SPDX-License-Identifier: Apache-2.0
"""Reads the files that a command is given: resources of ours, the settings, facts. Parses and nothing else."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from nimblet import names
from nimblet.api.assistant import Assistant
from nimblet.api.common import ConfigMapKeyRef, Quantity, SecretRef, StatusModel
from nimblet.api.compactmodel import DEFINITION, CompactModel
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.cli.errors import CommandError
from nimblet.cluster.named import text_facts
from nimblet.cluster.parse import Invalid, parse_compactmodel
from nimblet.labels import API_VERSION
from nimblet.plan.artifact import Artifact, Header
from nimblet.plan.cache import cache_folder
from nimblet.plan.claim import claim_gibibytes
from nimblet.plan.facts import (
    ArtifactFacts,
    ClaimFacts,
    JobFacts,
    ModelFacts,
    NodeFacts,
    SecretFacts,
    TaintFacts,
    TextFacts,
    TrustTextFacts,
)
from nimblet.plan.integrity import known_trust, text_key
from nimblet.plan.source import source_hash
from nimblet.quantity import bytes_of, millicores_of
from nimblet.settings import Settings

DEFAULT_NAMESPACE: Final = "default"

R = TypeVar("R", CompactModel, RetrievalIndex, Assistant)
S = TypeVar("S", bound=StatusModel)


class FactsModel(BaseModel):
    """Base of a facts file: unknown keys are errors, since a typing mistake would change the plan in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class TaintEntry(FactsModel):
    """A taint of a node."""

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "NoExecute"] = "NoSchedule"


class NodeEntry(FactsModel):
    """A node by its totals."""

    name: str
    memory: Quantity = Field(description="Allocatable memory, such as 24Gi.")
    cpu: Quantity = Field(description="Allocatable CPU, such as 2 or 1900m.")
    labels: dict[str, str] = Field(default_factory=dict)
    resources: dict[str, Quantity] = Field(
        default_factory=dict, description="Allocatable extended resources, such as nvidia.com/gpu, and huge pages."
    )
    schedulable: bool = True
    taints: tuple[TaintEntry, ...] = ()


class SecretEntry(FactsModel):
    """The referenced Secret as the operator would see it."""

    usable: bool = True
    hosts: tuple[str, ...] = ("huggingface.co",)
    keys: tuple[str, ...] = ("token",)
    for_weights: bool = Field(default=False, description="It has the annotation that lets it decrypt weights.")


class FactsFile(FactsModel):
    """What an offline plan may look at. Every part may be absent."""

    nodes: tuple[NodeEntry, ...] = ()
    artifact: Artifact | None = Field(
        default=None, description="The resolver's result: artifact.json of the <model>-artifact-… ConfigMap."
    )
    artifacts: dict[str, Artifact] = Field(
        default_factory=dict, description="The same by the model's name, where several models are planned."
    )
    secret: SecretEntry | None = None
    secrets: dict[str, SecretEntry] = Field(
        default_factory=dict, description="Secrets that an index or an Assistant names, by name."
    )
    config_maps: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="ConfigMaps labelled for use that an index reads: their keys, by name."
    )
    claims: tuple[str, ...] = Field(default=(), description="Claims labelled for use that an index reads.")
    storage_classes: tuple[str, ...] | None = Field(
        default=None, description="The cluster's StorageClasses, the default first; absent: not looked at."
    )
    cache_filled: bool = Field(
        default=False, description="With spec.cache: its claim is bound and filled, so that the server comes next."
    )
    own_keys: SecretEntry | None = Field(
        default=None, description="The Secret of access.apiKeysSecretRef; its key is `api-keys`."
    )
    weights_key: SecretEntry | None = Field(
        default=None, description="The Secret of source.encryption.keySecretRef; its key is `identity`."
    )
    chat_template: str | None = Field(default=None, description="The text of runtime.chatTemplate.")
    pod_security: Literal["privileged", "baseline", "restricted"] | None = Field(
        default=None, description="What the namespace's label pod-security.kubernetes.io/enforce says."
    )
    trust: dict[str, str] = Field(
        default_factory=dict, description="The texts that integrity names, by `<ConfigMap>/<key>`."
    )


def read_text(path: Path) -> str:
    """Return the file's text; `-` is not special. CommandError names the file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"expected a readable text file {path}, found: {error}; correct the path") from error


def read_documents(path: Path) -> list[object]:
    """Return the YAML (or JSON) documents of a file."""
    try:
        return [document for document in yaml.safe_load_all(read_text(path)) if document is not None]
    except yaml.YAMLError as error:
        raise CommandError(f"expected YAML or JSON in {path}, found: {error}") from error


def read_models(path: Path, *, namespace: str | None) -> tuple[CompactModel, ...]:
    """Return the CompactModels of a file, at least one; other documents are passed over."""
    documents = [document for document in read_documents(path) if isinstance(document, dict)]
    found = [document for document in documents if document.get("kind") == DEFINITION.kind]
    if not found:
        kinds = ", ".join(sorted({str(document.get("kind")) for document in documents})) or "nothing"
        raise CommandError(
            f"expected a {DEFINITION.kind} in {path}, found {kinds}; only models have computed sizes, "
            "an index and an Assistant take what their spec.resources say"
        )
    return tuple(model_of(document, where=str(path), namespace=namespace) for document in found)


def model_of(body: Mapping[str, object], *, where: str, namespace: str | None) -> CompactModel:
    """Return the parsed CompactModel; CommandError names the flawed fields."""
    return own_of(body, parse_compactmodel, where=where, namespace=namespace)


def own_of(
    body: Mapping[str, object],
    parse: Callable[[Mapping[str, object]], R | Invalid[S]],
    *,
    where: str,
    namespace: str | None,
) -> R:
    """Return a parsed resource of ours; CommandError names the flawed fields."""
    if body.get("apiVersion") != API_VERSION:
        raise CommandError(f"{where}: expected apiVersion {API_VERSION}, found {body.get('apiVersion')!r}")
    parsed = parse(body)
    if isinstance(parsed, Invalid):
        raise CommandError(f"{where}: {parsed.errors} Correct the named fields.")
    if not parsed.name:
        raise CommandError(f"{where}: expected metadata.name, found none; name the {body.get('kind')}")
    if len(parsed.name) > names.MAX_OWNER_LENGTH:
        raise CommandError(
            f"{where}: expected a name of at most {names.MAX_OWNER_LENGTH} characters, found {len(parsed.name)}"
        )
    return parsed.model_copy(update={"namespace": namespace or parsed.namespace or DEFAULT_NAMESPACE})


def parse_settings(text: str, *, where: str) -> Settings:
    """Return the administrator's settings out of YAML or JSON."""
    try:
        return Settings.model_validate(yaml.safe_load(text) or {})
    except (yaml.YAMLError, ValidationError) as error:
        raise CommandError(f"{where}: expected the operator's settings, found: {_flaws(error)}") from error


def read_settings(path: Path | None) -> Settings:
    """Return the settings of a file, or the defaults."""
    return parse_settings(read_text(path), where=str(path)) if path is not None else Settings()


def read_facts(path: Path) -> FactsFile:
    """Return a facts file. CommandError names the flawed fields."""
    documents = read_documents(path)
    try:
        return FactsFile.model_validate(documents[0] if documents else {})
    except ValidationError as error:
        raise CommandError(f"{path}: expected nodes, artifact, secret; found: {_flaws(error)}") from error


def artifact_of(given: FactsFile, model: CompactModel) -> Artifact | None:
    """Return what the facts say that a model's resolver found."""
    return given.artifacts.get(model.name, given.artifact)


def read_header(path: Path) -> Header:
    """Return the header facts of a file that holds an artifact's JSON or its `header` alone."""
    documents = read_documents(path)
    document = documents[0] if documents else None
    if isinstance(document, dict) and "header" in document:
        document = document["header"]
    try:
        return Header.model_validate(document)
    except ValidationError as error:
        raise CommandError(
            f"{path}: expected an artifact.json or its header, found: {_flaws(error)}; "
            "take it from the ConfigMap <model>-artifact-…"
        ) from error


def offline_facts(given: FactsFile, model: CompactModel, settings: Settings) -> ModelFacts:
    """Return the facts of a cluster that has these nodes and this artifact and nothing else."""
    trust = _trust(given.trust, model)
    digest = source_hash(model.spec, settings, known_trust(model, trust))
    artifacts: tuple[ArtifactFacts, ...] = ()
    found = artifact_of(given, model)
    if found is not None:
        stored = found.model_dump(mode="json", by_alias=True, exclude_none=True)
        artifacts = (
            ArtifactFacts(
                name=names.artifact(model.name, source_hash=digest),
                uid="",
                source_hash=digest,
                text=json.dumps(stored, sort_keys=True, separators=(",", ":")),
            ),
        )
    claim, fill = _cache(given, model)
    encryption = model.spec.source.encryption
    return ModelFacts(
        artifacts=artifacts,
        nodes=node_facts(given),
        secret=secret_entry(given.secret, model.spec.source.credentials_secret_ref),
        own_keys=secret_entry(given.own_keys, model.spec.access.api_keys_secret_ref),
        weights_key=secret_entry(given.weights_key, encryption.key_secret_ref if encryption is not None else None),
        chat_template=_text(given.chat_template, model.spec.runtime.chat_template),
        trust=trust,
        pod_security=given.pod_security or "",
        claim=claim,
        fills=(fill,) if fill else (),
    )


def node_facts(given: FactsFile) -> tuple[NodeFacts, ...]:
    """Return the nodes that the facts name."""
    return tuple(
        NodeFacts(
            name=node.name,
            labels=node.labels,
            memory_bytes=bytes_of(node.memory),
            cpu_millicores=millicores_of(node.cpu),
            resources={name: bytes_of(amount) for name, amount in node.resources.items()},
            schedulable=node.schedulable,
            taints=tuple(TaintFacts(key=it.key, value=it.value, effect=it.effect) for it in node.taints),
        )
        for node in given.nodes
    )


def _cache(given: FactsFile, model: CompactModel) -> tuple[ClaimFacts | None, JobFacts | None]:
    """Return the claim that the spec asks for and the Job that filled it."""
    cache, found = model.spec.cache, artifact_of(given, model)
    if cache is None or found is None or not given.cache_filled:
        return None, None
    folder = cache_folder(found)
    size = cache.size or f"{claim_gibibytes(found.total_bytes)}Gi"
    claim = ClaimFacts(
        name=names.claim(model.name),
        uid="offline",
        phase="Bound",
        access_modes=(cache.access_mode,),
        storage_class=cache.storage_class_name or "",
        requested=size,
        capacity=size,
    )
    fill = JobFacts(
        name=names.fill_job(model.name, folder=folder, attempt=1),
        uid="offline",
        source_hash="",
        credentials_hash="",
        attempt=1,
        succeeded=True,
        folder=folder,
        claim_uid=claim.uid,
    )
    return claim, fill


def secret_entry(entry: SecretEntry | None, ref: SecretRef | None) -> SecretFacts | None:
    """Return the facts of a Secret that a spec names, None where it names none or there is none."""
    if ref is None or entry is None:
        return None
    return SecretFacts(
        name=ref.name,
        usable=entry.usable,
        hosts=entry.hosts,
        keys=entry.keys,
        content_hash="offline",
        for_weights=entry.for_weights,
    )


def _text(text: str | None, ref: ConfigMapKeyRef | None) -> TextFacts | None:
    if ref is None or text is None:
        return None
    return text_facts({"metadata": {"name": ref.name}, "data": {ref.key: text}}, key=ref.key)


def _trust(given: Mapping[str, str], model: CompactModel) -> dict[str, TrustTextFacts]:
    references = model.spec.integrity.references if model.spec.integrity is not None else ()
    keys = [text_key(ref) for ref in references]
    return {key: TrustTextFacts(usable=True, text=given[key]) for key in keys if key in given}


def _flaws(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'the document'}: {item['msg']}" for item in error.errors()
    )


def read_key(path: Path) -> str:
    """Return the key that a file holds."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(
            f"expected a key in {path}, found none that can be read ({type(error).__name__})"
        ) from error
