# SPDX-License-Identifier: Apache-2.0
"""Gathers what a plan may look at: from the mirror, from the pods, and a user's Secret by its name.

The only reader of the loop. It decides nothing; a Secret's values end here as a keyed hash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Final

from nimblet import labels, names
from nimblet.api.common import PolicyRef
from nimblet.api.compactmodel import CompactModel
from nimblet.cluster.adapterquestion import adapter_question
from nimblet.cluster.attestation import Challenger, challenger_of
from nimblet.cluster.certificates import Bearer, Certifier, tls_host
from nimblet.cluster.child import known_images
from nimblet.cluster.claimfacts import (
    JOB_NAME,
    cache_folder_of,
    claim_facts,
    filling_pods,
    further_folders_of,
    storage_classes,
    with_progress,
)
from nimblet.cluster.client import Client
from nimblet.cluster.issued import Requests
from nimblet.cluster.jobfacts import is_fill, job_facts, lacks_result, refusal_words
from nimblet.cluster.key import Key
from nimblet.cluster.keyfacts import KeySecret, gather_key, key_versions, versions_in_use
from nimblet.cluster.masterkey import api_key
from nimblet.cluster.mirror import CLUSTER_KINDS, OWN_KINDS, Mirror
from nimblet.cluster.named import gather_named
from nimblet.cluster.nodefacts import NodeMemory
from nimblet.cluster.observe import Observer
from nimblet.cluster.observed import ConfigMap, Deployment, Job, Pod, Terminated, metadata_of
from nimblet.cluster.podfailure import ENDED_PHASES, LOADER, SERVER, pod_failure
from nimblet.cluster.poll import Poller
from nimblet.cluster.question import questions
from nimblet.cluster.referents import Referents
from nimblet.cluster.resources import CONFIG_MAP, POD
from nimblet.cluster.stuck import blocked_job, eviction, next_job_look, next_setup_look, setup_failure
from nimblet.cluster.teefacts import Bound, tee_facts
from nimblet.cluster.trim import TRIMS, Object, trim_pod
from nimblet.manifests.configuration import ARTIFACT_KEY
from nimblet.manifests.loader import ADAPTER_LOADER, DRAFT_LOADER
from nimblet.plan.artifact import parse_digests
from nimblet.plan.facts import (
    ArtifactFacts,
    ChildRef,
    DeploymentFacts,
    JobFacts,
    ModelFacts,
    PodFacts,
    TrustTextFacts,
    WriteFailure,
)
from nimblet.plan.teefacts import TEEFacts
from nimblet.plan.transport import Wanted
from nimblet.plan.transportfacts import TransportFacts

CHILD_KINDS: Final = tuple(kind for kind in TRIMS if kind not in OWN_KINDS | CLUSTER_KINDS | {"Pod"})


@dataclass(frozen=True, kw_only=True)
class Gatherer:
    """What facts are read from."""

    client: Client
    mirror: Mirror
    observer: Observer
    poller: Poller
    master_key: bytes
    server_minor: int
    operator_namespace: str
    nodes: NodeMemory = field(default_factory=NodeMemory)
    certifier: Certifier | None = None
    """Who knows certificates; None where our pods speak plain HTTP."""
    requests: Requests | None = None
    """What cert-manager was asked for; None where no issuer is named."""
    referents: Referents = field(default_factory=Referents)

    @cached_property
    def challenger(self) -> Challenger:
        """Who asks the gates of pods in confidential places."""
        return challenger_of(self.observer.session)

    async def tee(self, key: Key, ref: PolicyRef | None) -> TEEFacts:
        """Return what decides on confidential places for one resource."""
        bound = Bound(key=key, ref=ref, operator_namespace=self.operator_namespace, challenger=self.challenger)
        return await tee_facts(self.client, self.mirror, bound)

    async def certificate(
        self, key: Key, service: str, *, uid: str, now: datetime, peers: bool = False
    ) -> TransportFacts:
        """Return the certificate of the pods behind a Service of a resource; `peers`: they ask each other, too."""
        wanted = Wanted(service=service, namespace=key.namespace, peers=peers)
        bearer = Bearer(key=key, uid=uid)
        request = self.requests.facts(bearer, wanted.secret) if self.requests is not None else None
        if self.certifier is None:
            return TransportFacts(request=request)
        return await self.certifier.gather(self.client, wanted, bearer, request, now)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Facts, and the seconds after which they are old without any event telling; None: events suffice."""

    facts: ModelFacts
    look_again: float | None


