# SPDX-License-Identifier: Apache-2.0
"""Assistants and their facts as tests need them: a plain good case, and overrides by name."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from nimblet import labels
from nimblet.api.assistant import Assistant, AssistantSpec, AssistantStatus
from nimblet.plan.assistant import plan_assistant
from nimblet.plan.assistantfacts import AssistantFacts, IndexReference
from nimblet.plan.assistantreferences import used_names
from nimblet.plan.facts import DeploymentFacts, PodFacts
from nimblet.plan.modelfacts import ModelReference
from nimblet.plan.result import Plan
from nimblet.settings import Settings
from tests.builders import API_KEY, NOW, SETTINGS, a_deployment, a_pod, child

SPEC: Final[Mapping[str, object]] = {"modelRef": {"name": "smollm2"}, "indexRefs": [{"name": "handbook"}]}
OPERATOR_KEY_SHA256: Final = "5e" * 32


def an_assistant(
    *, generation: int = 1, status: AssistantStatus | None = None, restarted_at: str = "", **spec: object
) -> Assistant:
    """Return an Assistant in namespace `team`; overrides replace whole top-level fields, in camelCase."""
    return Assistant(
        name="help",
        namespace="team",
        uid="uid-1",
        generation=generation,
        restarted_at=restarted_at,
        spec=AssistantSpec.model_validate({**SPEC, **spec}),
        status=status or AssistantStatus(),
    )


def a_reference(name: str = "smollm2", **overrides: Any) -> ModelReference:
    """Return a chat model that serves."""
    reference = ModelReference(
        name=name,
        found=True,
        serving=True,
        reason="Answering",
        message="1 of 1 pods gave a token when asked.",
        task="Chat",
        url=f"http://{name}-model.team.svc/v1",
        served_name=name,
        key_secret=f"{name}-key",
        context_length=4096,
        parallel=2,
    )
    return replace(reference, **overrides)


def an_index(name: str = "handbook", **overrides: Any) -> IndexReference:
    """Return an index that serves."""
    reference = IndexReference(
        name=name,
        found=True,
        serving=True,
        reason="Answering",
        key_secret=f"{name}-search-key",
        generation="g000001",
        documents=3,
        chunks=40,
    )
    return replace(reference, **overrides)


def references(**overrides: Any) -> AssistantFacts:
    """Return facts where everything that the plain spec names serves, and no gateway is there."""
    facts = AssistantFacts(
        model=a_reference(), indexes=(an_index(),), api_key=API_KEY, operator_key_sha256=OPERATOR_KEY_SHA256
    )
    return replace(facts, **overrides)


def planned(
    assistant: Assistant, facts: AssistantFacts, *, settings: Settings = SETTINGS, now: datetime = NOW
) -> Plan[AssistantStatus]:
    return plan_assistant(assistant, facts, settings, now)


def gateway_revision(assistant: Assistant, facts: AssistantFacts) -> str:
    """Return the revision of the gateway's template as the plan renders it."""
    found = child(planned(assistant, facts).children, "Deployment")
    return str(found["metadata"]["labels"][labels.REVISION])


def a_gateway(assistant: Assistant, revision: str, name: str = "pod-1", **overrides: Any) -> PodFacts:
    """Return a pod of the gateway that found a passage and got a token."""
    return a_pod(revision, name, source_hash=used_names(assistant), **overrides)


def its_deployment(assistant: Assistant, revision: str, **overrides: Any) -> DeploymentFacts:
    """Return the gateway's Deployment with all replicas of this revision."""
    count = assistant.spec.replicas
    found = a_deployment(revision, name="help-gateway", replicas=count, updated_replicas=count)
    return replace(found, source_hash=used_names(assistant), **overrides)


def serving(assistant: Assistant, **overrides: Any) -> AssistantFacts:
    """Return facts where every wanted gateway answers."""
    facts = references(**overrides)
    revision = gateway_revision(assistant, references())
    pods = tuple(a_gateway(assistant, revision, f"pod-{number + 1}") for number in range(assistant.spec.replicas))
    return replace(facts, deployment=its_deployment(assistant, revision), **{"pods": pods, **overrides})


def served(assistant: Assistant) -> Assistant:
    """Return the Assistant with the status that a pass over `serving` leaves."""
    return assistant.model_copy(update={"status": planned(assistant, serving(assistant)).status})


def edited(assistant: Assistant, **spec: object) -> Assistant:
    """Return the Assistant after an edit: a new generation, the status still of the old one."""
    changed = AssistantSpec.model_validate({**SPEC, **spec})
    return assistant.model_copy(update={"spec": changed, "generation": assistant.generation + 1})


def config(plan: Plan[AssistantStatus]) -> Any:
    """Return the gateway's configuration, as it will read it."""
    return json.loads(child(plan.children, "ConfigMap")["data"]["config.json"])


def kinds(plan: Plan[AssistantStatus]) -> list[str]:
    """Return the kinds of all children."""
    return [str(item["kind"]) for item in plan.children]
