# SPDX-License-Identifier: Apache-2.0
"""Children of a CompactModel: those any valid spec has, and the Deployment once the artifact is known. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nimblet import labels, names
from nimblet.api.access import EndpointAccess
from nimblet.api.compactmodel import CompactModel, SizingStatus, Task
from nimblet.api.hardware import HardwareClass
from nimblet.manifests.cache import CacheMount
from nimblet.manifests.common import Manifest, Part
from nimblet.manifests.configuration import (
    API_KEY,
    api_key_manifest,
    fetch_policy_manifest,
    service_account_manifest,
)
from nimblet.manifests.deployment import PodOptions, Workload, deployment_manifest
from nimblet.manifests.loader import DRAFT_POLICY, IMAGE_FOLDER, LoaderPod, policy_key
from nimblet.manifests.network import (
    Callers,
    disruption_budget_manifest,
    fetch_egress,
    resolver_policy_manifest,
    server_policy_manifest,
    service_manifest,
)
from nimblet.plan.adapters import Adapters, adapters_label, views
from nimblet.plan.artifact import Artifact, Header, parse_artifact
from nimblet.plan.cache import filler_children
from nimblet.plan.draft import Draft
from nimblet.plan.facts import FIRST_KEY, ChildRef, ModelFacts, WorkloadFacts
from nimblet.plan.keys import KeyPlan
from nimblet.plan.mounted import beside_of, config_folder, told
from nimblet.plan.references import OWN_KEYS_ENTRY
from nimblet.plan.runtime.interface import Pooled, Runtime, Serve, Wish
from nimblet.plan.sizing import (
    Demand,
    adapted_matrices,
    progress_deadline_seconds,
    scratch_volume_bytes,
    startup_seconds,
)
from nimblet.plan.source import CLAIM_SCHEME, claim_of, policy_text, scheme_of
from nimblet.plan.speculative import draft_view, speculation_of
from nimblet.plan.task import head_outputs, physical_batch, pooling_of
from nimblet.plan.transport import Transport
from nimblet.plan.weights import needs_egress
from nimblet.settings import Settings

DEFAULT_CONTEXT = 4096
"""Enough for a question, three passages and an answer; small enough for a laptop's memory."""
BUDGET_FROM_REPLICAS = 2
MAX_RESTART_TEXT = 64


def wanted_replicas(model: CompactModel) -> int:
    """Return the pods that should be: none while suspended, whatever `replicas` says."""
    return 0 if model.spec.suspend else model.spec.replicas


def plan_common(
    model: CompactModel,
    facts: ModelFacts,
    settings: Settings,
    *,
    keys: KeyPlan,
    image: str | None,
    transport: Transport,
) -> tuple[Manifest, ...]:
    """Return the children that depend on no artifact, in the order configuration, identity, network.

    `image`: what the weights are mounted from, if from an image.
    """
    name, namespace = model.name, model.namespace
    server = Part(owner=name, namespace=namespace, component="model")
    resolver = Part(owner=name, namespace=namespace, component="resolver")
    hosts = facts.secret.hosts if facts.secret is not None else ()
    allow = settings.fetch.allow
    blocks = sorted({entry.cidr for entry in allow if entry.cidr is not None})
    any_private = any(entry.allow_private and entry.cidr is None for entry in allow)
    further = _further(model)
    fetching = fetch_egress(private_blocks=blocks, any_private=any_private)
    # a claim is read without any network
    egress = [] if all(claim_of(view.spec) is not None for view in (model, *further.values())) else fetching
    policy = policy_text(
        settings,
        credential_hosts=hosts,
        scheme=scheme_of(model.spec),
        with_role=model.spec.source.role_arn is not None,
    )
    children: list[Manifest] = [
        fetch_policy_manifest(name, namespace, text=policy, others=_further_policies(further, facts, settings)),
        service_account_manifest(resolver, name=names.resolver(name)),
        service_account_manifest(server, name=names.server(name)),
        resolver_policy_manifest(resolver, egress=egress),
        server_policy_manifest(
            server,
            callers=callers_of(model.spec.access, settings),
            egress=(egress or _older_ways(facts, fetching)) if needs_egress(model, facts, image=image) else (),
        ),
        *filler_children(model, settings, egress=egress),
        transport.service(service_manifest(server, name=names.server(name))),
        *transport.children,
    ]
    if keys.api_key:
        children.insert(0, _key_secret(model, keys))
    if model.spec.replicas >= BUDGET_FROM_REPLICAS:
        children.append(disruption_budget_manifest(server, name=names.server(name)))
    return tuple(children)