@dataclass(frozen=True, kw_only=True)
class WantedSources:
    """What a spec's sources are known by: hashes of theirs and of the texts that their trust is read from."""

    hashes: Sequence[str]
    trust: Mapping[str, TrustTextFacts]


async def gather_model_facts(
    gatherer: Gatherer,
    model: CompactModel,
    wanted: WantedSources,
    *,
    write_failures: Sequence[WriteFailure],
    now: datetime,
) -> Gathered:
    """Return the facts about a CompactModel."""
    key = Key("CompactModel", model.namespace, model.name)
    mirror = gatherer.mirror
    transport = await gatherer.certificate(key, names.server(model.name), uid=model.uid, now=now)
    owned = pods_of(mirror, key)
    servers = of_component(owned, "model")
    pods = [await told_by_events(gatherer, pod, now=now) for pod in servers]
    deployment = deployment_facts(mirror, key, uid=model.uid)
    if transport.live is None and deployment is not None:  # what is not good makes no other spec of what runs
        transport = replace(transport, assumed=deployment.certificate)
    named = await gather_named(gatherer.client, model, master_key=gatherer.master_key)
    stored = await gather_key(gatherer.client, key_secret(model), deployment=deployment, pods=pods)
    versions = versions_in_use(model.spec.access.key_version, stored=stored, deployment=deployment, pods=pods)
    keys = {at: api_key(gatherer.master_key, uid=model.uid, version=at) for at in versions}
    jobs = await _jobs(gatherer, key, uid=model.uid, pods=owned, now=now)
    cached = model.spec.cache is not None
    # a suspended model waits for no try, and without its artifact its Deployment would go
    tries = () if model.spec.suspend else jobs.resolving
    for hash_ in wanted.hashes:
        found = await gather_artifacts(gatherer, key, uid=model.uid, wanted=hash_, jobs=tries)
    seen = await gatherer.observer.observe(
        key,
        (*pods, *filling_pods(owned)),
        key_of=lambda pod: keys[pod.key_versions[-1]],
        questions=questions(model.spec.task, found),
        adapters_of=lambda pod: adapter_question(pod.adapters, model.spec.adapter_names),
    )
    facts = ModelFacts(
        children=children(mirror, key, uid=model.uid),
        jobs=jobs.resolving,
        artifacts=found,
        secret=named.secret,
        own_keys=named.own_keys,
        weights_key=named.weights_key,
        adapter_secrets=named.adapter_secrets,
        chat_template=named.chat_template,
        trust=wanted.trust,
        deployment=deployment,
        pods=seen[: len(pods)],
        tee=await gatherer.tee(key, model.spec.tee_policy_ref),
        nodes=gatherer.nodes.of(mirror),  # after `tee`, which may read some anew
        transport=transport,
        fills=with_progress(jobs.filling, seen[len(pods) :]),
        claim=claim_facts(mirror, model) if cached else None,
        storage_classes=await storage_classes(gatherer.client) if cached else None,
        write_failures=tuple(write_failures),
        api_key=keys[model.spec.access.key_version],
        other_keys={at: text for at, text in keys.items() if at != model.spec.access.key_version},
        key=stored,
        server_minor=gatherer.server_minor,
    )
    waits = (gatherer.observer.next_look(seen), jobs.look_again, next_setup_look(servers, now=now))
    return Gathered(facts=facts, look_again=min((wait for wait in waits if wait is not None), default=None))


async def told_by_events(gatherer: Gatherer, pod: Pod, *, now: datetime) -> PodFacts:
    """Return a serving pod; where its own status says nothing, with the reason out of its Events."""
    facts = pod_facts(pod)
    told = await setup_failure(gatherer.client, pod, now=now) or await eviction(gatherer.client, pod, now=now)
    return replace(facts, failure=told) if told is not None else facts


@dataclass(frozen=True, kw_only=True)
class _Jobs:
    """The resolver's Jobs and the cache filler's; `look_again`: seconds until one that runs may tell more."""

    resolving: tuple[JobFacts, ...]
    filling: tuple[JobFacts, ...]
    look_again: float | None


