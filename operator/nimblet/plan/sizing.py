# SPDX-License-Identifier: Apache-2.0
"""How much memory and CPU a llama.cpp server needs, computed from the file's header. Pure arithmetic.

total = weights + KV + compute + prompt cache + runtime, in bytes. Sources of each term stand at its function;
the constants are checked against measured peaks by tests/bench (predicted / measured in [0.97, 1.10]).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nimblet.api.compactmodel import SizingStatus, Task
from nimblet.plan.artifact import Header, per_layer
from nimblet.plan.layers import layers_of, lengths, most_heads, windowed_layers
from nimblet.plan.suggestion import Suggestion
from nimblet.plan.task import CACHELESS, physical_batch
from nimblet.quantity import GIBIBYTE, MEBIBYTE, bytes_of, human_bytes, mebibytes, millicores, millicores_of

KV_BYTES: Final = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Bytes per element: a q8_0 block holds 32 elements in 34 bytes, q4_0 in 18 (ggml block layouts)."""
PAD: Final = 256
"""llama.cpp pads each sequence's KV cells to a multiple of 256."""
STATE_BYTES: Final = 4
"""Bytes of each number of a recurrent layer's state (f32: llama.cpp's llama_memory_recurrent)."""

RUNTIME_BASE: Final = 8 * MEBIBYTE
"""Program, heap, threads' stacks and HTTP buffers of a server under load (measured: 4 to 8 MiB)."""
RUNTIME_BASE_POOLED: Final = 4 * MEBIBYTE
"""The same of a server that samples nothing and renders no chat template (measured: 1 to 4 MiB)."""
RUNTIME_PER_LAYER: Final = 64 * 1024
"""Descriptors of a layer's tensors and of the graphs reserved for them (measured)."""
TOKEN_BYTES: Final = 160
"""Bytes per token of the vocabulary: text, score, lookup map and piece cache (llama_vocab; measured)."""
CANDIDATE_BYTES: Final = 12
"""Bytes per token and slot of a sampler's candidates (sizeof(llama_token_data))."""
MERGE_BYTES: Final = 120
"""Bytes per merge of a BPE vocabulary: a map from two strings to a rank (measured: 109 to 137)."""
MERGES_PER_TOKEN: Final = 2
"""Merges assumed for each token where the header's reader did not count them; real ones have 0 to 2.2."""
ADAPTED_BYTES: Final = 32 * 1024
"""Descriptors of an adapter's two matrices, and of their six nodes in the graphs that are reserved again whenever
adapters change (llama-adapter.h, get_n_nodes; measured: 27 to 41 KiB for each matrix that is adapted)."""
MARGIN: Final = 0.02
"""Share added on top, at least MARGIN_FLOOR: malloc's slack, page tables, what the formula does not know."""
MARGIN_FLOOR: Final = 8 * MEBIBYTE

