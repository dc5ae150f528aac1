# SPDX-License-Identifier: Apache-2.0
"""The size of a pod that runs vLLM or TGI, with its weights on devices or in the host's memory. Pure arithmetic.

Computed, not measured: see devicesizing.py and docs/sizing.md.
"""

from nimblet.api.compactmodel import SizingStatus
from nimblet.plan.artifact import Header
from nimblet.plan.devicesizing import (
    ENGINES,
    MILLICORES_EACH,
    DeviceDemand,
    Engine,
    device_cache,
    device_weights,
    size_on_devices,
    token_bytes,
)
from nimblet.plan.lora import lora_place_bytes
from nimblet.plan.sizing import Demand, cpu_millicores
from nimblet.quantity import bytes_of, human_bytes, mebibytes, millicores, millicores_of


def engine_demand(
    header: Header, demand: Demand, engine: Engine, *, devices: int, device_memory_bytes: int = 0
) -> DeviceDemand:
    """Return what is asked of devices; without their memory only what they must have is computed."""
    return DeviceDemand(
        engine=engine,
        devices=max(devices, 1),
        device_memory_bytes=device_memory_bytes,
        context_length=demand.context_length,
        parallel=demand.parallel,
        adapter_bytes=lora_place_bytes(header, demand.adapter_ranks) or demand.adapter_bytes,
        draft=demand.draft,
    )


def size_engine(header: Header, demand: Demand, engine: Engine, *, devices: int) -> SizingStatus:
    """Return the sizes of a pod; overrides replace the container's, never the arithmetic. No devices: a CPU's."""
    return _on_devices(header, demand, engine, devices) if devices else _on_host(header, demand, engine)


def _on_devices(header: Header, demand: Demand, engine: Engine, devices: int) -> SizingStatus:
    asked = engine_demand(header, demand, engine, devices=devices)
    sizing = size_on_devices(header, asked)
    memory = bytes_of(demand.memory) if demand.memory is not None else sizing.host_bytes
    cpu = millicores_of(demand.cpu) if demand.cpu is not None else sizing.host_millicores
    required = sizing.required_bytes * devices
    return SizingStatus(
        weights_bytes=sizing.weights_bytes * devices,
        kv_cache_bytes=sizing.kv_cache_bytes * devices,
        compute_bytes=sizing.engine_bytes * devices,
        runtime_bytes=sizing.host_bytes,
        adapter_bytes=asked.adapter_bytes or None,
        draft_bytes=_draft_bytes(asked) * devices or None,
        total_bytes=sizing.host_bytes,
        device_memory_bytes=required,
        memory=mebibytes(memory),
        cpu=millicores(cpu),
        threads=max(1, -(-cpu // MILLICORES_EACH)),
        formula=[
            *sizing.formula,
            f"devices: {human_bytes(required)} over {devices}, computed, not measured",
        ],
    )


def _draft_bytes(asked: DeviceDemand) -> int:
    """Return weights and cache of the drafting model, on one device."""
    draft = asked.draft
    return device_weights(draft, asked) + device_cache(draft, asked) if draft is not None else 0


def _on_host(header: Header, demand: Demand, engine: Engine) -> SizingStatus:
    """Return the sizes without a device: weights and cache lie in the container's memory beside the program."""
    asked, rules = engine_demand(header, demand, engine, devices=1), ENGINES[engine]
    weights, kv = device_weights(header, asked), device_cache(header, asked)
    extra = asked.adapter_bytes + _draft_bytes(asked)
    program = rules.host_bytes + int(rules.weight_share * weights)
    total = weights + kv + extra + program
    memory = bytes_of(demand.memory) if demand.memory is not None else total
    cpu = millicores_of(demand.cpu) if demand.cpu is not None else cpu_millicores(header, demand)
    slots = f"{demand.context_length} tokens x {demand.parallel} slots"
    return SizingStatus(
        weights_bytes=weights,
        kv_cache_bytes=kv,
        runtime_bytes=program,
        adapter_bytes=asked.adapter_bytes or None,
        draft_bytes=(extra - asked.adapter_bytes) or None,
        total_bytes=total,
        memory=mebibytes(memory),
        cpu=millicores(cpu),
        threads=max(1, -(-cpu // MILLICORES_EACH)),
        formula=[
            f"weights: {header.parameters / 1e6:.0f}M parameters = {human_bytes(weights)}",
            f"kv cache: {token_bytes(header, asked)} bytes a token x {slots} = {human_bytes(kv)}",
            *([f"adapters and draft model: {human_bytes(extra)}"] if extra else []),
            f"program: {human_bytes(rules.host_bytes)} and its buffers = {human_bytes(program)}",
            f"total: {human_bytes(total)}, computed, not measured",
            f"cpu: {cpu}m",
        ],
    )
