# SPDX-License-Identifier: Apache-2.0
"""What the files hold that `nimblet plan` is given: resources of ours and what these may name. Parses only."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nimblet.api.assistant import Assistant
from nimblet.api.compactmodel import CompactModel
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.api.teepolicy import TEEPolicy, TEEPolicySpec
from nimblet.cli.errors import CommandError
from nimblet.cli.inputs import DEFAULT_NAMESPACE, R, S, own_of, read_documents
from nimblet.cluster.indexfacts import claim_facts, config_map_facts
from nimblet.cluster.named import secret_facts
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.parse import Invalid, parse_assistant, parse_compactmodel, parse_retrievalindex, parse_spec
from nimblet.cluster.resources import (
    ASSISTANT,
    CLAIM,
    COMPACT_MODEL,
    CONFIG_MAP,
    RETRIEVAL_INDEX,
    SECRET,
    TEE_POLICY,
)
from nimblet.labels import API_VERSION
from nimblet.plan.facts import SecretFacts
from nimblet.plan.indexfacts import NamedFacts

Own = CompactModel | RetrievalIndex | Assistant
Document = dict[str, object]
Place = tuple[str, str]
"""Namespace and name."""

OWN_KINDS: Final = (COMPACT_MODEL.kind, RETRIEVAL_INDEX.kind, ASSISTANT.kind)
"""In the order of planning: each names only what comes before it."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Resources of ours in the order of planning, and plain objects that came with them."""

    models: tuple[CompactModel, ...] = ()
    indexes: tuple[RetrievalIndex, ...] = ()
    assistants: tuple[Assistant, ...] = ()
    policies: tuple[TEEPolicy, ...] = ()
    secrets: Mapping[Place, SecretFacts] = field(default_factory=dict)
    config_maps: Mapping[Place, NamedFacts] = field(default_factory=dict)
    claims: Mapping[Place, NamedFacts] = field(default_factory=dict)


def read_bundle(paths: Sequence[Path], *, namespace: str | None) -> Bundle:
    """Return what the files hold; CommandError where none of it is ours, or two have one name."""
    documents = [(path, document) for path in paths for document in read_documents(path)]
    found = [(path, document) for path, document in documents if isinstance(document, dict)]
    bundle = Bundle(
        models=_parsed(found, COMPACT_MODEL.kind, parse_compactmodel, namespace),
        indexes=_parsed(found, RETRIEVAL_INDEX.kind, parse_retrievalindex, namespace),
        assistants=_parsed(found, ASSISTANT.kind, parse_assistant, namespace),
        policies=_policies(found),
        secrets={
            _place(body, namespace): secret_facts(_encoded(body), master_key=b"")
            for body in _of_kind(found, SECRET.kind)
        },
        config_maps={_place(body, namespace): config_map_facts(body) for body in _of_kind(found, CONFIG_MAP.kind)},
        claims={_place(body, namespace): claim_facts(body) for body in _of_kind(found, CLAIM.kind)},
    )
    own: list[Own] = [*bundle.models, *bundle.indexes, *bundle.assistants]
    if not own:
        kinds = ", ".join(sorted({str(body.get("kind")) for _, body in found})) or "nothing"
        raise CommandError(
            f"expected a {', a '.join(OWN_KINDS[:-1])} or an {OWN_KINDS[-1]} in "
            f"{', '.join(map(str, paths))}, found {kinds}; give a file with one"
        )
    return bundle


def _parsed(
    found: Sequence[tuple[Path, Document]],
    kind: str,
    parse: Callable[[Mapping[str, object]], R | Invalid[S]],
    namespace: str | None,
) -> tuple[R, ...]:
    resources: dict[Place, R] = {}
    for path, body in found:
        if body.get("kind") != kind:
            continue
        resource = own_of(body, parse, where=str(path), namespace=namespace)
        place = (resource.namespace, resource.name)
        if place in resources:
            raise CommandError(
                f"{path}: expected one {kind} {'/'.join(place)}, found a second; rename it or leave one out"
            )
        resources[place] = resource
    return tuple(resources.values())


def _policies(found: Sequence[tuple[Path, Document]]) -> tuple[TEEPolicy, ...]:
    policies: dict[str, TEEPolicy] = {}
    for path, body in found:
        if body.get("kind") != TEE_POLICY.kind or body.get("apiVersion") != API_VERSION:
            continue
        name, spec = metadata_of(body).name, parse_spec(body, TEEPolicySpec)
        if isinstance(spec, str):
            raise CommandError(f"{path}: TEEPolicy {name}: {spec} Correct the named fields.")
        if name in policies:
            raise CommandError(
                f"{path}: expected one TEEPolicy {name}, found a second; rename it or leave one out"
            )
        policies[name] = TEEPolicy(name=name, spec=spec)
    return tuple(policies[name] for name in sorted(policies))


def _of_kind(found: Sequence[tuple[Path, Document]], kind: str) -> list[Document]:
    return [body for _, body in found if body.get("kind") == kind]


def _place(body: Document, namespace: str | None) -> Place:
    metadata = metadata_of(body)
    return namespace or metadata.namespace or DEFAULT_NAMESPACE, metadata.name


def _encoded(body: Document) -> Document:
    """Return a Secret as the API server would store it: `stringData` is what people write."""
    plain = body.get("stringData")
    if not isinstance(plain, dict):
        return body
    written = {str(key): base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}
    stored = body.get("data")
    return {**body, "data": {**(stored if isinstance(stored, dict) else {}), **written}}
