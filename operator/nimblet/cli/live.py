# SPDX-License-Identifier: Apache-2.0
"""What commands read from a cluster, with the caller's own kubeconfig. Reads only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from nimblet.api.common import StatusModel
from nimblet.api.compactmodel import CompactModel
from nimblet.api.teepolicy import TEEPolicy
from nimblet.cli.errors import CommandError
from nimblet.cli.inputs import model_of, parse_settings
from nimblet.cluster.client import Client, connect
from nimblet.cluster.errors import ApiError, NotConfigured
from nimblet.cluster.facts import artifacts, children, deployment_facts, key_secret, model_pods
from nimblet.cluster.jobfacts import job_facts
from nimblet.cluster.key import Key
from nimblet.cluster.keyfacts import gather_key
from nimblet.cluster.mirror import WAKING_KINDS, Mirror
from nimblet.cluster.named import Named, gather_named, gather_trust
from nimblet.cluster.nodefacts import node_facts
from nimblet.cluster.observed import Job, Pod
from nimblet.cluster.parse import status_of
from nimblet.cluster.resources import COMPACT_MODEL, CONFIG_MAP, Resource
from nimblet.cluster.resync import rebuild
from nimblet.cluster.teefacts import Bound, tee_facts
from nimblet.cluster.trim import WATCHED
from nimblet.conditions import ConditionType
from nimblet.merging import find
from nimblet.plan.facts import Answer, DeploymentFacts, JobFacts, ModelFacts, Observation, PodFacts, SecretFacts
from nimblet.plan.transportfacts import TransportFacts
from nimblet.settings import Settings

SETTINGS_NAME: Final = "nimblet-operator"
SETTINGS_KEY: Final = "settings.json"

S = TypeVar("S", bound=StatusModel)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Which model of which cluster."""

    name: str
    namespace: str
    kubeconfig: Path | None


@asynccontextmanager
async def reading(kubeconfig: Path | None) -> AsyncIterator[Client]:
    """Give a client; errors of the API server become CommandError."""
    try:
        client = await connect(kubeconfig)
    except NotConfigured as error:
        raise CommandError(str(error)) from error
    try:
        yield client
    except ApiError as error:
        raise CommandError(f"the API server refused: {error}; check your rights and the names") from error
    finally:
        await client.close()


async def read_live_model(client: Client, target: Target) -> CompactModel:
    """Return the model as stored in the cluster."""
    body = await client.get(COMPACT_MODEL, namespace=target.namespace, name=target.name)
    if body is None:
        raise CommandError(
            f"expected a CompactModel {target.name} in namespace {target.namespace}, found none; "
            "see `kubectl get compactmodels -A`, and give -n NAMESPACE"
        )
    return model_of(body, where=f"{target.namespace}/{target.name}", namespace=target.namespace)


async def read_live_status(client: Client, target: Target, resource: Resource, status: type[S]) -> S:
    """Return the stored status of a resource of another kind of ours."""
    body = await client.get(resource, namespace=target.namespace, name=target.name)
    if body is None:
        raise CommandError(
            f"expected the {resource.kind} {target.name} in namespace {target.namespace}, found none; "
            f"see `kubectl get {resource.plural} -A`, and give -n NAMESPACE"
        )
    return status_of(body, status)


async def with_live_status(client: Client, model: CompactModel) -> CompactModel:
    """Return the model with uid and status of the stored one of its name, as an edit of it would have."""
    body = await client.get(COMPACT_MODEL, namespace=model.namespace, name=model.name)
    if body is None:
        return model
    live = model_of(body, where=f"{model.namespace}/{model.name}", namespace=model.namespace)
    generation = live.generation if live.spec == model.spec else live.generation + 1
    return model.model_copy(update={"uid": live.uid, "generation": generation, "status": live.status})


async def read_live_settings(client: Client, *, operator_namespace: str) -> Settings:
    """Return the settings the operator runs with."""
    body = await client.get(CONFIG_MAP, namespace=operator_namespace, name=SETTINGS_NAME)
    if body is None:
        raise CommandError(
            f"expected the operator's ConfigMap {SETTINGS_NAME} in namespace {operator_namespace}, found none; "
            "give --operator-namespace NAME or --settings FILE"
        )
    text = str((body.get("data") or {}).get(SETTINGS_KEY, ""))
    return parse_settings(text, where=f"ConfigMap {operator_namespace}/{SETTINGS_NAME}")


