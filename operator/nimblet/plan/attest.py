# SPDX-License-Identifier: Apache-2.0
"""The attestation gate: what the policies ask of a token, and what the pods' tokens come to. Pure.

A pod's word counts nothing here: the operator judges the token itself, and the pod's signature of a nonce that the
operator issued. "Attested" is said of that alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from nimblet.api.attestation import AttestationStatus
from nimblet.api.teepolicy import Technology, TEEPolicy
from nimblet.conditions import Reason
from nimblet.manifests.confine import SERVER_COMPONENT
from nimblet.manifests.gate import GATE, GateForm
from nimblet.plan.initdata import measured
from nimblet.plan.stage import Problem, Progress, problem
from nimblet.plan.teefacts import AttestationTexts, LivePod, TEEFacts
from nimblet_attestation.claims import CPU
from nimblet_attestation.demands import MAX_KEYS, MAX_REFERENCES, Demands, Gate, Kbs, Reference
from nimblet_attestation.flaws import Refused
from nimblet_attestation.keys import VerifierKey, parse_keys
from nimblet_attestation.report import Challenge, verify_report
from nimblet_attestation.token import Proven

TEES: Final[Mapping[Technology, tuple[str, ...]]] = {
    "TDX": ("tdx", "az-tdx-vtpm"),
    "SNP": ("snp", "az-snp-vtpm"),
    "SGX": ("sgx",),
    "NVIDIA-CC": ("tdx", "snp", "az-tdx-vtpm", "az-snp-vtpm"),
}
"""Names of Trustee's verifiers for the guest's own hardware (KBS protocol, Request)."""
DEVICES: Final = ("nvidia",)
SAMPLE: Final = "sample"
SAMPLE_DEVICE: Final = "sampledevice"
"""What attests nothing, and is good for trying the gate."""
PENDING_SECONDS: Final = 5.0
GATE_REASONS: Final[Mapping[int, Reason]] = {
    90: Reason.TOKEN_MALFORMED,
    91: Reason.ALGORITHM_REFUSED,
    92: Reason.VERIFIER_UNKNOWN,
    93: Reason.TOKEN_SIGNATURE_INVALID,
    94: Reason.TOKEN_EXPIRED,
    95: Reason.TOKEN_NOT_YET_VALID,
    96: Reason.NOT_AFFIRMING,
    97: Reason.TECHNOLOGY_MISMATCH,
    98: Reason.REFERENCE_MISMATCH,
    99: Reason.INITDATA_MISMATCH,
    100: Reason.NONCE_MISMATCH,
    101: Reason.KEY_MISMATCH,
    102: Reason.EVIDENCE_UNAVAILABLE,
    103: Reason.VERIFIER_UNAVAILABLE,
    104: Reason.ATTESTATION_REFUSED,
}
"""Exit codes of the gate: of a confidential guest often nothing else comes out."""


@dataclass(frozen=True, kw_only=True)
class GatePlan:
    """What the policies ask of the pods' tokens."""

    hardware: bool
    demands: Demands
    server: Demands
    """Those of the model server, where a device goes with it."""
    kbs: Kbs | None

    def form(self, *, image: str, pull_policy: str, operator_namespace: str) -> GateForm:
        """Return the gate as it stands in pods."""
        return GateForm(
            image=image,
            pull_policy=pull_policy,
            text=self._text(self.demands),
            server_text=self._text(self.server),
            operator_namespace=operator_namespace,
            kbs_port=_port(self.kbs.url) if self.kbs is not None else None,
        )

    def _text(self, demands: Demands) -> str:
        gate = Gate(mode="Hardware" if self.hardware else "Simulated", demands=demands, kbs=self.kbs)
        return gate.model_dump_json(by_alias=True, exclude_none=True)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the pods' tokens come to. `flaw`: one proves nothing; `pending`: one has not been seen yet."""

    status: AttestationStatus | None = None
    flaw: Problem | None = None
    pending: Progress | None = None
    requeue_after: float | None = None
    hardware: bool = False