FLOPS_PER_CORE: Final = 13e9
"""Effective operations per second of one AVX2 core while decoding 4-bit weights (measured: 99 tokens/s
of a 135M model on two cores)."""
TARGET_TOKENS_PER_SECOND: Final = 10
"""Decoding speed asked for each slot: faster than people read."""
PROMPT_FLOPS_PER_CORE: Final = 33e9
"""The same while reading a prompt, where a weight serves many tokens (measured: 246 tokens/s there)."""
PROMPT_TOKENS_PER_SECOND: Final = 250
"""Reading speed asked for each slot of the tasks that only read: a passage of 128 tokens in half a second."""
MIN_MILLICORES: Final = 100
MAX_MILLICORES: Final = 32000


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What the user asks of the server."""

    context_length: int
    parallel: int
    kv_cache_type: str
    prompt_cache_mebibytes: int
    cpu: str | None = None
    memory: str | None = None
    task: Task = "Chat"
    adapter_bytes: int = 0
    """Tensors of all adapters together: a server holds each beside the weights."""
    adapted_matrices: int = 0
    """Matrices of the model that adapters reach, of all adapters together."""
    draft_tokens: int = 0
    """Most tokens guessed ahead at a time: each slot then asks for the logits of so many more."""
    adapter_ranks: tuple[int, ...] = ()
    """Ranks of the adapters, one each: some servers keep a place of the largest for every one."""
    draft: Header | None = None
    """Header of the model that drafts for this one, with slots and context of its own as long."""


def _pad(tokens: int) -> int:
    return -(-tokens // PAD) * PAD


def kv_cache_bytes(header: Header, demand: Demand) -> int:
    """Return 2·layers·kvHeads·headDim·bytes·context·slots, windowed layers with window + ubatch as context.

    Source: llama.cpp's KV cache allocation; key and value lengths are taken separately since they may differ.
    Encoders see their whole input at once and keep nothing.
    """
    if header.architecture in CACHELESS:
        return 0
    context, window = _pad(demand.context_length), _window(header, demand)
    kept = layers_of(header)
    cells = sum(item.heads * item.width * (window if item.windowed else context) for item in kept)
    return int(cells * KV_BYTES[demand.kv_cache_type] * demand.parallel) + state_bytes(header, demand)


def state_bytes(header: Header, demand: Demand) -> int:
    """Return the states of recurrent layers, which grow with the slots and not with the context."""
    return STATE_BYTES * demand.parallel * sum(item.state for item in layers_of(header))


def _window(header: Header, demand: Demand) -> int:
    """Return the tokens a windowed layer holds: the window and one ubatch, never more than the context."""
    return min(_pad(demand.context_length), _pad((header.sliding_window or 0) + _ubatch(header, demand)))


def _ubatch(header: Header, demand: Demand) -> int:
    return physical_batch(demand.task, header, demand.context_length)


def compute_bytes(header: Header, demand: Demand) -> int:
    """Return the scratch memory of the graph for one ubatch, in f32, with masks, outputs and the work buffer.

    Per token of the ubatch: three feed-forward wide tensors (gate, up, their product; encoders have no gate) of
    each expert used, beside what each of these gives where it finds no room in two of the former; or the queries
    twice beside keys and values, whichever is more; and five of the embedding's width (input, residual, norm,
    result, next). Flash attention needs no context x ubatch scores,
    only an f16 mask over one slot's context and one over the window; without a cache over the ubatch itself.
    The work buffer holds the widest input once more, quantized to at most 9/8 byte an element.
    Chat asks for logits of one token a slot, kept twice (graph and output). For the other tasks each token is an
    output: the output buffer has room for its logits and state, even of encoders, which compute no logits;
    of the other models the graph holds the logits instead of a layer's tensors.
    Source: llama.cpp b11434, llama-graph.cpp, llama-context.cpp (sched_reserve, output_reserve), ggml-cpu.c
    (ggml_graph_plan); agrees with the sizes its log prints to 1 %.
    """
    ubatch, vocabulary, width = _ubatch(header, demand), header.vocab_size or 0, header.embedding_length
    feed_forward, attention, work = _widths(header)
    inner = max(3 * feed_forward, _expert_tensors(header), attention)
    context = _pad(demand.context_length)
    masks = 2 * (context + (_window(header, demand) if any(windowed_layers(header)) else 0))
    if demand.task == "Chat":
        widest = inner + 5 * width
        graph = ubatch * (4 * widest + masks + work) + 2 * 4 * vocabulary * demand.parallel
        return graph + _guess_bytes(header, demand, layer_bytes=4 * ubatch * widest)
    if header.architecture in CACHELESS:
        widest = max(2 * feed_forward + width, attention + 5 * width)
        masks = 2 * ubatch
    else:
        widest = max(inner, vocabulary) + 5 * width
    return ubatch * (4 * widest + masks + work) + 4 * ubatch * (vocabulary + width)


def _guess_bytes(header: Header, demand: Demand, *, layer_bytes: int) -> int:
    """Return what checking guesses adds: logits of all their tokens in the output, and in the graph.

    The graph's allocator gives them the room of a layer's tensors, so that only what exceeds those counts.
    Recurrent states can't be taken back by tokens: a copy is kept of each slot's.
    Source: llama.cpp b11434, server-context.cpp (server_output_limits, spec_ckpt), llama-context.cpp.
    """
    if not demand.draft_tokens:
        return 0
    guessed = 4 * (header.vocab_size or 0) * demand.parallel * demand.draft_tokens
    return guessed + max(guessed - layer_bytes, 0) + state_bytes(header, demand)


def _widths(header: Header) -> tuple[int, int, int]:
    """Return elements a token: a feed-forward tensor over the experts used, attention's tensors, the work."""
    layers = max(header.block_count, 1)
    experts = max(header.expert_used_count or 1, 1)
    length = max(per_layer(header.feed_forward_length, layers=layers, default=4 * header.embedding_length))
    wide = max(length, _expert_width(header) * experts) if experts > 1 else length
    heads = most_heads(header)
    kv_heads = max(per_layer(header.head_count_kv, layers=layers, default=heads))
    key, value = lengths(header)
    attention = 2 * heads * max(key, value) + kv_heads * (key + value)
    return wide, attention, 9 * max(wide, heads * value) // 8


