# SPDX-License-Identifier: Apache-2.0
"""Children of a CompactModel: those any valid spec has, and the Deployment once the artifact is known. Pure."""

from nimblet import names
from nimblet.api.compactmodel import CompactModel, SizingStatus
from nimblet.manifests.common import Manifest
from nimblet.manifests.configuration import (
    api_key_manifest,
    fetch_policy_manifest,
    service_account_manifest,
)
from nimblet.manifests.deployment import Workload, deployment_manifest
from nimblet.manifests.loader import LoaderPod
from nimblet.manifests.network import (
    disruption_budget_manifest,
    resolver_policy_manifest,
    server_policy_manifest,
    service_manifest,
)
from nimblet.plan.artifact import Artifact, Header
from nimblet.plan.facts import ModelFacts
from nimblet.plan.runtime.llamacpp import LlamaCpp, llamacpp_container
from nimblet.plan.sizing import (
    Demand,
    progress_deadline_seconds,
    scratch_volume_bytes,
    startup_seconds,
)
from nimblet.plan.source import claim_of, policy_text, scheme_of
from nimblet.settings import Settings

KEY_VERSION = 1
DEFAULT_CONTEXT = 4096
"""Enough for a question, three passages and an answer; small enough for a laptop's memory."""
BUDGET_FROM_REPLICAS = 2


def plan_common(model: CompactModel, facts: ModelFacts, settings: Settings) -> tuple[Manifest, ...]:
    """Return the children that depend on no artifact, in the order configuration, identity, network."""
    name, namespace = model.name, model.namespace
    hosts = facts.secret.hosts if facts.secret is not None else ()
    allow = settings.fetch.allow
    blocks = sorted({entry.cidr for entry in allow if entry.cidr is not None})
    any_private = any(entry.allow_private and entry.cidr is None for entry in allow)
    offline = claim_of(model.spec) is not None
    policy = policy_text(
        settings,
        credential_hosts=hosts,
        scheme=scheme_of(model.spec),
        with_role=model.spec.source.role_arn is not None,
    )
    children: list[Manifest] = [
        fetch_policy_manifest(name, namespace, text=policy),
        service_account_manifest(name, namespace, name=names.resolver(name), component="resolver"),
        service_account_manifest(name, namespace, name=names.server(name), component="model"),
        resolver_policy_manifest(name, namespace, private_blocks=blocks, any_private=any_private, offline=offline),
        server_policy_manifest(
            name,
            namespace,
            operator_namespace=settings.access.operator_namespace,
            metrics_namespaces=settings.access.metrics_namespaces,
            private_blocks=blocks,
            any_private=any_private,
            offline=offline,
        ),
        service_manifest(name, namespace),
    ]
    if facts.api_key:
        children.insert(0, api_key_manifest(name, namespace, api_key=facts.api_key, version=KEY_VERSION))
    if model.spec.replicas >= BUDGET_FROM_REPLICAS:
        children.append(disruption_budget_manifest(name, namespace))
    return tuple(children)


def context_length(model: CompactModel, header: Header) -> int:
    """Return the tokens of context per slot: the spec's, or 4096 and never more than the model's maximum."""
    wanted = model.spec.runtime.context_length
    if wanted is not None:
        return wanted
    return min(DEFAULT_CONTEXT, header.context_length) if header.context_length else DEFAULT_CONTEXT


def demand(model: CompactModel, header: Header, settings: Settings) -> Demand:
    """Return what sizing is asked for."""
    runtime = model.spec.runtime
    return Demand(
        context_length=context_length(model, header),
        parallel=runtime.parallel,
        kv_cache_type=runtime.kv_cache_type,
        prompt_cache_mebibytes=settings.prompt_cache_mebibytes,
        cpu=model.spec.resources.cpu,
        memory=model.spec.resources.memory,
    )


def plan_deployment(
    model: CompactModel,
    artifact: Artifact,
    sizing: SizingStatus,
    settings: Settings,
    *,
    loader: LoaderPod,
    image: str,
) -> Manifest:
    """Return the Deployment; `loader` and `image` carry the images that were chosen for this spec."""
    paths = sorted(file.path for file in artifact.files)
    server = LlamaCpp(
        image=image,
        alias=model.name,
        model_file=paths[0],  # llama.cpp finds the other parts of a split model beside the first
        context_length=context_length(model, artifact.header),
        parallel=model.spec.runtime.parallel,
        kv_cache_type=model.spec.runtime.kv_cache_type,
        prompt_cache_mebibytes=settings.prompt_cache_mebibytes,
        threads=sizing.threads,
        startup_seconds=startup_seconds(artifact.total_bytes),
    )
    return deployment_manifest(
        Workload(
            loader=loader,
            server=llamacpp_container(server),
            replicas=model.spec.replicas,
            strategy=model.spec.rollout.strategy,
            memory=sizing.memory,
            cpu=sizing.cpu,
            volume_bytes=scratch_volume_bytes(artifact.total_bytes),
            drain_seconds=settings.timing.drain_seconds,
            progress_deadline_seconds=progress_deadline_seconds(artifact.total_bytes),
        )
    )
