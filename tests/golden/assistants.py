# SPDX-License-Identifier: Apache-2.0
"""Golden cases of Assistants: in facts `$used` is what the gateway answers from, `$revision` its own hash."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from nimblet import labels
from nimblet.api.assistant import Assistant, AssistantStatus
from nimblet.cluster.parse import InvalidAssistant, parse_assistant
from nimblet.plan.assistant import plan_assistant
from nimblet.plan.assistantfacts import AssistantFacts
from nimblet.plan.assistantreferences import used_names
from nimblet.plan.result import Plan
from nimblet.settings import Settings
from tests.builders import NOW

FACTS = TypeAdapter(AssistantFacts)


class AssistantCase(BaseModel):
    """One input file. `facts` has the shape of plan.assistantfacts.AssistantFacts."""

    model_config = ConfigDict(extra="forbid")

    about: str
    assistant: dict[str, Any]
    settings: Settings = Settings()
    facts: dict[str, Any] = Field(default_factory=dict)


def plan_assistant_case(document: Mapping[str, Any]) -> Plan[AssistantStatus]:
    """Return the plan of a case."""
    case = AssistantCase.model_validate(document)
    assistant = parse_assistant(case.assistant)
    if isinstance(assistant, InvalidAssistant):
        raise TypeError(f"expected a valid Assistant in a golden case, found: {assistant.errors}")
    text = json.dumps(case.facts).replace("$used", used_names(assistant))
    revision = _revision(assistant, FACTS.validate_python(json.loads(text)), case.settings)
    facts = FACTS.validate_python(json.loads(text.replace("$revision", revision)))
    return plan_assistant(assistant, facts, case.settings, NOW)


def _revision(assistant: Assistant, facts: AssistantFacts, settings: Settings) -> str:
    for item in plan_assistant(assistant, facts, settings, NOW).children:
        metadata = item["metadata"]
        if item["kind"] == "Deployment" and isinstance(metadata, Mapping):
            return str(metadata["labels"][labels.REVISION])
    return "none"