def gate_flaw(policy: TEEPolicy, tee: TEEFacts) -> Problem | None:
    """Return why no pod could ever be proved to a Required policy."""
    name, wanted = policy.name, policy.spec.attestation
    if wanted.mode == "Hardware":
        lacks = "verifier" if wanted.verifier is None else ""
        measures = any(item.device == CPU for item in wanted.reference_values)
        if not lacks and wanted.initdata is None and not measures:
            lacks = f"initdata or referenceValues of {CPU}"
        if lacks:
            found = f"TEEPolicy {name} asks for attestation.mode Hardware without {lacks}."
            return problem(Reason.ATTESTATION_UNAVAILABLE, found)
    if wanted.verifier is None:
        return None
    texts = tee.texts.get(name, AttestationTexts())
    keys = _keys(policy, tee)
    if isinstance(keys, str):
        return problem(Reason.ATTESTATION_UNAVAILABLE, f"TEEPolicy {name}: attestation.verifier {keys}.")
    if wanted.kbs is not None and wanted.kbs.ca_ref is not None and texts.ca is None:
        found = f"TEEPolicy {name}: the ConfigMap of attestation.kbs.caRef, or its key, is not there."
        return problem(Reason.ATTESTATION_UNAVAILABLE, found)
    return _initdata_flaw(policy, tee)


def _initdata_flaw(policy: TEEPolicy, tee: TEEFacts) -> Problem | None:
    """Return why no token could be held against a policy's initdata."""
    if policy.spec.attestation.initdata is None or measured(tee.initdata.get(policy.name, "")) is not None:
        return None
    found = f"TEEPolicy {policy.name}: the initdata names no hash (algorithm) by which a token could be compared."
    return problem(Reason.INITDATA_REFUSED, found)


def plan_gate(
    policies: Sequence[TEEPolicy], tee: TEEFacts, *, technology: Technology, device: bool
) -> GatePlan | Problem | None:
    """Return the gate of the Required policies, whose flaws were looked for before; None where none has one."""
    having = [policy for policy in policies if policy.spec.attestation.verifier is not None]
    if not having:
        return None
    keys = {_keys(policy, tee) for policy in having}
    brokers = {_kbs(policy, tee) for policy in having}
    references = tuple(dict.fromkeys(item for policy in having for item in _references(policy)))
    if len(keys) > 1 or len(brokers) > 1 or len(references) > MAX_REFERENCES:
        what = "verifiers" if len(keys) > 1 else "key brokers" if len(brokers) > 1 else "too many referenceValues"
        found = f"TEEPolicy {', '.join(policy.name for policy in having)} name different {what}."
        return problem(Reason.POLICIES_CONFLICT, found.replace("different too", "too"))
    # also of policies that have no verifier themselves: the pods carry their initdata through this gate
    unmeasured = next((flaw for flaw in (_initdata_flaw(policy, tee) for policy in policies) if flaw), None)
    if unmeasured is not None:
        return unmeasured
    pinned = keys.pop()
    hardware = any(policy.spec.attestation.mode == "Hardware" for policy in policies)
    texts = [tee.initdata.get(policy.name, "") for policy in policies if policy.spec.attestation.initdata]
    # what has no device can't show what one of them must be
    of_guest = tuple(item for item in references if item.device == CPU) if device else references
    demands = Demands(
        keys=pinned if not isinstance(pinned, str) else (),
        tees=TEES[technology] if hardware else (*TEES[technology], SAMPLE),
        references=of_guest,
        initdata=measured(texts[0]) if texts else None,
    )
    devices = DEVICES if hardware else (*DEVICES, SAMPLE_DEVICE)
    server = demands.model_copy(update={"devices": devices, "references": references}) if device else demands
    return GatePlan(hardware=hardware, demands=demands, server=server, kbs=brokers.pop())


def _keys(policy: TEEPolicy, tee: TEEFacts) -> tuple[VerifierKey, ...] | str:
    """Return the pinned keys, or what is wrong with their text."""
    verifier = policy.spec.attestation.verifier
    text = verifier.keys if verifier is not None else None
    text = text if text is not None else tee.texts.get(policy.name, AttestationTexts()).keys
    if text is None:
        return "names a key of a ConfigMap in the operator's namespace that is not there"
    found = parse_keys(text)
    if isinstance(found, str):
        return found
    return found if len(found) <= MAX_KEYS else f"names more than {MAX_KEYS} keys"


