# SPDX-License-Identifier: Apache-2.0
"""What the TEEPolicies that bind a resource ask of its pods, and whether the cluster can give it. Pure.

Several policies come to the strictest: what all Required ones allow, with every demand that any of them makes.
Whatever is not known counts against making a pod. Labels and RuntimeClasses choose a place and prove nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from nimblet.api.common import PolicyRef
from nimblet.api.teepolicy import Technology, TEEPolicy
from nimblet.conditions import Reason
from nimblet.manifests.confine import INITDATA, Confinement
from nimblet.manifests.gate import GateForm
from nimblet.plan.attest import GatePlan, gate_flaw, plan_gate
from nimblet.plan.facts import NodeFacts
from nimblet.plan.initdata import initdata_flaw
from nimblet.plan.places import PLACES, Place
from nimblet.plan.stage import Problem, problem
from nimblet.plan.strays import Admission, has_labels, wanted_labels
from nimblet.plan.teefacts import LivePod, RuntimeClassFacts, TEEFacts

NAMED: Final = 5
"""Nodes named in a message."""


@dataclass(frozen=True, kw_only=True)
class Bindable:
    """A resource as policies see it. `signed` is None where it loads no weights."""

    ref: PolicyRef | None
    signed: bool | None = None
    key_places: frozenset[str] = frozenset()
    """Where the keys of its weights are, KBS or Secret: the model's, its adapters' and its drafting model's."""
    plain: tuple[str, ...] = ()
    """Which of these are plaintext, in words."""
    beside: tuple[str, ...] = ()
    """Which there are beside the model, in words."""
    before: str = ""
    """Technology that its status names: it stays there as long as that will do."""
    gate_image: str = ""
    """The loader's image, which holds the gate too."""
    pull_policy: str = "IfNotPresent"


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What becomes of the pods. Without policies it changes nothing.

    `blocked`: no pod may be made. `unmet`: pods are made, and what a Preferred policy asks for is not there.
    """

    policies: tuple[str, ...] = ()
    required: bool = False
    place: Place | None = None
    confinement: Confinement | None = None
    overhead: RuntimeClassFacts | None = None
    """What the model server's RuntimeClass costs."""
    blocked: Problem | None = None
    unmet: Problem | None = None
    evicts: bool = False
    allowed: frozenset[str] = frozenset()
    """RuntimeClasses that meet the policies; empty while it is not known."""
    strays: tuple[LivePod, ...] = ()
    """Pods of these RuntimeClasses on nodes that the policies do not admit."""
    initdata_sha256: str = ""
    gate: GatePlan | None = None
    """What the pods' tokens must hold, where Required policies have a verifier."""

    @property
    def binds(self) -> bool:
        """Tell whether any policy binds, or may bind."""
        return bool(self.policies) or self.blocked is not None

    def nodes(self, nodes: Iterable[NodeFacts]) -> tuple[NodeFacts, ...]:
        """Return the nodes that pods may go to."""
        wanted = wanted_labels(self.place, self.overhead) if self.place is not None else {}
        return tuple(node for node in nodes if has_labels(node.labels, wanted))


