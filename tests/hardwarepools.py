# SPDX-License-Identifier: Apache-2.0
"""Node pools and models, and what comes of each pair: the table of docs/hardware.md.

The golden test computes it by the plan; tests/cluster asks a real API server for the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from nimblet.api.compactmodel import CompactModelStatus
from nimblet.conditions import ConditionType
from nimblet.hardware import NFD
from nimblet.merging import find
from nimblet.plan.facts import NodeFacts, TaintFacts
from nimblet.plan.result import Plan
from nimblet.quantity import bytes_of
from nimblet.settings import Settings
from tests.builders import GIBIBYTE, SMOLLM2, a_model, artifact_text, base_facts, plan_of, stored

CORES: Final = 8
MEMORY: Final = 32 * GIBIBYTE
VALUES: Final[Mapping[str, object]] = {
    "profiles": {
        "lab": {"base": "gaudi", "hostIPC": True, "images": {"LlamaCpp": "registry.lab/server:1"}},
        "shelf": {"base": "intel-gpu", "supplementalGroups": [109], "deviceMemory": "16Gi"},
    }
}
"""The administrator's values of `hardware`."""
SETTINGS: Final = Settings.model_validate({"hardware": VALUES})


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A kind of node."""

    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)
    taint: str = ""
    """Key of a NoSchedule taint, as the administrator puts on nodes with devices."""


PLAIN: Final = Machine()
XEON: Final = Machine(labels={f"{NFD}/cpu-cpuid.AVX512F": "true", f"{NFD}/cpu-cpuid.AMXINT8": "true"})
WHOLE: Final = Machine(
    labels={"nvidia.com/gpu.memory": "24576", "nvidia.com/gpu.sharing-strategy": "none"},
    resources={"nvidia.com/gpu": "2"},
    taint="nvidia.com/gpu",
)
MIG: Final = Machine(
    labels={"nvidia.com/mig-1g.10gb.memory": "9984", "nvidia.com/mig-3g.40gb.memory": "40448"},
    resources={"nvidia.com/mig-1g.10gb": "4", "nvidia.com/mig-3g.40gb": "1"},
    taint="nvidia.com/gpu",
)
SLICED: Final = Machine(
    labels={"nvidia.com/gpu.memory": "24576", "nvidia.com/gpu.sharing-strategy": "time-slicing"},
    resources={"nvidia.com/gpu.shared": "8"},
    taint="nvidia.com/gpu",
)
GAUDI: Final = Machine(resources={"habana.ai/gaudi": "8"}, taint="habana.ai/gaudi")
I915: Final = Machine(resources={"gpu.intel.com/i915": "4"})
XE: Final = Machine(resources={"gpu.intel.com/xe": "4"}, taint="gpu.intel.com/xe")
AMD: Final = Machine(labels={"amd.com/gpu.vram": "64G"}, resources={"amd.com/gpu": "8"}, taint="amd.com/gpu")

POOLS: Final[Mapping[str, Sequence[Machine]]] = {
    "cpu": (PLAIN,),
    "xeon": (PLAIN, XEON),
    "nvidia": (PLAIN, WHOLE),
    "MIG": (PLAIN, MIG),
    "shared": (PLAIN, SLICED),
    "gaudi": (PLAIN, GAUDI),
    "i915": (PLAIN, I915),
    "xe": (PLAIN, XE),
    "amd": (PLAIN, AMD),
    "all": (PLAIN, XEON, WHOLE, MIG, SLICED, GAUDI, I915, XE, AMD),
}
"""Pool → its nodes, each of 8 cores and 32 GiB; those with devices have labels and taints as usual."""

MODELS: Final[Mapping[str, Mapping[str, Any]]] = {
    "small": {},
    "busy": {"runtime": {"parallel": 8}},
    "large": {"runtime": {"parallel": 64}},
    "nvidia": {"hardware": {"profile": "nvidia"}},
    "nvidia x4": {"hardware": {"profile": "nvidia", "count": 4}},
    "partition": {"hardware": {"sharing": "Partition"}},
    "shared": {"hardware": {"profile": "nvidia", "sharing": "Shared"}},
    "gaudi": {"hardware": {"profile": "gaudi"}},
    "intel-gpu": {"hardware": {"profile": "intel-gpu"}},
    "amd": {"hardware": {"profile": "amd"}},
    "xeon": {"hardware": {"profile": "xeon"}},
    "own: lab": {"hardware": {"profile": "lab"}},
    "own: shelf": {"hardware": {"profile": "shelf"}},
    "unknown": {"hardware": {"profile": "abacus"}},
}
"""Model, as the table calls it → its spec beside the source. SmolLM2-135M each: slots make it need more."""
IN_SAFETENSORS: Final[Mapping[str, Mapping[str, Any]]] = {
    "safetensors": {},
    "safetensors, gaudi": {"hardware": {"profile": "gaudi"}},
    "safetensors, nvidia": {"hardware": {"profile": "nvidia"}},
}
"""The same of models whose weights are safetensors: by the plan alone, no stub resolves such."""
SAFETENSORS: Final = artifact_text(
    format="Safetensors",
    files=[{"path": "model.safetensors", "size": 269060552, "sha256": "ab" * 32}],
    header={
        **{key: value for key, value in SMOLLM2.items() if key not in {"tokenEmbeddingBytes", "mergeCount"}},
        "architecture": "LlamaForCausalLM",
        "modelType": "llama",
        "dtype": "bfloat16",
        "tensorBytes": 269030016,
    },
)


WAITS: Final = ", waits"
"""No node holds it now: the pod is made, and the scheduler waits for one."""


def slug(title: str) -> str:
    """Return a title as a part of an object's name."""
    return title.lower().replace(": ", "-").replace(" ", "-")


