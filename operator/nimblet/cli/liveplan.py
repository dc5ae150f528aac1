# SPDX-License-Identifier: Apache-2.0
"""Facts for `nimblet plan` out of a cluster, with the caller's own kubeconfig. Reads only, and asks no pod.

What the operator alone knows is taken from what it has written: a pod that is ready answers as the stored status
says, a retriever and its servers hold what that lists, and keys stay unknown, so that no plan holds a key's
Secret.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict, Field

from nimblet import names
from nimblet.api.assistant import Assistant
from nimblet.api.common import Condition, ModelRef, PolicyRef
from nimblet.api.compactmodel import CompactModel
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.api.teepolicy import TEEPolicy
from nimblet.cli.inputs import R, S, own_of
from nimblet.cli.live import certificate_as_read, jobs_as_read, read_live_facts, with_live_status
from nimblet.cli.planning import Known, within
from nimblet.cli.toldbefore import retriever_as_told
from nimblet.cluster.claimfacts import owned_claim, storage_classes
from nimblet.cluster.client import Client
from nimblet.cluster.facts import children, deployment_facts, of_component, pod_facts, pods_of
from nimblet.cluster.indexfacts import build_facts, gather_index_named
from nimblet.cluster.indexref import gather_index_reference
from nimblet.cluster.key import Key
from nimblet.cluster.keyfacts import KeySecret, gather_key
from nimblet.cluster.mirror import WAKING_KINDS, Mirror
from nimblet.cluster.modelref import gather_model_reference
from nimblet.cluster.named import named_secret
from nimblet.cluster.nodefacts import node_facts
from nimblet.cluster.observed import ConfigMap
from nimblet.cluster.parse import Invalid, parse_assistant, parse_retrievalindex
from nimblet.cluster.podsecurity import pod_security
from nimblet.cluster.resources import ASSISTANT, CONFIG_MAP, RETRIEVAL_INDEX, Resource
from nimblet.cluster.resync import rebuild
from nimblet.cluster.serverfacts import servers_as_read
from nimblet.cluster.teefacts import Bound, tee_facts
from nimblet.cluster.trim import WATCHED
from nimblet.conditions import ConditionType
from nimblet.manifests.gateway import COMPONENT as GATEWAY
from nimblet.manifests.retriever import COMPONENT as RETRIEVER
from nimblet.manifests.retriever import CONFIG_FILE
from nimblet.plan.assistantfacts import AssistantFacts, IndexReference
from nimblet.plan.facts import Answer, ModelFacts, NodeFacts, Observation, PodFacts
from nimblet.plan.index_children import workload_kind
from nimblet.plan.indexfacts import IndexFacts
from nimblet.plan.modelfacts import ModelReference
from nimblet.plan.teefacts import TEEFacts
from nimblet.plan.verdicts import was_true
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Live:
    """A source of facts: a cluster, and the files before it."""

    client: Client
    settings: Settings
    policies: tuple[TEEPolicy, ...] = ()
    """Of the files: they count as if they were applied."""
    mirrors: dict[str, Mirror] = field(default_factory=dict)

    @property
    def _operator_namespace(self) -> str:
        return self.settings.access.operator_namespace

    async def model(self, model: CompactModel) -> tuple[CompactModel, ModelFacts]:
        """Return the facts about a model."""
        model = await with_live_status(self.client, model)
        facts = await read_live_facts(
            self.client, model, operator_namespace=self._operator_namespace, policies=self.policies
        )
        level = await pod_security(self.client, model.namespace, self.settings)
        return model, replace(facts, pod_security=level)

    async def index(self, index: RetrievalIndex, known: Known) -> tuple[RetrievalIndex, IndexFacts]:
        """Return the facts about an index."""
        index = await self._stored(index, RETRIEVAL_INDEX, parse_retrievalindex)
        mirror, key = await self._mirror(index.namespace), Key(RETRIEVAL_INDEX.kind, index.namespace, index.name)
        named = await gather_index_named(self.client, index, master_key=b"")
        spec, bundle, namespace = index.spec, known.bundle, index.namespace
        pods = _pods(mirror, key, RETRIEVER, index.status.conditions)
        embedded, claimed = spec.store.type == "Embedded", spec.store.type != "External"
        servers = await servers_as_read(self.client, mirror, index, key)
        deployment = deployment_facts(mirror, key, uid=index.uid, kind=workload_kind(index))
        ended = next((it.last_transition_time for it in index.status.conditions), None)
        return index, IndexFacts(
            children=children(mirror, key, uid=index.uid),
            deployment=deployment,
            transport=certificate_as_read(deployment),
            pods=pods,
            nodes=_nodes(mirror),
            tee=await self._tee(mirror, key, spec.tee_policy_ref),
            builds=tuple(build_facts(job, facts) for job, facts in jobs_as_read(mirror, key, otherwise=ended)),
            claim=owned_claim(mirror, key, uid=index.uid, name=names.index_claim(index.name))
            if embedded
            else None,
            storage_classes=await storage_classes(self.client) if claimed else None,
            retriever=retriever_as_told(index, servers, pods),
            servers=servers,
            embedding=_overlaid(known, namespace, spec.embedding.model_ref, named.embedding),
            reranker=_overlaid(known, namespace, spec.search.reranker_ref, named.reranker),
            secrets={**named.secrets, **within(bundle.secrets, namespace)},
            config_maps={**named.config_maps, **within(bundle.config_maps, namespace)},
            claims={**named.claims, **within(bundle.claims, namespace)},
        )

    async def assistant(self, assistant: Assistant, known: Known) -> tuple[Assistant, AssistantFacts]:
        """Return the facts about an Assistant."""
        assistant = await self._stored(assistant, ASSISTANT, parse_assistant)
        spec, namespace = assistant.spec, assistant.namespace
        mirror, key = await self._mirror(namespace), Key(ASSISTANT.kind, namespace, assistant.name)
        deployment = deployment_facts(mirror, key, uid=assistant.uid)
        pods = _pods(mirror, key, GATEWAY, assistant.status.conditions)
        own = spec.api_keys_secret_ref
        guard = ModelRef(name=spec.guard_ref.name) if spec.guard_ref is not None else None
        kept = KeySecret(
            namespace=namespace,
            name=names.gateway_key(assistant.name),
            owner_uid=assistant.uid,
            wanted=spec.access.key_version,
        )
        in_files = within(known.bundle.secrets, namespace).get(own.name) if own is not None else None
        return assistant, AssistantFacts(
            children=children(mirror, key, uid=assistant.uid),
            deployment=deployment,
            transport=certificate_as_read(deployment),
            pods=pods,
            nodes=_nodes(mirror),
            tee=await self._tee(mirror, key, spec.tee_policy_ref),
            key=await gather_key(self.client, kept, deployment=deployment, pods=pods),
            own_keys=in_files or await named_secret(self.client, namespace, own, b""),
            model=await self._model(known, namespace, spec.model_ref),
            fallback=await self._model(
                known, namespace, spec.fallback.model_ref if spec.fallback is not None else None
            ),
            guard=await self._model(known, namespace, guard),
            indexes=tuple([await self._index(known, namespace, ref.name) for ref in spec.index_refs]),
            operator_key_sha256=await self._operator_key(assistant),
        )

    async def _stored(
        self, resource: R, kind: Resource, parse: Callable[[Mapping[str, object]], R | Invalid[S]]
    ) -> R:
        """Return the resource with uid and status of the stored one of its name, as an edit of it would have."""
        body = await self.client.get(kind, namespace=resource.namespace, name=resource.name)
        if body is None:
            return resource
        where = f"{resource.namespace}/{resource.name}"
        live = own_of(body, parse, where=where, namespace=resource.namespace)
        generation = live.generation if live.spec == resource.spec else live.generation + 1
        return resource.model_copy(update={"uid": live.uid, "generation": generation, "status": live.status})

    async def _mirror(self, namespace: str) -> Mirror:
        if namespace not in self.mirrors:
            mirror = self.mirrors[namespace] = Mirror()
            await rebuild(self.client, mirror, namespaces=(namespace,), kinds=set(WATCHED) - WAKING_KINDS)
        return self.mirrors[namespace]

    async def _tee(self, mirror: Mirror, key: Key, ref: PolicyRef | None) -> TEEFacts:
        bound = Bound(key=key, ref=ref, operator_namespace=self._operator_namespace, planned=self.policies)
        return await tee_facts(self.client, mirror, bound)

    async def _model(self, known: Known, namespace: str, ref: ModelRef | None) -> ModelReference | None:
        if ref is None:
            return None
        planned = known.models.get((namespace, ref.name))
        return planned or await gather_model_reference(self.client, namespace=namespace, name=ref.name)

    async def _index(self, known: Known, namespace: str, name: str) -> IndexReference:
        planned = known.indexes.get((namespace, name))
        return planned or await gather_index_reference(self.client, namespace=namespace, name=name)

    async def _operator_key(self, assistant: Assistant) -> str:
        """Return the hash of the operator's key as the gateway's present configuration has it."""
        if not assistant.status.configuration:
            return ""
        name = names.gateway_config(assistant.name, config_hash=assistant.status.configuration)
        body = await self.client.get(CONFIG_MAP, namespace=assistant.namespace, name=name)
        text = ConfigMap.model_validate(body).data.get(CONFIG_FILE) if body is not None else None
        return _Configuration.model_validate_json(text).operator_key.sha256 if text else ""


class _OperatorKey(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sha256: str = ""


class _Configuration(BaseModel):
    """The part of a gateway's configuration that can't be rendered without the operator's own key."""

    model_config = ConfigDict(extra="ignore")

    operator_key: _OperatorKey = Field(default=_OperatorKey(), alias="operatorKey")


def _overlaid(
    known: Known, namespace: str, ref: ModelRef | None, found: ModelReference | None
) -> ModelReference | None:
    """Return a model as the files tell of it, before what the cluster has."""
    return known.models.get((namespace, ref.name), found) if ref is not None else None


def _nodes(mirror: Mirror) -> tuple[NodeFacts, ...]:
    return tuple(sorted((node_facts(body) for body in mirror.of_kind("Node")), key=lambda node: node.name))


def _pods(mirror: Mirror, key: Key, component: str, conditions: Sequence[Condition]) -> tuple[PodFacts, ...]:
    """Return the pods; a ready one answers where the stored status says that the resource serves."""
    serves = was_true(conditions, ConditionType.SERVING)
    told = Observation(answer=Answer.ANSWERED if serves else Answer.BUSY, detail="not asked")
    pods = (pod_facts(pod) for pod in of_component(pods_of(mirror, key), component))
    return tuple(replace(pod, observation=told) if pod.ready else pod for pod in pods)
