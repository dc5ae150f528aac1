# SPDX-License-Identifier: Apache-2.0
"""Gathers what the plan of an Assistant may look at: its gateway, what it names, and what the gateway tells.

It decides nothing. What it names is read anew in each pass: the mirror keeps no spec of ours. A pass comes when
one of these changed, or when the gateway tells something new; none comes only to look.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nimblet import names
from nimblet.api.assistant import Assistant
from nimblet.api.common import ModelRef
from nimblet.cluster.facts import (
    Gatherer,
    children,
    deployment_facts,
    of_component,
    pods_of,
    told_by_events,
)
from nimblet.cluster.gatewaystatus import GatewayInquiry
from nimblet.cluster.indexref import gather_index_reference
from nimblet.cluster.key import Key
from nimblet.cluster.keyfacts import KeySecret, gather_key, versions_in_use
from nimblet.cluster.masterkey import purpose_key
from nimblet.cluster.modelref import gather_model_reference
from nimblet.cluster.named import named_secret
from nimblet.cluster.resources import ASSISTANT
from nimblet.cluster.stuck import next_setup_look
from nimblet.manifests.gateway import COMPONENT
from nimblet.plan.assistant import proof_of
from nimblet.plan.assistantfacts import AssistantFacts, IndexReference
from nimblet.plan.facts import WriteFailure
from nimblet.plan.modelfacts import ModelReference

GATEWAY_PURPOSE = "gateway"
OPERATE_PURPOSE = "operate"


@dataclass(frozen=True, kw_only=True)
class GatheredAssistant:
    """Facts, and the seconds after which they are old without any event telling; None: events suffice.

    `wait`: seconds for which a first answer is worth waiting for before anything is decided.
    """

    facts: AssistantFacts
    look_again: float | None
    wait: float | None


@dataclass(frozen=True, kw_only=True)
class _Named:
    """What the spec names."""

    model: ModelReference | None
    fallback: ModelReference | None
    guard: ModelReference | None
    indexes: tuple[IndexReference, ...]

    @property
    def epoch(self) -> str:
        """How all of it stands: when that changes, the gateway is asked again."""
        models = [(item.serving, item.reason) for item in (self.model, self.fallback, self.guard) if item]
        return names.content_hash(
            [models, [(item.name, item.serving, item.generation, item.chunks > 0) for item in self.indexes]]
        )


async def gather_assistant_facts(
    gatherer: Gatherer, assistant: Assistant, *, write_failures: Sequence[WriteFailure], now: datetime
) -> GatheredAssistant:
    """Return the facts about an Assistant."""
    key = Key(ASSISTANT.kind, assistant.namespace, assistant.name)
    mirror, spec, master = gatherer.mirror, assistant.spec, gatherer.master_key
    transport = await gatherer.certificate(key, names.gateway(assistant.name), uid=assistant.uid, now=now)
    gateways = of_component(pods_of(mirror, key), COMPONENT)
    pods = [await told_by_events(gatherer, pod, now=now) for pod in gateways]
    deployment = deployment_facts(mirror, key, uid=assistant.uid)
    reader = gatherer.referents.reader(gatherer.client, key)
    own = await named_secret(reader, assistant.namespace, spec.api_keys_secret_ref, master)
    stored = await gather_key(gatherer.client, _key_secret(assistant), deployment=deployment, pods=pods)
    wanted = spec.access.key_version
    versions = versions_in_use(wanted, stored=stored, deployment=deployment, pods=pods)
    keys = {at: _key(master, assistant, GATEWAY_PURPOSE, version=at) for at in versions}
    operator_key = _key(master, assistant, OPERATE_PURPOSE, version=1)
    named = await _named(gatherer, assistant)
    inquiry = GatewayInquiry(proof=proof_of(spec.grounding), epoch=named.epoch)
    polled = gatherer.poller.look(key, pods, key_of=lambda _: operator_key, inquiry=inquiry)
    facts = AssistantFacts(
        children=children(mirror, key, uid=assistant.uid),
        deployment=deployment,
        pods=polled.pods,
        tee=await gatherer.tee(key, spec.tee_policy_ref),
        nodes=gatherer.nodes.of(mirror),  # after `tee`, which may read some anew
        transport=transport,
        write_failures=tuple(write_failures),
        api_key=keys[wanted],
        other_keys={at: text for at, text in keys.items() if at != wanted},
        key=stored,
        own_keys=own,
        model=named.model,
        fallback=named.fallback,
        guard=named.guard,
        indexes=named.indexes,
        operator_key_sha256=hashlib.sha256(operator_key.encode()).hexdigest(),
    )
    return GatheredAssistant(facts=facts, look_again=next_setup_look(gateways, now=now), wait=polled.wait)


async def _named(gatherer: Gatherer, assistant: Assistant) -> _Named:
    spec, namespace = assistant.spec, assistant.namespace
    guard = ModelRef(name=spec.guard_ref.name) if spec.guard_ref is not None else None
    fallback = spec.fallback.model_ref if spec.fallback is not None else None
    model, second, guards = await asyncio.gather(
        *(_model(gatherer, namespace, ref) for ref in (spec.model_ref, fallback, guard))
    )
    indexes = await asyncio.gather(
        *(gather_index_reference(gatherer.client, namespace=namespace, name=ref.name) for ref in spec.index_refs)
    )
    return _Named(model=model, fallback=second, guard=guards, indexes=tuple(indexes))


async def _model(gatherer: Gatherer, namespace: str, ref: ModelRef | None) -> ModelReference | None:
    if ref is None:
        return None
    return await gather_model_reference(gatherer.client, namespace=namespace, name=ref.name)


def _key_secret(assistant: Assistant) -> KeySecret:
    return KeySecret(
        namespace=assistant.namespace,
        name=names.gateway_key(assistant.name),
        owner_uid=assistant.uid,
        wanted=assistant.spec.access.key_version,
    )


def _key(master: bytes, assistant: Assistant, purpose: str, *, version: int) -> str:
    return purpose_key(master, uid=assistant.uid, purpose=purpose, version=version)
