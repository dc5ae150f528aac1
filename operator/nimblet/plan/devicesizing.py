# SPDX-License-Identifier: Apache-2.0
"""Whether a model fits the devices of one node under vLLM or TGI, and why. Pure arithmetic.

`enginesizing.py` turns it into the size of a pod.

needed a device = weights + key and value cache + adapters + draft + engine, to be at most utilization x memory.
Nothing here was measured: no device is at hand. Each constant names its source; docs/sizing.md says what that
means.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from nimblet.plan.artifact import Header
from nimblet.plan.layers import Layer, layers_of, most_heads
from nimblet.plan.suggestion import NOTHING, Suggestion, suggest
from nimblet.quantity import GIBIBYTE, MEBIBYTE, human_bytes

Engine = Literal["VLLM", "TGI"]
DeviceKVType = Literal["f16", "fp8"]

KV_BYTES: Final[Mapping[DeviceKVType, int]] = {"f16": 2, "fp8": 1}
"""Bytes of a number in the cache: 16 bits as the model computes in, or 8 (--kv-cache-dtype fp8)."""
STATE_BYTES: Final = 4
"""Bytes of a number of a recurrent layer's state; engines may keep part of it in 16 bits, which is less."""
WEIGHT_SLACK: Final = 1.02
"""Weights in memory over those in files: alignment, and what every device holds whole (KAITO's estimator)."""
BLOCK_TOKENS: Final = 16
"""Tokens of a block of the cache (vLLM's default on CUDA, TGI's BLOCK_SIZE with paged attention)."""
MILLICORES_EACH: Final = 1000
PROCESSES: Final = 2
"""Beside a worker for each device: the API server and the engine's core (vLLM's guide: 2 + N cores)."""


@dataclass(frozen=True, kw_only=True)
class EngineRules:
    """What an engine takes beside weights and cache, on each device and in the host's memory."""

    utilization: float
    """Share of a device's memory that the engine may use at all."""
    base_bytes: int
    weight_share: float
    """Further share of the weights on a device, for buffers that grow with the model."""
    host_bytes: int
    host_device_bytes: int
    windows: bool
    """Windowed layers hold their window alone, not the whole context."""


ENGINES: Final[Mapping[Engine, EngineRules]] = {
    # 0.92: the default of --gpu-memory-utilization (vLLM 0.32, config/cache.py). 2.3 GiB: 0.6 outside of torch and
    # 1.7 of activations and graphs; 0.05 of the weights: KAITO's estimator, tuned on vLLM (nodesestimator,
    # estimator.go). Host: assumed, from the requests of vLLM's own example for Kubernetes (k8s.md).
    "VLLM": EngineRules(
        utilization=0.92,
        base_bytes=2355 * MEBIBYTE,
        weight_share=0.05,
        host_bytes=4 * GIBIBYTE,
        host_device_bytes=4 * GIBIBYTE,
        windows=True,
    ),
    # 0.90: TGI 3.3's TGI_WIGGLE_ROOM (server/models/globals.py). Its warm-up holds the widest batch as vLLM's
    # profiling does, so the same figures stand for its buffers: assumed. Its cache has blocks of one size for all
    # layers (flash_causal_lm.py, warmup), and it ends where they hold less than --max-total-tokens (backends/v3).
    "TGI": EngineRules(
        utilization=0.90,
        base_bytes=2355 * MEBIBYTE,
        weight_share=0.05,
        host_bytes=4 * GIBIBYTE,
        host_device_bytes=4 * GIBIBYTE,
        windows=False,
    ),
}


@dataclass(frozen=True, kw_only=True)
class DeviceDemand:
    """What is asked of the devices; `reserved_bytes`: what a TEE or another user keeps of each."""

    engine: Engine
    devices: int
    device_memory_bytes: int
    context_length: int
    parallel: int
    kv_cache_type: DeviceKVType = "f16"
    batch_tokens: int = 2048
    """Tokens of one step (--max-num-batched-tokens): windowed layers hold the window and one step."""
    utilization: float | None = None
    """Where the pod sets another share than the engine's default."""
    reserved_bytes: int = 0
    adapter_bytes: int = 0
    draft: Header | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceSizing:
    """The outcome; sizes are of one device, `kv_token_bytes` and `kv_tokens` of the whole server."""

    fits: bool
    usable_bytes: int
    weights_bytes: int
    kv_cache_bytes: int
    added_bytes: int
    engine_bytes: int
    needed_bytes: int
    required_bytes: int
    """Memory that a device must have, so that the engine's share of it holds what is needed."""
    kv_token_bytes: int
    kv_tokens: int
    """Tokens of context that the memory left for the cache holds at once, whatever was asked for."""
    host_bytes: int
    host_millicores: int
    formula: tuple[str, ...]
    shortage: str = ""
    suggestion: Suggestion = NOTHING