def _older_ways(facts: ModelFacts, fetching: Sequence[Manifest]) -> Sequence[Manifest]:
    """Return the egress of pods of an earlier source: while they serve, one that is lost is fetched for anew."""
    live = {item.source_hash for item in (*facts.pods, facts.deployment) if item is not None}
    known = (parse_artifact(item.text) for item in facts.artifacts if item.source_hash in live)
    return fetching if any(item is not None and not item.uri.startswith(CLAIM_SCHEME) for item in known) else ()


def _further(model: CompactModel) -> dict[str, CompactModel]:
    """Return the model as each of its further sources is seen, by the entry of that one's fetch policy."""
    found = {policy_key(adapter.name): view for adapter, view in views(model)}
    draft = draft_view(model)
    return found if draft is None else {**found, DRAFT_POLICY: draft}


def _further_policies(
    further: Mapping[str, CompactModel], facts: ModelFacts, settings: Settings
) -> dict[str, str]:
    """Return the fetch policy of each further source, by its entry: a Secret goes to its own hosts alone."""
    found = {}
    for entry, view in further.items():
        ref = view.spec.source.credentials_secret_ref
        secret = facts.adapter_secrets.get(ref.name) if ref is not None else None
        found[entry] = policy_text(
            settings,
            credential_hosts=secret.hosts if secret is not None else (),
            scheme=scheme_of(view.spec),
            with_role=view.spec.source.role_arn is not None,
        )
    return found


def callers_of(access: EndpointAccess, settings: Settings) -> Callers:
    """Return who may call an endpoint: whom its spec names, and the administrator's scrapers."""
    selector = access.namespace_selector
    return Callers(
        operator_namespace=settings.access.operator_namespace,
        namespaces=(*settings.access.metrics_namespaces, *access.namespaces),
        namespace_labels=selector.match_labels if selector is not None else {},
    )


def _key_secret(model: CompactModel, keys: KeyPlan) -> Manifest:
    return api_key_manifest(
        Part(owner=model.name, namespace=model.namespace, component="key"),
        name=names.api_key(model.name),
        api_key=keys.api_key,
        entries=keys.entries,
        annotations=key_annotations(keys),
    )


def key_annotations(keys: KeyPlan) -> dict[str, str]:
    """Return what a key Secret tells of itself: the version of its key, and since when."""
    annotations = {labels.KEY_VERSION: str(keys.published)}
    if keys.published_at is not None:
        annotations[labels.KEY_PUBLISHED_AT] = keys.published_at.isoformat()
    return annotations


def pointless_budget(facts: WorkloadFacts, *, replicas: int) -> tuple[ChildRef, ...]:
    """Return the budget that one replica makes pointless."""
    if replicas >= BUDGET_FROM_REPLICAS:
        return ()
    return tuple(child for child in facts.children if child.kind == "PodDisruptionBudget")


def unstoppable(facts: WorkloadFacts, *, suspended: bool, kind: str = "Deployment") -> tuple[ChildRef, ...]:
    """Return the workload of a suspended resource whose spec renders none: it can't be scaled, so it goes."""
    if not suspended or facts.deployment is None:
        return ()
    return (ChildRef(kind=kind, name=facts.deployment.name, uid=facts.deployment.uid),)


