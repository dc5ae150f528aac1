# SPDX-License-Identifier: Apache-2.0
"""Reads the files that a command is given: resources of ours, the settings, facts. Parses and nothing else."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import yaml
from pydantic import ValidationError

from nimblet import names
from nimblet.api.assistant import Assistant
from nimblet.api.common import ConfigMapKeyRef, SecretRef, StatusModel
from nimblet.api.compactmodel import DEFINITION, CompactModel
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.cli.errors import CommandError
from nimblet.cli.factsfile import FactsFile, SecretEntry
from nimblet.cluster.named import text_facts
from nimblet.cluster.parse import Invalid, parse_compactmodel
from nimblet.labels import API_VERSION
from nimblet.plan.adapters import wanted_sources
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
from nimblet.plan.integrity import text_key
from nimblet.plan.speculative import draft_view
from nimblet.quantity import bytes_of, millicores_of
from nimblet.settings import Settings

DEFAULT_NAMESPACE: Final = "default"

R = TypeVar("R", CompactModel, RetrievalIndex, Assistant)
S = TypeVar("S", bound=StatusModel)


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


def read_facts(paths: Sequence[Path]) -> FactsFile:
    """Return what facts files tell together, each part in one of them. CommandError names the flawed fields."""
    whole: dict[object, object] = {}
    for path in paths:
        documents = read_documents(path)
        found = documents[0] if documents else {}
        try:
            FactsFile.model_validate(found)
        except ValidationError as error:
            raise CommandError(f"{path}: expected nodes, artifact, secret; found: {_flaws(error)}") from error
        parts = found if isinstance(found, dict) else {}
        twice = sorted(str(key) for key in parts.keys() & whole.keys())
        if twice:
            raise CommandError(f"{path}: expected each part of the facts in one file, found {twice[0]} in two")
        whole |= parts
    return FactsFile.model_validate(whole)


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
    own, further = artifact_of(given, model), _further(given, model)
    hashes = wanted_sources(model, settings, trust)
    artifacts = tuple(
        _stored(model, found, digest)
        for digest, found in zip(hashes, (own, *further), strict=True)
        if found is not None
    )
    claim, fills = _cache(given, model, own, further)
    encryption = model.spec.source.encryption
    return ModelFacts(
        artifacts=artifacts,
        nodes=node_facts(given),
        secret=secret_entry(given.secret, model.spec.source.credentials_secret_ref),
        own_keys=secret_entry(given.own_keys, model.spec.access.api_keys_secret_ref),
        weights_key=secret_entry(given.weights_key, encryption.key_secret_ref if encryption is not None else None),
        adapter_secrets=_adapter_secrets(given, model),
        chat_template=_text(given.chat_template, model.spec.runtime.chat_template),
        trust=trust,
        pod_security=given.pod_security or "",
        claim=claim,
        fills=fills,
    )


def beside_of(given: FactsFile, model: CompactModel) -> tuple[list[Artifact], Artifact | None]:
    """Return what the facts say of a model's adapters and of its drafting model; they must tell of each."""
    entries = _further_entries(model)
    missing = [entry for entry in entries if entry not in given.artifacts]
    if missing:
        raise CommandError(
            f"expected the facts to hold what {model.name} has beside its own weights, found no "
            f"{' and no '.join(missing)} under `artifacts`"
        )
    found = [given.artifacts[entry] for entry in entries]
    return (found[:-1], found[-1]) if draft_view(model) is not None else (found, None)


def _further(given: FactsFile, model: CompactModel) -> list[Artifact | None]:
    """Return what the facts say that was resolved of adapters and drafting model, in their order."""
    return [given.artifacts.get(entry) for entry in _further_entries(model)]


def _further_entries(model: CompactModel) -> list[str]:
    """Return by which names the facts hold adapters and drafting model."""
    drafts = ("runtime.speculative",) if draft_view(model) is not None else ()
    return [f"{model.name}/{part}" for part in (*model.spec.adapter_names, *drafts)]


def _stored(model: CompactModel, found: Artifact, digest: str) -> ArtifactFacts:
    """Return an artifact as it would lie in its ConfigMap."""
    text = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    return ArtifactFacts(
        name=names.artifact(model.name, source_hash=digest),
        uid="",
        source_hash=digest,
        text=json.dumps(text, sort_keys=True, separators=(",", ":")),
    )


def _adapter_secrets(given: FactsFile, model: CompactModel) -> dict[str, SecretFacts]:
    refs = (ref for source in model.spec.further_sources for ref in source.secret_refs)
    found = (secret_entry(given.secrets.get(ref.name), ref) for ref in refs)
    return {secret.name: secret for secret in found if secret is not None}


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


def _cache(
    given: FactsFile, model: CompactModel, own: Artifact | None, further: Sequence[Artifact | None]
) -> tuple[ClaimFacts | None, tuple[JobFacts, ...]]:
    """Return the claim that the spec asks for and the Jobs that filled it."""
    cache = model.spec.cache
    if cache is None or own is None or not given.cache_filled:
        return None, ()
    folders = {cache_folder(found): found.total_bytes for found in (own, *further) if found is not None}
    size = cache.size or f"{claim_gibibytes(sum(folders.values()))}Gi"
    claim = ClaimFacts(
        name=names.claim(model.name),
        uid="offline",
        phase="Bound",
        access_modes=(cache.access_mode,),
        storage_class=cache.storage_class_name or "",
        requested=size,
        capacity=size,
    )
    fills = tuple(
        JobFacts(
            name=names.fill_job(model.name, folder=folder, attempt=1),
            uid="offline",
            source_hash="",
            credentials_hash="",
            attempt=1,
            succeeded=True,
            folder=folder,
            claim_uid=claim.uid,
        )
        for folder in folders
    )
    return claim, fills


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
    references = [ref for integrity in model.spec.integrities for ref in integrity.references]
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