@dataclass(frozen=True, kw_only=True)
class _Demands:
    """The binding policies, combined."""

    required: tuple[TEEPolicy, ...]
    preferred: tuple[TEEPolicy, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(policy.name for policy in (*self.required, *self.preferred)))

    @property
    def deciding(self) -> tuple[TEEPolicy, ...]:
        """The policies whose word counts: the Required ones where there are any."""
        return self.required or self.preferred

    @property
    def evicts(self) -> bool:
        """Tell whether what breaks the policies ends at once."""
        return any(policy.spec.on_violation == "Evict" for policy in self.required)


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Places that would do, and why the others would not."""

    places: tuple[Place, ...] = ()
    missing: tuple[str, ...] = ()
    allowed: frozenset[str] = field(default_factory=frozenset)
    strays: tuple[LivePod, ...] = ()
    conflict: str = ""


def plan_guard(subject: Bindable, tee: TEEFacts, nodes: Sequence[NodeFacts]) -> Guard:
    """Return what the policies come to for one resource."""
    if tee.unreadable:
        named = (subject.ref.name,) if subject.ref is not None else ()
        return Guard(policies=named, required=True, blocked=problem(Reason.POLICY_UNREADABLE, tee.unreadable))
    known = {policy.name for policy in tee.policies}
    if subject.ref is not None and subject.ref.name not in known:
        found = f"teePolicyRef names TEEPolicy {subject.ref.name}, which is not there."
        missing = problem(Reason.POLICY_MISSING, found)
        return Guard(policies=(subject.ref.name,), required=True, blocked=missing)
    demands = _binding(subject.ref, tee)
    if not demands.names:
        return Guard()
    search = _search(subject, demands, tee, nodes)
    place = next(iter(search.places), None)
    overhead = _class_of(tee, _main_class(place, subject)) if place is not None else None
    guard = Guard(
        policies=demands.names,
        required=bool(demands.required),
        evicts=demands.evicts,
        allowed=search.allowed,
        strays=search.strays,
        overhead=overhead,
        place=place,
    )
    return _judged(guard, demands, tee, search=search, subject=subject)


def _judged(guard: Guard, demands: _Demands, tee: TEEFacts, *, search: _Search, subject: Bindable) -> Guard:
    """Add what else the policies ask for: proof, initdata, weights."""
    flaw = _flaw(demands.required, tee, subject)
    if flaw is not None:
        return _blocked(guard, flaw)
    if guard.place is None:
        lacking = problem(
            Reason.POLICIES_CONFLICT if search.conflict else Reason.NO_CONFIDENTIAL_PLACE,
            f"{_title(guard.policies)}: {search.conflict or '; '.join(search.missing)}.",
        )
        if guard.required:
            return replace(guard, blocked=lacking)
        told = f"{_title(guard.policies)} can't be met, pods run outside: {'; '.join(search.missing)}."
        return replace(guard, unmet=problem(Reason.POLICY_FALLBACK, told))
    text, digest = _initdata((*demands.required, *demands.preferred), tee)
    place = guard.place
    gate = plan_gate(demands.required, tee, technology=place.technology, device=bool(place.device))
    if isinstance(gate, Problem):
        return _blocked(guard, gate)
    form = (
        gate.form(
            image=subject.gate_image,
            pull_policy=subject.pull_policy,
            operator_namespace=tee.operator_namespace,
        )
        if gate is not None
        else None
    )
    return replace(
        guard,
        confinement=_confinement(place, annotations={INITDATA: text} if text else {}, gate=form),
        initdata_sha256=digest,
        unmet=_flaw(demands.preferred, tee, subject),
        gate=gate,
    )


def _blocked(guard: Guard, flaw: Problem) -> Guard:
    return replace(guard, place=None, overhead=None, allowed=frozenset(), strays=(), blocked=flaw)


def _initdata(policies: Sequence[TEEPolicy], tee: TEEFacts) -> tuple[str, str]:
    """Return the first usable initdata and its digest."""
    for policy in policies:
        wanted = policy.spec.attestation.initdata
        if wanted is not None and _initdata_problem(policy, tee) is None:
            return tee.initdata[policy.name], wanted.sha256
    return "", ""


def _confinement(place: Place, *, annotations: Mapping[str, str], gate: GateForm | None) -> Confinement:
    return Confinement(
        gate=gate,
        runtime_class=place.runtime_class,
        server_class=place.classes[0],
        node_labels=place.node_labels,
        annotations=annotations,
        device=place.device,
        memory_resource=place.memory_resource,
    )


def bound_policies(ref: PolicyRef | None, tee: TEEFacts) -> tuple[TEEPolicy, ...]:
    """Return the policies that bind a resource: by its namespace's labels, or because it names them."""
    return tuple(policy for policy in tee.policies if _binds(policy, ref, tee.namespace_labels))