def restart_of(asked: str, facts: WorkloadFacts) -> str:
    """Return the request for a restart that the pods obey; one that was taken away again restarts nothing.

    Any text will do. One that is no good as an annotation that people read is shortened to its hash.
    """
    if not asked:
        return facts.deployment.restarted_at if facts.deployment is not None else ""
    return asked if len(asked) <= MAX_RESTART_TEXT and asked.isprintable() else names.content_hash(asked)


def pod_options(model: CompactModel, facts: ModelFacts, keys: KeyPlan) -> PodOptions:
    """Return what the template has beyond a plain model's."""
    secret, template = model.spec.access.api_keys_secret_ref, model.spec.runtime.chat_template
    annotations = {}
    if restart := restart_of(model.restarted_at, facts):
        annotations[labels.RESTARTED_AT] = restart
    if secret is not None and facts.own_keys is not None:
        annotations[labels.KEYS_HASH] = facts.own_keys.content_hash
    if template is not None and facts.chat_template is not None:
        annotations[labels.CHAT_TEMPLATE_HASH] = facts.chat_template.content_hash
    rotated = keys.accepted != FIRST_KEY
    return PodOptions(
        key_entry=names.key_entry(keys.accepted) if rotated else "",
        own_keys=(secret.name, OWN_KEYS_ENTRY) if secret is not None else None,
        chat_template=template,
        labels={labels.KEY_VERSIONS: names.version_text(keys.accepted)} if rotated else {},
        annotations=annotations,
    )


def context_length(model: CompactModel, header: Header) -> int:
    """Return the tokens of context per slot: the spec's, or 4096 and never more than the model's maximum."""
    wanted = model.spec.runtime.context_length
    if wanted is not None:
        return wanted
    return min(DEFAULT_CONTEXT, header.context_length) if header.context_length else DEFAULT_CONTEXT


def demand(
    model: CompactModel,
    header: Header,
    settings: Settings,
    *,
    adapters: Sequence[Artifact] = (),
    draft: Artifact | None = None,
) -> Demand:
    """Return what sizing is asked for."""
    runtime = model.spec.runtime
    speculation = speculation_of(runtime)
    return Demand(
        context_length=context_length(model, header),
        parallel=runtime.parallel,
        kv_cache_type=runtime.kv_cache_type,
        prompt_cache_mebibytes=0 if model.spec.adapters else prompt_cache(model.spec.task, settings),
        task=model.spec.task,
        cpu=model.spec.resources.cpu,
        memory=model.spec.resources.memory,
        draft_tokens=speculation.draft_tokens if speculation is not None else 0,
        draft=draft.header if draft is not None else None,
        adapter_bytes=sum(adapter.header.tensor_bytes for adapter in adapters),
        adapted_matrices=adapted_matrices([adapter.header for adapter in adapters], header),
        adapter_ranks=tuple(adapter.header.adapter.rank for adapter in adapters if adapter.header.adapter),
    )


def prompt_cache(task: Task, settings: Settings) -> int:
    """Return --cache-ram in MiB: none where no prompt is ever continued."""
    return settings.prompt_cache_mebibytes if task == "Chat" else 0


def pooled(task: Task, header: Header, context: int) -> Pooled | None:
    """Return what a task that answers with numbers adds to the server; None for Chat."""
    if task == "Chat":
        return None
    return Pooled(
        task=task,
        pooling=pooling_of(task, header),
        ubatch=physical_batch(task, header, context),
        architecture=header.architecture,
        outputs=head_outputs(header),
    )


