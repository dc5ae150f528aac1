# SPDX-License-Identifier: Apache-2.0
"""Holds a plan to what TEEPolicies allow: confines pods, drops what would make others, ends what must not be.

The last step of every kind's plan, so that no child escapes it. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nimblet import labels
from nimblet.api.common import ConditionStatus
from nimblet.api.teepolicy import PolicyStatus
from nimblet.conditions import ConditionType, Reason, Verdict, verdict
from nimblet.manifests.certificate import KIND as CERTIFICATE
from nimblet.manifests.common import Manifest
from nimblet.manifests.confine import WORKLOADS, confine, makes_pods, stopped
from nimblet.manifests.gate import opened
from nimblet.manifests.parts import part
from nimblet.plan.attest import Proof, judge_pods
from nimblet.plan.facts import ChildRef
from nimblet.plan.stage import problem
from nimblet.plan.strays import sheltering
from nimblet.plan.tee import NAMED, Guard
from nimblet.plan.teefacts import LivePod, LiveWorkload, TEEFacts

SECRET = "Secret"  # noqa: S105 - a kind, not a secret
NOBODY = "none"
"""No RuntimeClass has this name: no pod may mount it."""
PLAIN = "Traffic between pods: it is not encrypted, and passes the nodes in plaintext."
TLS_KEYS = "TLS between pods: its keys are in Secrets; who reads those can read or pretend to be the traffic."
QDRANT = "Traffic to Qdrant servers: it is not encrypted, and passes the nodes in plaintext."
SECRETS = "Secrets and ConfigMaps: the cluster's API holds them."
CLAIMS = "Claims: what lies on them lies outside of the guest."


@dataclass(frozen=True, kw_only=True)
class Held:
    """What is left of a plan."""

    children: tuple[Manifest, ...]
    deletions: tuple[ChildRef, ...]


def hold(guard: Guard, tee: TEEFacts, *, children: Sequence[Manifest], deletions: Iterable[ChildRef]) -> Held:
    """Return the children and deletions that the policies allow."""
    if not guard.binds:
        return Held(children=tuple(children), deletions=tuple(deletions))
    evicted = _evicted(guard, tee)
    live = {(item.kind, item.name) for item in tee.workloads}
    made = [_held(guard, tee, child, evicted=evicted, live=live) for child in children]
    kept = tuple(child for child in made if child is not None)
    scaled = {("StatefulSet", _name(child)) for child in kept if child["kind"] == "StatefulSet"}
    gone = tuple(
        ChildRef(kind=item.kind, name=item.name, uid=item.uid, version=item.version)
        for item in evicted
        if (item.kind, item.name) not in scaled and not item.keeps_claims
    )
    known = {ref.uid for ref in gone}
    return Held(children=kept, deletions=(*(ref for ref in deletions if ref.uid not in known), *gone))


def _evicted(guard: Guard, tee: TEEFacts) -> tuple[LiveWorkload, ...]:
    """Return what must end at once."""
    if not guard.evicts:
        return ()
    lost = sheltering(tee.workloads, guard.strays)
    return tuple(item for item in tee.workloads if item.runtime_class not in guard.allowed or item in lost)


def _held(
    guard: Guard,
    tee: TEEFacts,
    child: Manifest,
    *,
    evicted: Sequence[LiveWorkload],
    live: set[tuple[str, str]],
) -> Manifest | None:
    """Return a child as it may be applied; None where it may not be now."""
    kind = str(child["kind"])
    if kind not in WORKLOADS:
        gate = guard.confinement.gate if guard.confinement is not None else None
        if kind == "NetworkPolicy" and gate is not None:
            return opened(child, gate)
        return _marked(child, guard) if kind in (SECRET, CERTIFICATE) and guard.required else child
    identity = (kind, _name(child))
    ends = any((item.kind, item.name) == identity for item in evicted)
    if kind == "StatefulSet" and guard.evicts and (ends or _outside(guard, tee)):
        # scaled, not deleted: its claims may go with it. Its pods are to be gone before others come
        return stopped(confined(guard, child))
    runs_once = kind == "Job" and identity in live  # its template can't change
    # what ends is deleted in this pass, and made anew in the next
    if runs_once or ends or (guard.blocked is not None and makes_pods(child)):
        return None
    return confined(guard, child)


def _marked(child: Manifest, guard: Guard) -> Manifest:
    """Return a Secret that tells which pods may mount it: the API server's admission can ask nobody.

    Or the Certificate that a Secret is made for: it has the mark from its first moment.
    """
    mark = {labels.RUNTIME_CLASSES: ",".join(sorted(guard.allowed)) or NOBODY}
    if child["kind"] == SECRET:
        return {**child, "metadata": _annotated(_metadata(child), mark)}
    spec = part(child, "spec")
    return {**child, "spec": {**spec, "secretTemplate": _annotated(part(spec, "secretTemplate"), mark)}}


def _annotated(metadata: Manifest, mark: Mapping[str, str]) -> Manifest:
    given = metadata.get("annotations")
    return {**metadata, "annotations": {**(given if isinstance(given, dict) else {}), **mark}}


def _outside(guard: Guard, tee: TEEFacts) -> tuple[str, ...]:
    """Return the pods that run where the policies do not allow them."""
    return tuple(
        _whereabouts(pod) if pod in guard.strays else pod.name
        for pod in tee.pods
        if pod in guard.strays or pod.runtime_class not in guard.allowed
    )


def _whereabouts(pod: LivePod) -> str:
    """Return a pod whose node is not admitted, with the node."""
    return f"{pod.name} (on node {pod.node})" if pod.node else f"{pod.name} (for other nodes)"


def confined(guard: Guard, manifest: Manifest) -> Manifest:
    """Return a workload as it will be applied, where pods are judged by its hash."""
    return confine(manifest, guard.confinement) if guard.confinement is not None else manifest


def policy_verdicts(guard: Guard, tee: TEEFacts, proof: Proof, *, encrypted: bool) -> tuple[Verdict, ...]:
    """Return the condition PolicyEnforced; none where no policy binds. `encrypted`: the pods speak TLS."""
    if not guard.binds:
        return ()
    false, type_ = ConditionStatus.FALSE, ConditionType.POLICY_ENFORCED
    outside = _outside(guard, tee)
    flaw = guard.blocked or guard.unmet
    if flaw is not None:
        where = f" Pods that run all the same: {_few(outside)}." if outside and guard.blocked is not None else ""
        return (verdict(type_, false, flaw.reason, flaw.message + where),)
    if outside:
        what = "end" if guard.evicts else "stay until they are replaced"
        told = problem(Reason.POLICY_VIOLATED, f"Pods that run outside {what}: {_few(outside)}.")
        return (verdict(type_, false, told.reason, told.message),)
    return (_proof_verdict(guard, proof, encrypted=encrypted),)


def _proof_verdict(guard: Guard, proof: Proof, *, encrypted: bool) -> Verdict:
    """Return the condition where all pods are in their place."""
    type_ = ConditionType.POLICY_ENFORCED
    if proof.flaw is not None:
        return verdict(type_, ConditionStatus.FALSE, proof.flaw.reason, proof.flaw.message)
    if proof.pending is not None:
        return verdict(type_, ConditionStatus.UNKNOWN, proof.pending.reason, proof.pending.message)
    plain = guard.required and not encrypted
    transport = " Transport is plaintext on the node: tls.mode is Off." if plain else ""
    place = f"TEEPolicy {', '.join(guard.policies)}: {_technology(guard)} by RuntimeClass {_class(guard)}"
    if proof.status is not None and proof.hardware:
        found = (
            f"{place}, attested: the operator checked a token of verifier {proof.status.verifier} of every pod "
            f"that runs: signature, time, evidence, and the pod's answer to a nonce.{transport}"
        )
        return verdict(type_, ConditionStatus.TRUE, Reason.ATTESTED, found)
    tokens = " The gate's tokens passed all checks, and may be of sample evidence." if proof.status else ""
    found = (
        f"{place}, simulated: labels and RuntimeClass chose the place, and nothing proves it.{tokens}{transport}"
    )
    return verdict(type_, ConditionStatus.TRUE, Reason.SIMULATED, found)


def policy_status(guard: Guard, proof: Proof, *, encrypted: bool, uncovered: Iterable[str]) -> PolicyStatus | None:
    """Return what the policies come to, for the status."""
    if not guard.binds:
        return None
    return PolicyStatus(
        policies=list(guard.policies[:16]),
        enforcement="Required" if guard.required else "Preferred",
        technology=_technology(guard),
        runtime_class=_class(guard),
        proof=_proof_word(guard, proof),
        attestation=proof.status,
        initdata_sha256=guard.initdata_sha256,
        not_covered=[TLS_KEYS if encrypted else PLAIN, SECRETS, *uncovered],
    )


def judge_proof(guard: Guard, tee: TEEFacts, now: datetime) -> Proof:
    """Return what the pods that run prove."""
    return judge_pods(guard.gate, tee, now=now)


def _proof_word(guard: Guard, proof: Proof) -> str:
    if guard.place is None:
        return ""
    if not proof.hardware:
        return "Simulated"
    return "Attested" if proof.flaw is None and proof.pending is None else "Pending"


def _technology(guard: Guard) -> str:
    return guard.place.technology if guard.place is not None else ""


def _class(guard: Guard) -> str:
    """Return the RuntimeClass of what serves."""
    return guard.overhead.name if guard.overhead is not None else ""


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more


def _name(child: Manifest) -> str:
    return str(_metadata(child)["name"])


def _metadata(child: Manifest) -> Manifest:
    metadata = child["metadata"]
    if not isinstance(metadata, dict):
        raise TypeError(f"expected metadata to be a dict, found {type(metadata).__name__}")
    return metadata