async def _jobs(gatherer: Gatherer, key: Key, *, uid: str, pods: Sequence[Pod], now: datetime) -> _Jobs:
    found, look_again = await jobs_of(gatherer, key, uid=uid, pods=pods, now=now)
    resolving = [facts for job, facts in found if not is_fill(job)]
    filling = [facts for job, facts in found if is_fill(job)]
    resolving.sort(key=lambda facts: (facts.source_hash, facts.attempt))
    filling.sort(key=lambda facts: (facts.folder, facts.attempt))
    return _Jobs(resolving=tuple(resolving), filling=tuple(filling), look_again=look_again)


async def jobs_of(
    gatherer: Gatherer, key: Key, *, uid: str, pods: Sequence[Pod], now: datetime
) -> tuple[list[tuple[Job, JobFacts]], float | None]:
    """Return a resource's Jobs with what is known of them, and the seconds until one that runs may tell more."""
    found: list[tuple[Job, JobFacts]] = []
    waits: list[float] = []
    for body in gatherer.mirror.owned(key, "Job"):
        job = Job.model_validate(body)
        if not _controls(body, uid):
            continue
        known = pods
        facts = job_facts(job, known, now=now)
        if lacks_result(facts):
            known = await _pods_of_job(gatherer.client, job)
            facts = job_facts(job, known, now=now)
        blocked = await blocked_job(gatherer.client, job, known, now=now)
        found.append((job, replace(facts, failure=blocked) if blocked is not None else facts))
        if not facts.ended:
            waits.append(next_job_look(job, known, now=now))
    return found, min(waits, default=None)


async def _pods_of_job(client: Client, job: Job) -> list[Pod]:
    """Read the pods of a finished Job: their last event may come after the Job's."""
    selector = labels.selector_string({JOB_NAME: job.metadata.name})
    listed = client.list(POD, namespace=job.metadata.namespace, label_selector=selector)
    return [Pod.model_validate(trim_pod(body)) async for body in listed]


def key_secret(model: CompactModel) -> KeySecret:
    """Return a model's key Secret."""
    return KeySecret(
        namespace=model.namespace,
        name=names.api_key(model.name),
        owner_uid=model.uid,
        wanted=model.spec.access.key_version,
    )


async def gather_artifacts(
    gatherer: Gatherer, key: Key, *, uid: str, wanted: str, jobs: Sequence[JobFacts]
) -> tuple[ArtifactFacts, ...]:
    """Return the stored artifacts; one that the mirror lacks is asked for by its name before a try is planned.

    A list from a lagging API server may hide it, and a try more would fetch from the source for nothing. So may a
    Job that ended well and whose pod is gone: what is seen of Jobs may be older than what became of it.
    """
    known = artifacts(gatherer.mirror, key, uid=uid)
    on_its_way = any(job.source_hash == wanted and not job.failed and not lacks_result(job) for job in jobs)
    if on_its_way or any(item.source_hash == wanted for item in known):
        return known
    name = names.artifact(key.name, source_hash=wanted)
    body = await gatherer.client.get(CONFIG_MAP, namespace=key.namespace, name=name)
    if body is None:
        return known
    gatherer.mirror.put("ConfigMap", body)
    return artifacts(gatherer.mirror, key, uid=uid)


def _controls(body: Object, uid: str) -> bool:
    owner = metadata_of(body).controller()
    return owner is not None and owner.uid == uid


def children(mirror: Mirror, key: Key, *, uid: str) -> tuple[ChildRef, ...]:
    """Return every mirrored object whose controller is the resource with this uid."""
    found = []
    for kind in CHILD_KINDS:
        for body in mirror.owned(key, kind):
            if _controls(body, uid):
                metadata = metadata_of(body)
                found.append(
                    ChildRef(kind=kind, name=metadata.name, uid=metadata.uid, labels=dict(metadata.labels))
                )
    return tuple(found)


def artifacts(mirror: Mirror, key: Key, *, uid: str) -> tuple[ArtifactFacts, ...]:
    """Return the stored artifacts of a model."""
    found = []
    for body in mirror.owned(key, "ConfigMap"):
        config = ConfigMap.model_validate(body)
        if config.metadata.labels.get(labels.COMPONENT) == "artifact" and _controls(body, uid):
            found.append(
                ArtifactFacts(
                    name=config.metadata.name,
                    uid=config.metadata.uid,
                    source_hash=config.metadata.labels.get(labels.SOURCE_HASH, ""),
                    text=config.data.get(ARTIFACT_KEY, ""),
                )
            )
    return tuple(found)


