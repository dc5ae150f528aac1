# SPDX-License-Identifier: Apache-2.0
"""Gathers what decides on confidential places: policies, the namespace's labels, RuntimeClasses, initdata, pods.

Policies are read anew in each pass, and not from the mirror: a watch may lag behind the resource that it must hold
back. What can't be read is told as such, so that the plan makes no pod. It decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nimblet import labels
from nimblet.api.common import ConfigMapKeyRef, PolicyRef
from nimblet.api.teepolicy import TEEPolicy, TEEPolicySpec
from nimblet.cluster.attestation import Challenger, GatedPod
from nimblet.cluster.client import Client
from nimblet.cluster.errors import ApiError, Transient
from nimblet.cluster.key import Key, controller_key
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.observed import ConfigMap, ContainerStatus, Job, Pod, RuntimeClass, Workload, metadata_of
from nimblet.cluster.parse import parse_spec
from nimblet.cluster.podfailure import ENDED_PHASES
from nimblet.cluster.resources import CONFIG_MAP, NAMESPACE, NODE, RUNTIME_CLASS, TEE_POLICY
from nimblet.manifests.gate import GATE
from nimblet.plan.strays import has_labels
from nimblet.plan.tee import bound_policies
from nimblet.plan.teefacts import AttestationTexts, LivePod, LiveWorkload, PodReport, RuntimeClassFacts, TEEFacts
from nimblet.quantity import bytes_of, millicores_of

WORKLOAD_KINDS: Final = ("Deployment", "StatefulSet", "Job")
ENDED: Final = frozenset({"Complete", "Failed"})


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A resource that policies may bind."""

    key: Key
    ref: PolicyRef | None
    operator_namespace: str
    """Where initdata lies, and the other texts that policies name."""
    challenger: Challenger | None = None
    """Who asks the gates; nobody where plans are only shown."""
    planned: tuple[TEEPolicy, ...] = ()
    """Policies that count as if they were in the cluster, where plans are only shown."""


async def tee_facts(client: Client, mirror: Mirror, bound: Bound) -> TEEFacts:
    """Return the facts; what the API server refuses to show is told in `unreadable`."""
    try:
        return await _read(client, mirror, bound)
    except Transient:
        raise  # the whole pass is tried again
    except ApiError as error:
        return TEEFacts(unreadable=f"What TEEPolicies ask for can't be read: {error.detail.rstrip('.')}.")


async def _read(client: Client, mirror: Mirror, bound: Bound) -> TEEFacts:
    policies: dict[str, TEEPolicy] = {}
    async for body in client.list(TEE_POLICY):
        name, spec = metadata_of(body).name, parse_spec(body, TEEPolicySpec)
        if isinstance(spec, str):
            # it may bind anybody
            return TEEFacts(unreadable=f"TEEPolicy {name} is not understood: {spec}")
        policies[name] = TEEPolicy(name=name, spec=spec)
    policies |= {policy.name: policy for policy in bound.planned}
    known = tuple(policies[name] for name in sorted(policies))
    if not known:
        return TEEFacts()
    labels_ = await _namespace_labels(client, bound.key.namespace)
    if labels_ is None:
        return TEEFacts(unreadable=f"Namespace {bound.key.namespace} is not there.")
    facts = TEEFacts(policies=known, namespace_labels=labels_)
    binding = bound_policies(bound.ref, facts)
    if not binding:
        return facts
    if any(policy.spec.on_violation == "Evict" for policy in binding):
        await _look_at_nodes(client, mirror, bound.key)
    gated = any(policy.spec.attestation.verifier is not None for policy in binding)
    return TEEFacts(
        policies=known,
        namespace_labels=labels_,
        runtime_classes=await _runtime_classes(client),
        initdata=await _initdata(client, binding, namespace=bound.operator_namespace),
        workloads=_workloads(mirror, bound.key),
        pods=_pods(mirror, bound.key),
        texts=await _texts(client, binding, namespace=bound.operator_namespace),
        reports=await _reports(mirror, bound) if gated else {},
        operator_namespace=bound.operator_namespace,
    )


async def _look_at_nodes(client: Client, mirror: Mirror, key: Key) -> None:
    """Read anew the nodes that lack labels which their pods were placed by.

    The scheduler saw them there: they vanished since, or what is seen of nodes is older than what is seen of pods.
    The former ends pods, the latter must not.
    """
    for name in sorted({pod.spec.node_name for pod in _live(mirror, key) if not _suits(mirror, pod)}):
        async for body in client.list(NODE, field_selector=f"metadata.name={name}"):
            mirror.put(NODE.kind, body)


def _suits(mirror: Mirror, pod: Pod) -> bool:
    """Tell whether a pod's node has the labels that it was placed by; of a node that is not known nothing is."""
    node = mirror.get(NODE.kind, "", pod.spec.node_name)
    return node is None or has_labels(metadata_of(node).labels, pod.spec.node_selector)


async def _namespace_labels(client: Client, name: str) -> Mapping[str, str] | None:
    body = await client.get(NAMESPACE, name=name)
    return dict(metadata_of(body).labels) if body is not None else None


