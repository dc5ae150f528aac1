# SPDX-License-Identifier: Apache-2.0
"""Node pools and TEEPolicies, and what comes of each pair: the table of docs/tee.md.

The golden test computes it by the plan; tests/cluster asks a real API server for the same.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from nimblet.api.common import PolicyRef
from nimblet.api.teepolicy import TEEPolicy, TEEPolicySpec
from nimblet.plan.facts import NodeFacts
from nimblet.plan.tee import Bindable, plan_guard
from nimblet.plan.teefacts import RuntimeClassFacts, TEEFacts

MEBIBYTE: Final = 2**20
GIBIBYTE: Final = 2**30
NFD: Final = "feature.node.kubernetes.io"
TDX: Final = {f"{NFD}/cpu-security.tdx.enabled": "true"}
SNP: Final = {f"{NFD}/cpu-security.sev.snp.enabled": "true"}
SGX: Final = {f"{NFD}/cpu-security.sgx.enabled": "true"}
GPU: Final = {"nvidia.com/cc.ready.state": "true"}

POOLS: Final[Mapping[str, Sequence[Mapping[str, str]]]] = {
    "TDX": (TDX,),
    "SNP": (SNP,),
    "SGX": (SGX,),
    "GPU-CC on SNP": ({**GPU, **SNP},),
    "plain": ({},),
    "all": (TDX, SNP, SGX, {**GPU, **SNP}, {}),
}
"""Pool → the labels of each of its nodes."""
CLASSES: Final[Mapping[str, tuple[int, int]]] = {
    "kata-qemu-tdx": (2048, 1000),
    "kata-qemu-snp": (2048, 1000),
    "kata-qemu-nvidia-gpu-snp": (10240, 1000),
    "gramine": (0, 0),
}
"""RuntimeClass → podFixed in MiB and thousandths of a core, as in kata-deploy; gramine stands for a library OS."""
SIMULATED: Final = {"mode": "Simulated"}
VERIFIER: Final = {
    "kty": "EC",
    "crv": "P-256",
    "x": "W4d-gnoNiTGEahbOvwltEt6_UmS01P0aAYPtEfrC6oM",
    "y": "X68IbhlliwDLk7Qn1wc7Pji-aZRN3jt_dAlPa3c9nYA",
    "kid": "verifier-1",
}
"""A public key whose private half nobody has."""
GATED: Final = {
    "mode": "Hardware",
    "verifier": {"keys": json.dumps(VERIFIER)},
    "referenceValues": [{"claim": "/quote/body/mr_td", "values": ["00"]}],
}
GRAMINE: Final = {"technology": "SGX", "runtimeClassName": "gramine"}


def _spec(*technologies: str, enforcement: str = "Required", **more: object) -> Mapping[str, object]:
    return {
        "technologies": list(technologies),
        "enforcement": enforcement,
        "attestation": SIMULATED,
        **more,
    }


POLICIES: Final[Mapping[str, Mapping[str, object]]] = {
    "Required TDX": _spec("TDX"),
    "Required SNP": _spec("SNP"),
    "Required TDX or SNP": _spec("TDX", "SNP"),
    "Required SGX": _spec("SGX", overrides=[GRAMINE]),
    "Required NVIDIA-CC": _spec("NVIDIA-CC"),
    "Preferred SNP": _spec("SNP", enforcement="Preferred"),
    "Required TDX, Hardware": _spec("TDX", attestation={"mode": "Hardware"}),
    "Required TDX, Hardware by a verifier": _spec("TDX", attestation=GATED),
}
"""Policy, as the table calls it → its spec."""


def slug(title: str) -> str:
    """Return a pool's or a policy's title as an object's name."""
    return title.lower().replace(", ", "-").replace(" ", "-")


def a_policy(name: str, spec: Mapping[str, object]) -> TEEPolicy:
    """Return a parsed policy."""
    return TEEPolicy(name=name, spec=TEEPolicySpec.model_validate(spec))


def nodes_of(pool: str) -> tuple[NodeFacts, ...]:
    """Return a pool's nodes."""
    return tuple(
        NodeFacts(name=f"{slug(pool)}-{at}", labels=labels_, memory_bytes=24 * GIBIBYTE, cpu_millicores=8000)
        for at, labels_ in enumerate(POOLS[pool], start=1)
    )


def runtime_classes() -> tuple[RuntimeClassFacts, ...]:
    """Return the RuntimeClasses of all pools."""
    return tuple(
        RuntimeClassFacts(name=name, memory_bytes=memory * MEBIBYTE, cpu_millicores=cpu)
        for name, (memory, cpu) in CLASSES.items()
    )


def placement(policy: str, pool: str, *, server: bool = True) -> str:
    """Return the RuntimeClass of a model's server (or its resolver), `outside`, or the reason of the refusal."""
    bound = a_policy("p", POLICIES[policy])
    tee = TEEFacts(policies=(bound,), runtime_classes=runtime_classes())
    guard = plan_guard(Bindable(ref=PolicyRef(name="p"), signed=False), tee, nodes_of(pool))
    if guard.blocked is not None:
        return str(guard.blocked.reason)
    if guard.confinement is None:
        return "outside"
    return guard.confinement.server_class if server else guard.confinement.runtime_class


def table() -> str:
    """Return all placements as a Markdown table."""
    head = ["policy", *POOLS]
    rows = [head, ["---"] * len(head)]
    rows += [[policy, *(f"`{placement(policy, pool)}`" for pool in POOLS)] for policy in POLICIES]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