def deployment_facts(mirror: Mirror, key: Key, *, uid: str, kind: str = "Deployment") -> DeploymentFacts | None:
    """Return the resource's Deployment, or its workload of another kind; None where there is none."""
    bodies = [body for body in mirror.owned(key, kind) if _controls(body, uid)]
    return workload_facts(bodies[0]) if bodies else None


def workload_facts(body: Object) -> DeploymentFacts:
    """Return what a Deployment or another workload says of itself."""
    found = Deployment.model_validate(body)
    template, annotations = found.spec.template.metadata.labels, found.spec.template.metadata.annotations
    conditions = {condition.type: condition for condition in found.status.conditions}
    progressing, refused = conditions.get("Progressing"), conditions.get("ReplicaFailure")
    return DeploymentFacts(
        name=found.metadata.name,
        uid=found.metadata.uid,
        generation=found.metadata.generation,
        observed_generation=found.status.observed_generation,
        revision=template.get(labels.REVISION, ""),
        source_hash=template.get(labels.SOURCE_HASH, ""),
        replicas=found.status.replicas,
        updated_replicas=found.status.updated_replicas,
        progress_deadline_exceeded=progressing is not None
        and progressing.status == "False"
        and progressing.reason == "ProgressDeadlineExceeded",
        refused=refusal_words(refused.message) if refused is not None and refused.status == "True" else "",
        cache_folder=cache_folder_of(found.spec.template.metadata),
        further_folders=further_folders_of(found.spec.template.metadata),
        images=known_images(found),
        weights_image=template.get(labels.WEIGHTS_IMAGE, ""),
        key_versions=key_versions(template),
        restarted_at=annotations.get(labels.RESTARTED_AT, ""),
        keys_hash=annotations.get(labels.KEYS_HASH, ""),
        certificate=annotations.get(labels.CERTIFICATE, ""),
    )


def model_pods(mirror: Mirror, key: Key) -> tuple[PodFacts, ...]:
    """Return the pods of a model's server, sorted by name; what was asked of them is added later."""
    return tuple(pod_facts(pod) for pod in of_component(pods_of(mirror, key), "model"))


def pods_of(mirror: Mirror, key: Key) -> list[Pod]:
    """Return all pods of a resource."""
    return [Pod.model_validate(body) for body in mirror.owned(key, "Pod")]


def of_component(pods: Sequence[Pod], component: str) -> list[Pod]:
    """Return the pods of one component."""
    return [pod for pod in pods if pod.metadata.labels.get(labels.COMPONENT) == component]


def pod_facts(pod: Pod) -> PodFacts:
    """Return a serving pod as the plan sees it."""
    server, loader = pod.container(SERVER), pod.container(LOADER)
    return PodFacts(
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        revision=pod.metadata.labels.get(labels.REVISION, ""),
        source_hash=pod.metadata.labels.get(labels.SOURCE_HASH, ""),
        ready=is_ready(pod),
        terminating=pod.metadata.deletion_timestamp is not None,
        ended=pod.status.phase in ENDED_PHASES,
        created_at=pod.metadata.creation_timestamp,
        node=pod.spec.node_name,
        ip=pod.status.pod_ip,
        container_id=server.container_id if server is not None else "",
        failure=pod_failure(pod),
        loading=loader is not None and loader.state.running is not None,
        digests=_digests(loader.state.terminated) if loader is not None else {},
        cache_folder=cache_folder_of(pod.metadata),
        further_folders=further_folders_of(pod.metadata),
        beside=frozenset(
            item.name
            for item in pod.status.init_container_statuses
            if item.name == DRAFT_LOADER or item.name.startswith(ADAPTER_LOADER)
        ),
        weights_image=pod.metadata.labels.get(labels.WEIGHTS_IMAGE, ""),
        key_versions=key_versions(pod.metadata.labels),
        tls_host=tls_host(pod.metadata),
        adapters=pod.metadata.labels.get(labels.ADAPTERS, ""),
    )


def is_ready(pod: Pod) -> bool:
    """Tell whether a pod is ready by its probe."""
    ready = pod.condition("Ready")
    return ready is not None and ready.status == "True"


def _digests(ended: Terminated | None) -> dict[str, str]:
    return parse_digests(ended.message) if ended is not None and ended.exit_code == 0 else {}