def nodes_of(pool: str) -> tuple[NodeFacts, ...]:
    """Return a pool's nodes."""
    return tuple(a_node_of(machine, name=f"{slug(pool)}-{at}") for at, machine in enumerate(POOLS[pool]))


def a_node_of(machine: Machine, *, name: str) -> NodeFacts:
    """Return one node."""
    return NodeFacts(
        name=name,
        labels=machine.labels,
        memory_bytes=MEMORY,
        cpu_millicores=CORES * 1000,
        resources={key: bytes_of(total) for key, total in machine.resources.items()},
        taints=(TaintFacts(key=machine.taint),) if machine.taint else (),
    )


def plan_on(model: str, pool: str) -> Plan[CompactModelStatus]:
    """Return the plan of a model that meets a pool for the first time."""
    wanted = a_model(**{**MODELS, **IN_SAFETENSORS}[model])
    text = SAFETENSORS if model in IN_SAFETENSORS else None
    facts = base_facts(wanted, artifacts=(stored(wanted, text, settings=SETTINGS),), nodes=nodes_of(pool))
    return plan_of(wanted, facts, settings=SETTINGS)


def placement(model: str, pool: str) -> str:
    """Return profile and device of a model's server, or the reason why there is none."""
    plan = plan_on(model, pool)
    ready = find(plan.status.conditions, ConditionType.READY)
    if not any(child["kind"] == "Deployment" for child in plan.children):
        return ready.reason if ready is not None else ""
    placed = find(plan.status.conditions, ConditionType.PLACED)
    waits = placed is not None and not placed.message.startswith("No pod of this spec")
    return f"{chosen(plan.status)}{WAITS if waits else ''}"


def chosen(status: CompactModelStatus) -> str:
    """Return what a status says was chosen."""
    resolved = status.resolved
    if resolved is None or resolved.hardware is None:
        return ""
    hardware = resolved.hardware
    return f"{resolved.profile} {hardware.resource}".strip()


def table() -> str:
    """Return all placements as a Markdown table."""
    head = ["model", *POOLS]
    rows = [head, ["---"] * len(head)]
    rows += [[model, *(f"`{placement(model, pool)}`" for pool in POOLS)] for model in (*MODELS, *IN_SAFETENSORS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