async def _runtime_classes(client: Client) -> tuple[RuntimeClassFacts, ...]:
    found = [RuntimeClass.model_validate(body) async for body in client.list(RUNTIME_CLASS)]
    return tuple(
        RuntimeClassFacts(
            name=item.metadata.name,
            memory_bytes=bytes_of(item.overhead.pod_fixed.get("memory", "0")),
            cpu_millicores=millicores_of(item.overhead.pod_fixed.get("cpu", "0")),
            node_labels=dict(item.scheduling.node_selector),
        )
        for item in sorted(found, key=lambda item: item.metadata.name)
    )


async def _initdata(client: Client, policies: tuple[TEEPolicy, ...], *, namespace: str) -> Mapping[str, str]:
    """Return each policy's initdata, as the ConfigMap has it."""
    found: dict[str, str] = {}
    for policy in policies:
        wanted = policy.spec.attestation.initdata
        if wanted is None:
            continue
        text = await _text(client, wanted.config_map_ref, namespace=namespace)
        if text is not None:
            found[policy.name] = text.strip()
    return found


async def _text(client: Client, ref: ConfigMapKeyRef | None, *, namespace: str) -> str | None:
    if ref is None:
        return None
    body = await client.get(CONFIG_MAP, namespace=namespace, name=ref.name)
    return ConfigMap.model_validate(body).data.get(ref.key) if body is not None else None


async def _texts(
    client: Client, policies: tuple[TEEPolicy, ...], *, namespace: str
) -> Mapping[str, AttestationTexts]:
    """Return what each policy's attestation names: the verifier's keys and the broker's roots."""
    found: dict[str, AttestationTexts] = {}
    for policy in policies:
        verifier, kbs = policy.spec.attestation.verifier, policy.spec.attestation.kbs
        if verifier is not None:
            found[policy.name] = AttestationTexts(
                keys=await _text(client, verifier.config_map_ref, namespace=namespace),
                ca=await _text(client, kbs.ca_ref if kbs is not None else None, namespace=namespace),
            )
    return found


async def _reports(mirror: Mirror, bound: Bound) -> Mapping[str, PodReport]:
    """Return what the gates that are open answer."""
    if bound.challenger is None:
        return {}
    asked = [
        GatedPod(uid=pod.metadata.uid, ip=pod.status.pod_ip)
        for pod in _live(mirror, bound.key)
        if _is_open(pod) and pod.status.pod_ip
    ]
    return await bound.challenger.reports(bound.key, asked)


def _workloads(mirror: Mirror, key: Key) -> tuple[LiveWorkload, ...]:
    found = []
    for kind in WORKLOAD_KINDS:
        for body in mirror.owned(key, kind):
            item = Workload.model_validate(body)
            ours = controller_key(item.metadata) == key
            if not ours or (kind == "Job" and _has_ended(Job.model_validate(body))):
                continue
            found.append(
                LiveWorkload(
                    kind=kind,
                    name=item.metadata.name,
                    uid=item.metadata.uid,
                    runtime_class=item.spec.template.spec.runtime_class_name,
                    keeps_claims=bool(item.spec.volume_claim_templates),
                    component=item.metadata.labels.get(labels.COMPONENT, ""),
                    created_at=item.metadata.creation_timestamp,
                    version=item.metadata.resource_version,
                )
            )
    return tuple(found)


def _has_ended(job: Job) -> bool:
    return any(item.type in ENDED and item.status == "True" for item in job.status.conditions)


def _pods(mirror: Mirror, key: Key) -> tuple[LivePod, ...]:
    return tuple(
        LivePod(
            name=pod.metadata.name,
            runtime_class=pod.spec.runtime_class_name,
            component=pod.metadata.labels.get(labels.COMPONENT, ""),
            node=pod.spec.node_name,
            node_selector=dict(pod.spec.node_selector),
            created_at=pod.metadata.creation_timestamp,
            uid=pod.metadata.uid,
            gated=not pod.status.container_statuses or pod.container(GATE) is not None,
            opened=_is_open(pod) or _works(pod),
            gate_exit=_gate_exit(pod.container(GATE)),
        )
        for pod in _live(mirror, key)
    )


def _live(mirror: Mirror, key: Key) -> list[Pod]:
    pods = (Pod.model_validate(body) for body in mirror.owned(key, "Pod"))
    return [pod for pod in pods if pod.status.phase not in ENDED_PHASES]


def _is_open(pod: Pod) -> bool:
    gate = pod.container(GATE)
    return gate is not None and gate.ready


def _works(pod: Pod) -> bool:
    """Tell whether a container beside a gate runs: while the gate is down, nothing proves what it let through."""
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    gated = pod.container(GATE) is not None
    return gated and any(item.state.running is not None for item in statuses if item.name != GATE)


def _gate_exit(gate: ContainerStatus | None) -> int | None:
    """Return with which code a gate ended that has not let anybody through since."""
    if gate is None or gate.ready:
        return None
    ended = gate.state.terminated or gate.last_state.terminated
    return ended.exit_code if ended is not None else None