def _kbs(policy: TEEPolicy, tee: TEEFacts) -> Kbs | None:
    wanted = policy.spec.attestation.kbs
    if wanted is None:
        return None
    texts = tee.texts.get(policy.name, AttestationTexts())
    return Kbs(url=wanted.url, ca=texts.ca if wanted.ca_ref is not None else None)


def _references(policy: TEEPolicy) -> tuple[Reference, ...]:
    return tuple(
        Reference(device=item.device, pointer=item.claim, values=tuple(item.values))
        for item in policy.spec.attestation.reference_values
    )


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def judge_pods(gate: GatePlan | None, tee: TEEFacts, *, now: datetime) -> Proof:
    """Return what the pods that run prove to the operator itself: each what its own gate is asked for."""
    if gate is None:
        return Proof()
    proven: dict[str, Proven] = {}
    flaw: Problem | None = None
    silent: list[str] = []
    starting: list[str] = []
    for pod in sorted(tee.pods, key=lambda item: item.name):
        demands = gate.server if pod.component == SERVER_COMPONENT else gate.demands
        found = _judged(pod, tee, demands, now=now)
        if isinstance(found, Problem):
            flaw = flaw or found
        elif found is None:
            (silent if pod.opened else starting).append(pod.name)
        else:
            proven[pod.uid] = found
    return Proof(
        status=_status(gate, proven, tee),
        flaw=flaw,
        # of a pod whose gate is shut nothing runs yet
        pending=_pending(silent or ([] if proven else starting), flaw, proven),
        requeue_after=_next(tee, silent=bool(silent), now=now),
        hardware=gate.hardware,
    )


def _judged(pod: LivePod, tee: TEEFacts, demands: Demands, *, now: datetime) -> Proven | Problem | None:
    """Return what a pod's report proves, what is wrong with it, or None while there is none."""
    report = tee.reports.get(pod.uid)
    if report is None or not report.text:
        reason = GATE_REASONS.get(pod.gate_exit or 0)
        if reason is not None:
            found = f"The gate of pod {pod.name} ended with exit code {pod.gate_exit}: nothing behind it starts."
            return problem(reason, found)
        if not pod.gated:
            found = f"Pod {pod.name} has no gate: it runs since before the policy asks for one."
            return problem(Reason.POLICY_VIOLATED, found)
        return None
    challenge = Challenge(nonce=report.nonce, pod_uid=pod.uid)
    try:
        return verify_report(report.text, demands, challenge, now=now)
    except Refused as refused:
        return problem(Reason(refused.flaw.value), f"Pod {pod.name} is not proved. {refused.message}")


def _pending(silent: Sequence[str], flaw: Problem | None, proven: Mapping[str, Proven]) -> Progress | None:
    if flaw is not None or (proven and not silent):
        return None
    more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
    told = f"No token has been seen of pod {silent[0]}{more} yet" if silent else "No pod runs yet"
    message = f"{told}: its container {GATE} gets one before anything else there starts."
    return Progress(reason=Reason.ATTESTATION_PENDING, message=message)


def _status(gate: GatePlan, proven: Mapping[str, Proven], tee: TEEFacts) -> AttestationStatus:
    mode = "Hardware" if gate.hardware else "Simulated"
    if not proven:
        return AttestationStatus(mode=mode)
    first = next(iter(proven.values()))
    return AttestationStatus(
        mode=mode,
        verifier=first.verifier,
        evidence_sha256=first.evidence_sha256,
        nonce_time=min(tee.reports[uid].asked_at for uid in proven),
        expiry_time=datetime.fromtimestamp(min(item.expires for item in proven.values()), UTC),
        proved_pods=len(proven),
    )


def _next(tee: TEEFacts, *, silent: bool, now: datetime) -> float | None:
    """Return when to look again: soon at silent pods, else when a token is to be renewed."""
    due = [(report.again_at - now).total_seconds() for report in tee.reports.values()]
    if silent:
        due.append(PENDING_SECONDS)
    return max(min(due), 1.0) if due else None