def _binding(ref: PolicyRef | None, tee: TEEFacts) -> _Demands:
    bound = bound_policies(ref, tee)
    return _Demands(
        required=tuple(policy for policy in bound if policy.spec.enforcement == "Required"),
        preferred=tuple(policy for policy in bound if policy.spec.enforcement == "Preferred"),
    )


def _binds(policy: TEEPolicy, ref: PolicyRef | None, labels_: Mapping[str, str]) -> bool:
    if ref is not None and ref.name == policy.name:
        return True
    selector = policy.spec.namespace_selector
    return selector is not None and all(labels_.get(key) == value for key, value in selector.match_labels.items())


def _flaw(policies: Sequence[TEEPolicy], tee: TEEFacts, subject: Bindable) -> Problem | None:
    """Return the first demand, other than for a place, that can't be met."""
    for policy in policies:
        name, spec = policy.name, policy.spec
        if spec.enforcement == "Preferred" and spec.attestation.mode == "Hardware":
            found = f"TEEPolicy {name} only prefers attestation.mode Hardware: no gate holds pods back for it."
            return problem(Reason.ATTESTATION_UNAVAILABLE, found)
        flaw = _initdata_problem(policy, tee) or (
            gate_flaw(policy, tee) if spec.enforcement == "Required" else None
        )
        if flaw is not None:
            return flaw
        if subject.signed is not None and spec.weights.require_encryption:
            plain = _plaintext(policy, subject)
            if plain:
                return problem(Reason.WEIGHTS_NOT_ENCRYPTED, f"TEEPolicy {name} refuses {plain}.")
        if subject.signed is False and spec.weights.require_signature:
            also = ", or that of an adapter," if subject.beside else ""
            found = f"TEEPolicy {name} asks for signed weights; the spec's integrity{also} names no signature."
            return problem(Reason.WEIGHTS_NOT_SIGNED, found)
    digests = {item.spec.attestation.initdata.sha256 for item in policies if item.spec.attestation.initdata}
    if len(digests) > 1:
        found = f"{_title([policy.name for policy in policies])} name different initdata."
        return problem(Reason.POLICIES_CONFLICT, found)
    return None


def _plaintext(policy: TEEPolicy, subject: Bindable) -> str:
    """Return what of the weights a policy refuses that wants them encrypted; "" where nothing is."""
    if subject.plain or not subject.key_places:
        which = f" ({', '.join(subject.plain)})" if subject.beside else ""
        return f"plaintext weights{which}"
    simulated = policy.spec.attestation.mode == "Simulated"
    in_secret = "Secret" in subject.key_places
    return "a key out of a Secret, which the cluster can read" if in_secret and not simulated else ""


def _initdata_problem(policy: TEEPolicy, tee: TEEFacts) -> Problem | None:
    wanted = policy.spec.attestation.initdata
    if wanted is None:
        return None
    flaw = initdata_flaw(tee.initdata.get(policy.name), sha256=wanted.sha256)
    ref = wanted.config_map_ref
    found = f"TEEPolicy {policy.name}: key {ref.key} of ConfigMap {ref.name} in the operator's namespace {flaw}."
    return problem(Reason.INITDATA_REFUSED, found) if flaw else None