def wish_of(model: CompactModel, artifact: Artifact, adapters: Sequence[Artifact] = ()) -> Wish:
    """Return what a server is wanted for."""
    runtime, access = model.spec.runtime, model.spec.access
    return Wish(
        format=artifact.format,
        task=model.spec.task,
        architecture=artifact.header.architecture,
        model_type=artifact.header.model_type or "",
        kv_cache_type=runtime.kv_cache_type,
        chat_template=runtime.chat_template is not None,
        own_keys=access.api_keys_secret_ref is not None,
        key_version=access.key_version,
        speculation=speculation_of(runtime),
        parallel=runtime.parallel,
        adapter_ranks=tuple(adapter.header.adapter.rank for adapter in adapters if adapter.header.adapter),
        adapter_scales=any(adapter.scale_percent is not None for adapter in model.spec.adapters or ()),
    )


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server that was chosen, and what it runs on."""

    runtime: Runtime
    image: str
    hardware: HardwareClass
    devices: int


@dataclass(frozen=True, kw_only=True)
class Served:
    """All that a model's Deployment is rendered from. The weights come from `cache`, `weights`, or a loader."""

    model: CompactModel
    artifact: Artifact
    sizing: SizingStatus
    settings: Settings
    loader: LoaderPod
    """With the image that was chosen for this spec, as `server` has."""
    server: Server
    options: PodOptions
    cache: CacheMount | None
    weights: str | None
    """The image that they are mounted from."""
    adapters: Adapters
    draft: Draft | None

    @property
    def mounted(self) -> str:
        """The folder of the files on their volume."""
        if self.cache is not None:
            return self.cache.folder
        return IMAGE_FOLDER if self.weights is not None else ""


def plan_deployment(served: Served) -> Manifest:
    """Return the Deployment."""
    model, artifact, sizing, settings = served.model, served.artifact, served.sizing, served.settings
    server, adapters = served.server, served.adapters
    beside = beside_of(adapters, served.draft, cache=served.cache)
    serve = told(_serve(served), beside, adapters, served.draft)
    held = artifact.total_bytes + beside.total_bytes
    return deployment_manifest(
        Workload(
            loader=served.loader,
            server=server.runtime.container(serve),
            replicas=wanted_replicas(model),
            strategy=model.spec.rollout.strategy,
            memory=sizing.memory,
            cpu=sizing.cpu,
            volume_bytes=scratch_volume_bytes(artifact.total_bytes),
            drain_seconds=settings.timing.drain_seconds,
            progress_deadline_seconds=progress_deadline_seconds(held)
            + server.runtime.extra_startup.get(serve.hardware, 0),
            cache=served.cache,
            weights_image=served.weights,
            options=served.options,
            adapters=beside.mounts,
            adapters_label=adapters_label(adapters.names, runtime=server.runtime.name) if adapters.pieces else "",
        )
    )


def _serve(served: Served) -> Serve:
    """Return what the server's container depends on, but for what is mounted beside its weights."""
    model, artifact, sizing, settings = served.model, served.artifact, served.sizing, served.settings
    server, options, mounted = served.server, served.options, served.mounted
    # llama.cpp finds the other parts of a split model beside the first
    first = min(file.path for file in artifact.files)
    folder = "/".join(part for part in (mounted, config_folder(artifact)) if part)
    context = context_length(model, artifact.header)
    return Serve(
        image=server.image,
        hardware=server.hardware,
        devices=max(server.devices, 1),
        alias=model.spec.served_model_name or model.name,
        model_file=f"{mounted}/{first}" if mounted else first,
        folder=folder,
        context_length=context,
        parallel=model.spec.runtime.parallel,
        kv_cache_type=model.spec.runtime.kv_cache_type,
        kv_cache_bytes=sizing.kv_cache_bytes,
        prompt_cache_mebibytes=0 if model.spec.adapters else prompt_cache(model.spec.task, settings),
        threads=sizing.threads,
        startup_seconds=startup_seconds(artifact.total_bytes),
        key_secret=(names.api_key(model.name), API_KEY),
        pooled=pooled(model.spec.task, artifact.header, context),
        own_keys=options.own_keys is not None,
        chat_template=options.chat_template is not None,
        speculation=speculation_of(model.spec.runtime),
    )