def size_on_devices(header: Header, demand: DeviceDemand) -> DeviceSizing:
    """Return whether the model fits with all slots full, and what would where it does not."""
    rules = ENGINES[demand.engine]
    weights, kv, added = device_weights(header, demand), device_cache(header, demand), _added(demand)
    engine = rules.base_bytes + int(rules.weight_share * weights)
    needed, usable = weights + kv + added + engine, usable_bytes(demand)
    split = split_problem(header, demand.devices, demand.engine)
    shortage = split or _shortage(demand, needed=needed, usable=usable)
    per_token = token_bytes(header, demand)
    left = max(usable - needed + kv, 0)
    sizing = DeviceSizing(
        fits=not shortage,
        usable_bytes=usable,
        weights_bytes=weights,
        kv_cache_bytes=kv,
        added_bytes=added,
        engine_bytes=engine,
        needed_bytes=needed,
        required_bytes=-(-needed * 1000 // int(1000 * share_of(demand))) + demand.reserved_bytes,
        kv_token_bytes=per_token,
        kv_tokens=left // max(_share(header, demand, 1), 1) if per_token else 0,
        host_bytes=rules.host_bytes + rules.host_device_bytes * demand.devices,
        host_millicores=MILLICORES_EACH * (PROCESSES + demand.devices),
        formula=_formula(header, demand, weights=weights, engine=engine, needed=needed),
        shortage=shortage,
    )
    return sizing if sizing.fits or split else replace(sizing, suggestion=_suggestion(header, demand, usable))


def usable_bytes(demand: DeviceDemand) -> int:
    """Return what the engine may use of a device."""
    return max(int((demand.device_memory_bytes - demand.reserved_bytes) * share_of(demand)), 0)


def share_of(demand: DeviceDemand) -> float:
    """Return the share of a device's memory that the engine may use."""
    return demand.utilization if demand.utilization is not None else ENGINES[demand.engine].utilization


def device_weights(header: Header, demand: DeviceDemand) -> int:
    """Return the weights' share of one device: tensors of 32 bits are loaded in 16, but those of a quantization.

    Source: vLLM's dtype auto and TGI's default, which compute in 16 bits; both split every large tensor.
    """
    wide = 0 if header.quantization is not None else header.tensor_types.get("F32", 0)
    loaded = header.tensor_bytes - wide // 2
    return -(-int(loaded * WEIGHT_SLACK) // demand.devices)


def token_bytes(header: Header, demand: DeviceDemand) -> int:
    """Return the bytes that one token keeps in all layers of a server, windows not considered."""
    if not _caches(header):
        return 0
    return KV_BYTES[demand.kv_cache_type] * sum(item.heads * item.width for item in layers_of(header))


def device_cache(header: Header, demand: DeviceDemand) -> int:
    """Return the cache of all slots at their whole context, and the states of recurrent layers, on one device."""
    if not _caches(header):
        return 0
    states = STATE_BYTES * sum(item.state for item in layers_of(header)) // demand.devices
    return demand.parallel * (_share(header, demand, demand.context_length) + states)


def _share(header: Header, demand: DeviceDemand, tokens: int) -> int:
    """Return the cache of one sequence on one device, in whole blocks where there is more than one token.

    Heads are divided among devices; where there are fewer heads than devices, each has one; a latent vector is
    whole on each. A windowed layer holds the window and one step (vLLM's SlidingWindowSpec; TGI: all of it).
    """
    window = tokens
    if ENGINES[demand.engine].windows:
        window = min(tokens, max((header.sliding_window or 0) - 1, 0) + demand.batch_tokens)
    numbers = 0
    for item in layers_of(header):
        held = _blocks(window) if item.windowed else _blocks(tokens)
        numbers += _heads_each(item, demand.devices) * item.width * held
    return numbers * KV_BYTES[demand.kv_cache_type]


def _blocks(tokens: int) -> int:
    return tokens if tokens == 1 else -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS


def _heads_each(layer: Layer, devices: int) -> int:
    return layer.heads if layer.latent else -(-layer.heads // devices)


def _caches(header: Header) -> bool:
    return header.causal_attention is not False


def _added(demand: DeviceDemand) -> int:
    """Return adapters and the drafting model on one device; the latter with a cache for the same context."""
    added = -(-demand.adapter_bytes // demand.devices)
    if demand.draft is not None:
        added += device_weights(demand.draft, demand) + device_cache(demand.draft, demand)
    return added


def split_problem(header: Header, devices: int, engine: Engine) -> str:
    """Return why the model can't be divided among so many devices: each must get as many heads as the others.

    Of fewer heads of keys and values than devices vLLM gives each device a copy, where they come out even (its
    attention layers assert both); TGI copies a single one alone (flash_causal_lm.py of 3.3).
    """
    heads = most_heads(header)
    if heads and heads % devices:
        return f"{heads} attention heads can't be divided among {devices} devices."
    for kept in sorted({layer.heads for layer in layers_of(header) if layer.heads and not layer.latent}):
        copied = devices % kept == 0 if engine == "VLLM" else kept == 1
        if kept % devices and not copied:
            return f"{kept} heads of keys and values can't be divided among {devices} devices by {engine}."
    return ""


def _shortage(demand: DeviceDemand, *, needed: int, usable: int) -> str:
    if needed <= usable:
        return ""
    each = "each of " if demand.devices > 1 else ""
    devices = f"{demand.devices} devices" if demand.devices > 1 else "the device"
    return (
        f"It needs {human_bytes(needed)} on {each}{devices}, and {demand.engine} may use {human_bytes(usable)} of "
        f"{human_bytes(demand.device_memory_bytes)}."
    )


def _suggestion(header: Header, demand: DeviceDemand, usable: int) -> Suggestion:
    def total(tokens: int, slots: int) -> int:
        other = replace(demand, context_length=tokens, parallel=slots)
        weights = device_weights(header, other)
        rules = ENGINES[demand.engine]
        fixed = rules.base_bytes + int(rules.weight_share * weights)
        return weights + device_cache(header, other) + _added(other) + fixed

    return suggest(total, context_length=demand.context_length, parallel=demand.parallel, budget_bytes=usable)


def _formula(header: Header, demand: DeviceDemand, *, weights: int, engine: int, needed: int) -> tuple[str, ...]:
    rules, added = ENGINES[demand.engine], _added(demand)
    share = share_of(demand)
    kept, type_ = layers_of(header), demand.kv_cache_type
    windowed = sum(item.windowed for item in kept) if rules.windows else 0
    states = sum(item.state > 0 for item in kept)
    notes = f", {windowed} layers of a window" if windowed else ""
    notes += f", {states} recurrent layers" if states else ""
    quantized = f", {header.quantization.method}" if header.quantization is not None else ""
    reserved = f" - {human_bytes(demand.reserved_bytes)} reserved" if demand.reserved_bytes else ""
    stored, cache = human_bytes(header.tensor_bytes), human_bytes(device_cache(header, demand))
    asked = f"{demand.context_length} tokens x {demand.parallel} slots"
    memory = f"({human_bytes(demand.device_memory_bytes)}{reserved})"
    base, host, each = (
        human_bytes(size) for size in (rules.base_bytes, rules.host_bytes, rules.host_device_bytes)
    )
    usable = human_bytes(usable_bytes(demand)) if demand.device_memory_bytes else ""
    millions, devices = f"{header.parameters / 1e6:.0f}M", demand.devices
    return (
        f"weights: {millions} parameters{quantized} in {stored} x {WEIGHT_SLACK} / {devices} devices = "
        + human_bytes(weights),
        f"kv cache: {token_bytes(header, demand)} bytes a token ({type_}{notes}) x {asked} = {cache} a device",
        *([f"adapters and draft model: {human_bytes(added)} a device"] if added else []),
        f"engine: {base} + {rules.weight_share:g} x weights = {human_bytes(engine)}",
        f"device: {human_bytes(needed)}" + (f" of {share:g} x {memory} = {usable}" if usable else ""),
        f"host: {host} + {each} x {devices} devices",
    )