def _search(subject: Bindable, demands: _Demands, tee: TEEFacts, nodes: Sequence[NodeFacts]) -> _Search:
    """Return the places that can be had, first the one that the pods have."""
    technologies = _technologies(demands)
    if not technologies:
        return _Search(conflict="no technology stands in all of them")
    usual = [place for technology in technologies for place in PLACES[technology]]
    named = [_overridden(place, demands) for place in usual]
    wanted = tuple(place for place in named if isinstance(place, Place))
    missing = [flaw for flaw in named if isinstance(flaw, str)]
    classes = {item.name: item for item in tee.runtime_classes}
    admission = Admission(places=wanted, classes=classes, strict=demands.evicts)
    strays = admission.strays(tee.pods, nodes) if demands.required else ()  # who only prefers moves nobody
    found: list[Place] = []
    for place in wanted:
        lives = not strays and place.technology == subject.before and _is_live(_main_class(place, subject), tee)
        lacks = _lacks(place, tee, nodes, lives=lives)
        if lacks:
            missing.append(lacks)
        else:
            found.insert(0 if lives else len(found), place)
    allowed = frozenset(name for place in wanted for name in place.classes)
    return _Search(places=tuple(found), missing=tuple(missing), allowed=allowed, strays=strays)


def _technologies(demands: _Demands) -> tuple[Technology, ...]:
    """Return what all Required policies allow, or any Preferred one; first what most Preferred ones name."""
    listed = [policy.spec.technologies for policy in demands.deciding]
    named = list(dict.fromkeys(technology for one in listed for technology in one))
    if demands.required:
        named = [technology for technology in named if all(technology in one for one in listed)]
    wishes = [policy.spec.technologies for policy in demands.preferred]
    return tuple(sorted(named, key=lambda technology: -sum(technology in one for one in wishes)))


def _overridden(place: Place, demands: _Demands) -> Place | str:
    """Return the place as this cluster calls it, or how the policies contradict each other.

    A policy without an override asks for the usual RuntimeClass, as the ValidatingAdmissionPolicy has it.
    """
    asking = [policy.spec for policy in demands.deciding if place.technology in policy.spec.technologies]
    given = [item for spec in asking for item in spec.overrides if item.technology == place.technology]
    named = [item.runtime_class_name for item in given if item.runtime_class_name is not None]
    classes = {*named, *(place.classes[:1] if len(named) < len(asking) else ())}
    if len(classes) > 1:
        return f"{place.technology}: the policies name different RuntimeClasses ({', '.join(sorted(classes))})"
    wanted: dict[str, str] = {}
    for item in given:
        for key, value in (item.node_labels or {}).items():
            if wanted.setdefault(key, value) != value:
                return f"{place.technology}: the policies ask for different values of the node label {key}"
    done = replace(place, node_labels=wanted or place.node_labels)
    return replace(done, runtime_class=named[0], server_class="") if named else done


def _lacks(place: Place, tee: TEEFacts, nodes: Sequence[NodeFacts], *, lives: bool) -> str:
    """Return what the cluster lacks for a place, "" where it can be had.

    Pods that have it already keep it (`lives`): a label that vanishes for a moment moves nobody (strays.py).
    """
    for name in place.classes:
        if _class_of(tee, name) is None:
            return f"{place.technology}: RuntimeClass {name} is missing"
    if lives:
        return ""
    wanted = wanted_labels(place, _class_of(tee, place.classes[0]))
    fitting = [node for node in nodes if has_labels(node.labels, wanted)]
    if any(node.schedulable for node in fitting):
        return ""
    if fitting:
        return f"{place.technology}: every such node is cordoned ({_listed(node.name for node in fitting)})"
    text = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()))
    if not nodes:
        return f"{place.technology}: the cluster shows no node with {text}"
    return f"{place.technology}: no node has {text} (looked at {_listed(node.name for node in nodes)})"


def _main_class(place: Place, subject: Bindable) -> str:
    """Return the RuntimeClass of what serves."""
    return place.classes[0] if subject.signed is not None else place.runtime_class


def _is_live(class_: str, tee: TEEFacts) -> bool:
    lasting = [item.runtime_class for item in tee.workloads if item.kind != "Job"]
    return bool(lasting) and all(name == class_ for name in lasting)


def _class_of(tee: TEEFacts, name: str) -> RuntimeClassFacts | None:
    return next((item for item in tee.runtime_classes if item.name == name), None)


def _title(policies: Sequence[str]) -> str:
    return f"TEEPolicy {', '.join(policies)}"


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more