def _expert_tensors(header: Header) -> int:
    """Return elements a token of the experts used: gate, up, their product, and the results before they are added.

    Source: llama.cpp b11434, llama-graph.cpp (build_moe_ffn) and ggml-alloc.c, which puts the results where gate
    and up were if they fit, else behind them; agrees with the sizes its log prints (tests/bench/shapes.py).
    """
    used = header.expert_used_count or 0
    if used <= 1:
        return 0
    wide, results = _expert_width(header) * used, header.embedding_length * used
    return 3 * wide + (results if results > 2 * wide else 0)


def runtime_bytes(header: Header, demand: Demand) -> int:
    """Return the program, descriptors, vocabulary and samplers, without the margin."""
    vocabulary = header.vocab_size or 0
    merges = MERGES_PER_TOKEN * vocabulary if header.merge_count is None else header.merge_count
    chats = demand.task == "Chat"
    tokens = vocabulary * (TOKEN_BYTES + (CANDIDATE_BYTES * demand.parallel if chats else 0))
    base = RUNTIME_BASE if chats else RUNTIME_BASE_POOLED
    return base + RUNTIME_PER_LAYER * header.block_count + tokens + MERGE_BYTES * merges


def cpu_millicores(header: Header, demand: Demand) -> int:
    """Return 2·parameters·tokens/s·slots ÷ FLOPS of a core, in thousandths, rounded up to 50.

    Two operations per weight that a token meets, at the speed that the task asks of each slot.
    """
    speed, flops = _pace(demand)
    exact = 2 * active_parameters(header) * speed * demand.parallel / flops * 1000
    return min(max(MIN_MILLICORES, -(-int(exact) // 50) * 50), MAX_MILLICORES)


def active_parameters(header: Header) -> int:
    """Return the parameters that one token meets: of the experts' three tensors only those of the experts used."""
    experts, used = header.expert_count or 0, header.expert_used_count or 0
    if not 0 < used < experts:
        return header.parameters
    inside = 3 * header.embedding_length * _expert_width(header) * experts * header.block_count
    return header.parameters - min(inside, header.parameters) * (experts - used) // experts


def _expert_width(header: Header) -> int:
    layers = max(header.block_count, 1)
    length = max(per_layer(header.feed_forward_length, layers=layers, default=4 * header.embedding_length))
    return header.other.get("expert_feed_forward_length") or length


def _pace(demand: Demand) -> tuple[int, float]:
    """Return tokens per second of a slot and operations per second of a core."""
    if demand.task == "Chat":
        return TARGET_TOKENS_PER_SECOND, FLOPS_PER_CORE
    return PROMPT_TOKENS_PER_SECOND, PROMPT_FLOPS_PER_CORE


def draft_bytes(demand: Demand) -> int:
    """Return weights, vocabulary, cache and scratch of the drafting model; the program it shares with the other.

    Source: llama.cpp b11434, common/speculative.cpp: a second model and context of the same size and slots, cached
    in f16, which gives the logits of one token a slot. Where its states can't be taken back by tokens, the slots'
    checkpoints hold a copy of them too (server-context.cpp, spec_ckpt.update_dft).
    """
    draft = demand.draft
    if draft is None:
        return 0
    own = replace(demand, draft=None, draft_tokens=0, kv_cache_type="f16")
    scratch = compute_bytes(draft, own) + runtime_bytes(draft, own) - RUNTIME_BASE
    return draft.tensor_bytes + kv_cache_bytes(draft, own) + state_bytes(draft, own) + scratch


def adapted_matrices(adapters: Sequence[Header], base: Header) -> int:
    """Return how many matrices adapters reach, by their parameters: rank x (inputs + outputs) of each.

    Their headers tell no count. One of the model's width on both sides is taken as the usual: of seven a layer it
    gives eight to ten.
    """
    ends = 2 * max(base.embedding_length, 1)
    return sum(item.parameters // (item.adapter.rank * ends) + 1 for item in adapters if item.adapter is not None)


def size_model(header: Header, demand: Demand) -> SizingStatus:
    """Return the sizes and their arithmetic; overrides replace the result, never the arithmetic."""
    weights = header.tensor_bytes
    kv = kv_cache_bytes(header, demand)
    compute = compute_bytes(header, demand)
    prompt_cache = demand.prompt_cache_mebibytes * MEBIBYTE
    runtime = runtime_bytes(header, demand)
    added = demand.adapter_bytes + draft_bytes(demand)
    runtime += ADAPTED_BYTES * demand.adapted_matrices
    runtime += max(MARGIN_FLOOR, int(MARGIN * (weights + kv + compute + added)))
    total = weights + kv + compute + prompt_cache + runtime + added
    cpu = millicores_of(demand.cpu) if demand.cpu is not None else cpu_millicores(header, demand)
    memory = bytes_of(demand.memory) if demand.memory is not None else total
    return SizingStatus(
        weights_bytes=weights,
        kv_cache_bytes=kv,
        compute_bytes=compute,
        prompt_cache_bytes=prompt_cache,
        runtime_bytes=runtime,
        adapter_bytes=demand.adapter_bytes or None,
        draft_bytes=draft_bytes(demand) or None,
        total_bytes=total,
        memory=mebibytes(memory),
        cpu=millicores(cpu),
        threads=max(1, -(-cpu // 1000)),
        formula=_formula(header, demand, total=total, runtime=runtime),
    )


def _formula(header: Header, demand: Demand, *, total: int, runtime: int) -> list[str]:
    kv, compute = human_bytes(kv_cache_bytes(header, demand)), human_bytes(compute_bytes(header, demand))
    ubatch, millions = _ubatch(header, demand), f"{header.parameters / 1e6:.0f}M"
    active = f"{active_parameters(header) / 1e6:.0f}M"
    pace, flops = _pace(demand)
    speed = f"{pace} tokens/s x {demand.parallel} slots / {flops / 1e9:g} GFLOPS a core"
    memory_override = f", overridden by {demand.memory}" if demand.memory else ""
    cpu_override = f", overridden by {demand.cpu}" if demand.cpu else ""
    guesses = f" of {1 + demand.draft_tokens} tokens a slot" if demand.draft_tokens else ""
    return [
        f"weights: {millions} parameters in {human_bytes(header.tensor_bytes)} of tensors",
        f"kv cache: {_kv_formula(header, demand)} = {kv}",
        f"compute: ubatch {ubatch} x (f32 over the widest tensors + mask + work) + logits{guesses} = {compute}",
        f"prompt cache: {demand.prompt_cache_mebibytes}Mi",
        *added_formula(demand),
        f"runtime: program, vocabulary and margin = {human_bytes(runtime)}",
        f"total: {human_bytes(total)}{memory_override}",
        f"cpu: 2 x {active} x {speed} = {cpu_millicores(header, demand)}m{cpu_override}",
    ]


def added_formula(demand: Demand) -> list[str]:
    """Return the lines of what few models have."""
    lines = [f"adapters: {human_bytes(demand.adapter_bytes)} of tensors"] if demand.adapter_bytes else []
    if demand.draft is not None:
        millions = f"{demand.draft.parameters / 1e6:.0f}M"
        lines.append(f"draft model: {millions} parameters, cache and scratch = {human_bytes(draft_bytes(demand))}")
    return lines


def _kv_formula(header: Header, demand: Demand) -> str:
    """Return the product that `kv_cache_bytes` computes, numbers put in."""
    layers = layers_of(header)
    kept = [item for item in layers if item.heads]
    heads = sorted({item.heads for item in kept})
    span = f"{heads[0]}" if len(heads) == 1 else f"{heads[0]} to {heads[-1]}" if heads else "0"
    key, value = lengths(header)
    windowed = sum(item.windowed for item in kept)
    context = _pad(demand.context_length)
    cells = f"{len(kept) - windowed} layers x {context} tokens"
    if windowed:
        cells += f" + {windowed} windowed layers x {_window(header, demand)} tokens"
    element = f"{KV_BYTES[demand.kv_cache_type]:g} bytes ({demand.kv_cache_type})"
    latent = next((item.width for item in kept if item.latent), 0)
    width = f"latent {latent}" if latent else f"(key {key} + value {value})"
    states = sum(item.state > 0 for item in layers)
    state = (
        f" + {states} recurrent layers x {human_bytes(state_bytes(header, demand) // states)}" if states else ""
    )
    return f"{width} x {span} kv heads x ({cells}) x {element} x {demand.parallel} slots{state}"


def with_suggestion(sizing: SizingStatus, suggestion: Suggestion) -> SizingStatus:
    """Return the sizes with what would fit instead."""
    return sizing.model_copy(
        update={
            "largest_context_length": suggestion.context_length or None,
            "largest_parallel": suggestion.parallel or None,
        }
    )


def scratch_volume_bytes(file_bytes: int) -> int:
    """Return the size limit of the ephemeral model volume: the files, 5 % and 64 MiB for filesystem overhead."""
    exact = int(file_bytes * 1.05) + 64 * MEBIBYTE
    return -(-exact // MEBIBYTE) * MEBIBYTE


def progress_deadline_seconds(file_bytes: int) -> int:
    """Return the Deployment's progress deadline: ten minutes, and the file at 5 MiB/s."""
    return 600 + file_bytes // (5 * MEBIBYTE)


def startup_seconds(file_bytes: int) -> int:
    """Return how long the server may take to load: a minute, and the file at 64 MiB/s from a slow disk."""
    return 60 + file_bytes // (64 * MEBIBYTE) if file_bytes < 1024 * GIBIBYTE else 3600