async def read_live_facts(
    client: Client, model: CompactModel, *, operator_namespace: str, policies: tuple[TEEPolicy, ...] = ()
) -> ModelFacts:
    """Return the facts as the operator would gather them, with policies that are only planned, but for two things.

    Pods are not asked for a token: a ready one counts as it did in the stored status. And the API key is not
    known here, so that no plan of this command holds the key Secret.
    """
    mirror = Mirror()
    await rebuild(client, mirror, namespaces=(model.namespace,), kinds=set(WATCHED) - WAKING_KINDS)
    key = Key(COMPACT_MODEL.kind, model.namespace, model.name)
    ended = find(model.status.conditions, ConditionType.RESOLVED)
    otherwise = ended.last_transition_time if ended is not None else None
    jobs = tuple(facts for _, facts in jobs_as_read(mirror, key, otherwise=otherwise))
    bound = Bound(key=key, ref=model.spec.tee_policy_ref, operator_namespace=operator_namespace, planned=policies)
    deployment = deployment_facts(mirror, key, uid=model.uid)
    named = await gather_named(client, model, master_key=b"")
    secret, own_keys = _as_planned(named, jobs, deployment)
    pods = tuple(_as_stored(pod, model) for pod in model_pods(mirror, key))
    nodes = tuple(sorted((node_facts(body) for body in mirror.of_kind("Node")), key=lambda node: node.name))
    return ModelFacts(
        children=children(mirror, key, uid=model.uid),
        jobs=jobs,
        artifacts=artifacts(mirror, key, uid=model.uid),
        secret=secret,
        own_keys=own_keys,
        weights_key=named.weights_key,
        adapter_secrets=named.adapter_secrets,
        chat_template=named.chat_template,
        trust=await gather_trust(client, model),
        key=await gather_key(client, key_secret(model), deployment=deployment, pods=pods),
        deployment=deployment,
        pods=pods,
        nodes=nodes,
        tee=await tee_facts(client, mirror, bound),
        transport=certificate_as_read(deployment),
    )


def jobs_as_read(mirror: Mirror, key: Key, *, otherwise: datetime | None) -> tuple[tuple[Job, JobFacts], ...]:
    """Return the Jobs of a resource; one without a time of its own counts from `otherwise`, without that not."""
    pods = [Pod.model_validate(body) for body in mirror.owned(key, "Pod")]
    found = []
    for body in mirror.owned(key, "Job"):
        job = Job.model_validate(body)
        created = job.metadata.creation_timestamp or otherwise
        if created is not None:
            found.append((job, job_facts(job, pods, now=created)))
    return tuple(found)


def certificate_as_read(deployment: DeploymentFacts | None) -> TransportFacts:
    """Return the certificate that the pods have, which is not looked at: it counts as good."""
    return TransportFacts(assumed=deployment.certificate if deployment is not None else "")


def _as_stored(pod: PodFacts, model: CompactModel) -> PodFacts:
    serving = find(model.status.conditions, ConditionType.SERVING)
    detail = (
        f"not asked; the stored status says Serving {serving.status.value if serving is not None else 'nothing'}"
    )
    return replace(pod, observation=Observation(answer=Answer.BUSY, detail=detail)) if pod.ready else pod


def _as_planned(
    named: Named, jobs: tuple[JobFacts, ...], deployment: DeploymentFacts | None
) -> tuple[SecretFacts | None, SecretFacts | None]:
    """Return both Secrets as unchanged since the operator saw them: its keyed hash can't be computed here."""
    latest = max(jobs, key=lambda job: job.attempt, default=None)
    secret, own = named.secret, named.own_keys
    if secret is not None and latest is not None:
        secret = replace(secret, content_hash=latest.credentials_hash)
    if own is not None and deployment is not None and deployment.keys_hash:
        own = replace(own, content_hash=deployment.keys_hash)
    return secret, own
