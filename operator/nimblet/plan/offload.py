# SPDX-License-Identifier: Apache-2.0
"""What llama.cpp needs with all layers on devices: their memory, and what stays on the host. Pure arithmetic.

Planned, not measured: no device has been there to compare with. The terms are those of plan/sizing.py, moved to
where llama.cpp keeps them (llama-model.cpp: layers and output on devices, the token embedding on the host).
"""

from typing import Final

from nimblet.api.compactmodel import SizingStatus
from nimblet.plan.artifact import Header
from nimblet.plan.sizing import (
    ADAPTED_BYTES,
    Demand,
    added_formula,
    compute_bytes,
    draft_bytes,
    kv_cache_bytes,
    runtime_bytes,
)
from nimblet.quantity import GIBIBYTE, MEBIBYTE, bytes_of, human_bytes, mebibytes, millicores, millicores_of

DEVICE_MARGIN: Final = GIBIBYTE
"""Left free on each device, for the driver's context and the backend's kernels: what llama.cpp's own --fit-target
leaves by default."""
HOST_BASE: Final = GIBIBYTE
"""Driver libraries, pinned staging buffers and the program; not measured, and so generous."""
HOST_MILLICORES: Final = 1000
"""One thread feeds the devices and samples."""


def device_memory_needed(header: Header, demand: Demand, *, devices: int) -> int:
    """Return the bytes that a replica needs over all of its devices.

    Layers, and with them weights and KV cache, are split among the devices; each has compute buffers of its own.
    An adapter's tensors lie where those are that they adapt (llama-adapter.cpp).
    """
    shared = header.tensor_bytes + kv_cache_bytes(header, demand) + demand.adapter_bytes + draft_bytes(demand)
    return shared + devices * (compute_bytes(header, demand) + DEVICE_MARGIN)


def host_memory_needed(header: Header, demand: Demand) -> int:
    """Return the bytes of the container: what is not on a device, and the cache of old prompts."""
    embedding = header.token_embedding_bytes or 0
    return embedding + _host_runtime_bytes(header, demand) + demand.prompt_cache_mebibytes * MEBIBYTE


def _host_runtime_bytes(header: Header, demand: Demand) -> int:
    return HOST_BASE + runtime_bytes(header, demand) + ADAPTED_BYTES * demand.adapted_matrices


def size_offloaded(header: Header, demand: Demand, *, devices: int) -> SizingStatus:
    """Return the sizes with all layers on devices; overrides replace the container's."""
    device, host = device_memory_needed(header, demand, devices=devices), host_memory_needed(header, demand)
    kv, compute = kv_cache_bytes(header, demand), compute_bytes(header, demand)
    each = f"compute {human_bytes(compute)} + {human_bytes(DEVICE_MARGIN)} left free"
    shared = "weights + kv cache" + (" + adapters" if demand.adapter_bytes else "")
    shared += " + draft model" if demand.draft is not None else ""
    cpu = millicores_of(demand.cpu) if demand.cpu is not None else HOST_MILLICORES
    memory = bytes_of(demand.memory) if demand.memory is not None else host
    return SizingStatus(
        weights_bytes=header.tensor_bytes,
        kv_cache_bytes=kv,
        compute_bytes=compute,
        prompt_cache_bytes=demand.prompt_cache_mebibytes * MEBIBYTE,
        runtime_bytes=_host_runtime_bytes(header, demand),
        adapter_bytes=demand.adapter_bytes or None,
        draft_bytes=draft_bytes(demand) or None,
        total_bytes=host,
        device_memory_bytes=device,
        memory=mebibytes(memory),
        cpu=millicores(cpu),
        threads=max(1, -(-cpu // 1000)),
        formula=[
            f"weights: {human_bytes(header.tensor_bytes)} of tensors, on the device",
            f"kv cache: {human_bytes(kv)} on the device",
            *added_formula(demand),
            f"devices: {shared} + {devices} x ({each}) = {human_bytes(device)}, computed, not measured",
            f"host: {human_bytes(HOST_BASE)} + token embedding + vocabulary + prompt cache = {human_bytes(host)}",
        ],
    )
