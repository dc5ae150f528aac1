# SPDX-License-Identifier: Apache-2.0
"""The gateway's configuration file as its own `nimblet_gateway.config` reads it. Pure.

The hash names what the gateway does; the number of replicas that share the limits is not part of it, so that
scaling restarts no pod.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from nimblet import names
from nimblet.api.assistant import Assistant
from nimblet.manifests.gateway import KEYS_DIR, Credential
from nimblet.manifests.network import HTTP_PORT
from nimblet.plan.assistantfacts import AssistantFacts
from nimblet.plan.modelfacts import ModelReference
from nimblet.settings import Settings

MODEL_FILE = "model"
FALLBACK_FILE = "fallback"
GUARD_FILE = "guard"


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """A configuration: its text, its hash, and the keys that it reads from files."""

    text: str
    hash: str
    credentials: tuple[Credential, ...]


def plan_config(
    assistant: Assistant, facts: AssistantFacts, model: ModelReference, settings: Settings
) -> GatewayConfig:
    """Return the configuration for these referents; `model` is the one of `modelRef`."""
    spec, traces = assistant.spec, settings.tracing.endpoint
    scheme = "http" if settings.tls.mode == "Off" else "https"
    credentials = [Credential(file=MODEL_FILE, secret=model.key_secret)]
    indexes = []
    for index in facts.indexes:
        credential = Credential(file=f"index-{index.name}", secret=index.key_secret)
        url = f"{scheme}://{names.service_host(names.retriever(index.name), assistant.namespace)}:{HTTP_PORT}"
        indexes.append({"name": index.name, "url": url, "keyFile": credential.path})
        credentials.append(credential)
    document: dict[str, object] = {
        "version": 1,
        "assistant": assistant.name,
        "grounding": spec.grounding,
        "model": {**_model(model, credentials[0]), **_adapter(assistant, model)},
        "indexes": indexes,
        "keysDir": KEYS_DIR,
        "limits": spec.limits.model_dump(mode="json", by_alias=True, exclude_none=True),
        "retrieval": spec.retrieval.model_dump(mode="json", by_alias=True),
        "systemPrompt": spec.system_prompt,
    }
    if facts.operator_key_sha256:
        document["operatorKey"] = {"sha256": facts.operator_key_sha256}
    if traces is not None:
        document["tracing"] = {"endpoint": traces}
    if facts.fallback is not None:
        credentials.append(Credential(file=FALLBACK_FILE, secret=facts.fallback.key_secret))
        document["fallback"] = _model(facts.fallback, credentials[-1])
    if facts.guard is not None:
        credentials.append(Credential(file=GUARD_FILE, secret=facts.guard.key_secret))
        document["guard"] = _guard(assistant, facts.guard, credentials[-1])
    digest = names.content_hash(document)
    shared = {"configuration": digest, "replicas": max(1, spec.replicas)}
    text = json.dumps({**document, **shared}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return GatewayConfig(text=text, hash=digest, credentials=tuple(credentials))


def _endpoint(model: ModelReference, credential: Credential) -> Mapping[str, object]:
    return {"url": model.url, "name": model.served_name, "keyFile": credential.path}


def _model(model: ModelReference, credential: Credential) -> Mapping[str, object]:
    sizes = {"contextLength": model.context_length, "parallel": model.parallel}
    return {**_endpoint(model, credential), **sizes}


def _adapter(assistant: Assistant, model: ModelReference) -> Mapping[str, object]:
    """Return what chooses the adapter in each request; without one nothing is said of it."""
    adapter = assistant.spec.adapter
    return {"request": json.loads(model.adapter_requests[adapter])} if adapter is not None else {}


def _guard(assistant: Assistant, guard: ModelReference, credential: Credential) -> Mapping[str, object]:
    ref = assistant.spec.guard_ref
    if ref is None or guard.task != "Classify":
        return {**_endpoint(guard, credential), "task": "Chat"}
    return {
        **_endpoint(guard, credential),
        "task": "Classify",
        "labels": list(guard.labels),
        "blocked": sorted(ref.blocked),
        "threshold": ref.threshold_percent / 100,
    }
