# SPDX-License-Identifier: Apache-2.0
"""Sizing held against what the real server sets aside for kinds of models of which no small file is at hand.

The files have the headers and tensors of such models at their real width, a few layers, and nothing but holes for
weights: what a server sets aside depends on no number in them. Its own log tells the size of each buffer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import gguf
import numpy as np

from nimblet.plan.sizing import Demand, compute_bytes, kv_cache_bytes, size_model
from nimblet.quantity import MEBIBYTE
from tests.bench.headers import read_model_header
from tests.bench.localserver import run_server
from tests.bench.sizing import Case, server_args

LOWEST, HIGHEST = 0.98, 1.25
"""Predicted ÷ logged may lie between these, of the caches and of the scratch: less is a pod that is killed."""
VOCABULARY: Final = 32000
CONTEXT, SLOTS = 1024, 2
_PLAIN: Final = re.compile(r"norm|bias|ssm_a|conv|gate_inp")
"""Tensors that are kept in f32; the others are Q8_0."""

Dimensions = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model of one architecture: its header beside `WIDTHS`, and the tensors of each layer."""

    architecture: str
    header: Mapping[str, int | list[int]]
    layers: Sequence[Mapping[str, Dimensions]]
    norm: str = "output_norm"
    title: str = ""
    width: int = 2048


def _attention(width: int, heads: int, kept: int, length: int, *, gated: bool = False) -> dict[str, Dimensions]:
    """Return the matrices of grouped-query attention with normalised heads, and those around them."""
    return {
        "attn_norm": (width,),
        "attn_q": (width, heads * length * (2 if gated else 1)),
        "attn_k": (width, kept * length),
        "attn_v": (width, kept * length),
        "attn_output": (heads * length, width),
        "attn_q_norm": (length,),
        "attn_k_norm": (length,),
    }


def _forward(width: int, inner: int) -> dict[str, Dimensions]:
    return {"ffn_gate": (width, inner), "ffn_up": (width, inner), "ffn_down": (inner, width)}


def experts(inner: int, used: int, *, count: int = 32) -> Shape:
    """Return a mixture of experts as Qwen 3's: narrow experts, many of them at a time."""
    width = 2048
    layer = {
        **_attention(width, 32, 4, 128),
        "ffn_norm": (width,),
        "ffn_gate_inp": (width, count),
        "ffn_gate_exps": (width, inner, count),
        "ffn_up_exps": (width, inner, count),
        "ffn_down_exps": (inner, width, count),
    }
    header: dict[str, int | list[int]] = {
        "feed_forward_length": 6144,
        "attention.head_count": 32,
        "attention.head_count_kv": 4,
        "attention.key_length": 128,
        "attention.value_length": 128,
        "expert_count": count,
        "expert_used_count": used,
        "expert_feed_forward_length": inner,
    }
    return Shape(architecture="qwen3moe", title=f"{used} of {inner}", header=header, layers=[layer] * 2)


def convolutions() -> Shape:
    """Return short convolutions with an attending layer, as LFM2's."""
    width = 2048
    shared = {"ffn_norm": (width,), **_forward(width, 8192)}
    short = {
        "attn_norm": (width,),
        "shortconv.conv": (3, width),
        "shortconv.in_proj": (width, 3 * width),
        "shortconv.out_proj": (width, width),
    }
    header: dict[str, int | list[int]] = {
        "feed_forward_length": 8192,
        "attention.head_count": 32,
        "attention.head_count_kv": [0, 0, 8],
        "shortconv.l_cache": 3,
    }
    layers = [{**shared, **kind} for kind in (short, short, _attention(width, 32, 8, 64))]
    return Shape(architecture="lfm2", header=header, layers=layers, norm="token_embd_norm")


def delta_nets() -> Shape:
    """Return gated delta nets with every fourth layer attending, as Qwen 3.5's."""
    width, inner, channels = 2560, 4096, 8192
    shared = {"post_attention_norm": (width,), **_forward(width, 9216)}
    recurrent = {
        "attn_norm": (width,),
        "attn_qkv": (width, channels),
        "attn_gate": (width, inner),
        "ssm_conv1d": (4, channels),
        "ssm_dt.bias": (32,),
        "ssm_a.": (32,),
        "ssm_beta": (width, 32),
        "ssm_alpha": (width, 32),
        "ssm_norm": (128,),
        "ssm_out": (inner, width),
    }
    header: dict[str, int | list[int]] = {
        "feed_forward_length": 9216,
        "attention.head_count": 16,
        "attention.head_count_kv": 4,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "full_attention_interval": 4,
        "rope.dimension_count": 64,
        "rope.dimension_sections": [11, 11, 10, 0],
        "ssm.conv_kernel": 4,
        "ssm.state_size": 128,
        "ssm.inner_size": inner,
        "ssm.time_step_rank": 32,
        "ssm.group_count": 16,
    }
    kinds = (recurrent, recurrent, recurrent, _attention(width, 16, 4, 256, gated=True))
    layers = [{**shared, **kind} for kind in kinds]
    return Shape(architecture="qwen35", header=header, layers=layers, width=width)


def shapes() -> list[Shape]:
    """Return all that is held against the server."""
    mixtures = [experts(*told) for told in ((768, 8), (768, 4), (1536, 8), (3072, 2), (1024, 8), (1408, 6))]
    return [*mixtures, convolutions(), delta_nets()]


def write_shape(shape: Shape, path: Path) -> None:
    """Write the file: header, descriptions of tensors, and a hole as long as they are."""
    writer = gguf.GGUFWriter(path, shape.architecture)
    plain = {"context_length": 8192, "embedding_length": shape.width, "block_count": len(shape.layers)}
    for key, value in {**plain, **shape.header}.items():
        named = f"{shape.architecture}.{key}"
        if isinstance(value, list):
            writer.add_array(named, value)
        else:
            writer.add_uint32(named, value)
    for key in ("attention.layer_norm_rms_epsilon", "rope.freq_base"):
        writer.add_float32(f"{shape.architecture}.{key}", 1e-6 if "norm" in key else 10000.0)
    _add_vocabulary(writer)
    length = sum(_add_tensor(writer, name, dimensions) for name, dimensions in _tensors(shape).items())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + writer.data_alignment + length)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    special = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *(f"w{number}" for number in range(VOCABULARY - len(special)))])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (VOCABULARY - len(special))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _tensors(shape: Shape) -> dict[str, Dimensions]:
    found = {"token_embd.weight": (shape.width, VOCABULARY), f"{shape.norm}.weight": (shape.width,)}
    for index, layer in enumerate(shape.layers):
        for name, dimensions in layer.items():
            whole = name.removesuffix(".") if name.endswith((".", ".bias")) else f"{name}.weight"
            found[f"blk.{index}.{whole}"] = dimensions
    return found


def _add_tensor(writer: gguf.GGUFWriter, name: str, dimensions: Dimensions) -> int:
    """Describe a tensor and return its bytes in the file, padding included."""
    plain = len(dimensions) == 1 or _PLAIN.search(name) is not None
    kind = gguf.GGMLQuantizationType.F32 if plain else gguf.GGMLQuantizationType.Q8_0
    block, size = gguf.GGML_QUANT_SIZES[kind]
    length = int(np.prod(dimensions)) // block * size
    shape = tuple(reversed(dimensions))
    if plain:
        writer.add_tensor_info(name, shape, np.dtype(np.float32), length)
    else:
        stored = gguf.quant_shape_to_byte_shape(shape, kind)
        writer.add_tensor_info(name, stored, np.dtype(np.uint8), length, raw_dtype=kind)
    return -(-length // writer.data_alignment) * writer.data_alignment


@dataclass(frozen=True, kw_only=True)
class Buffers:
    """Caches and scratch of a server, bytes."""

    title: str
    kept: tuple[float, float]
    scratch: tuple[float, float]
    """Predicted, and logged."""

    @property
    def ratios(self) -> tuple[float, float]:
        """Predicted ÷ logged."""
        return self.kept[0] / self.kept[1], self.scratch[0] / self.scratch[1]


def measure(shape: Shape, *, binary: Path) -> Buffers:
    """Start the server as the operator's pod would be, and read its log."""
    with TemporaryDirectory(prefix="nimblet-bench-") as name:
        model = Path(name) / "shape.gguf"
        write_shape(shape, model)
        header = read_model_header(model)
        demand = Demand(
            context_length=CONTEXT, parallel=SLOTS, kv_cache_type="f16", prompt_cache_mebibytes=0, cpu="1"
        )
        case = Case(name=shape.architecture, model=model, demand=demand)
        args = server_args(case, size_model(header, demand))
        with run_server(binary, args, model=model, folder=Path(name)) as server:
            text = server.log.read_text(encoding="utf-8", errors="replace")
    logged = {kind: _logged(text, kind) for kind in ("KV buffer", "RS buffer", "compute buffer", "output buffer")}
    return Buffers(
        title=f"{shape.architecture} {shape.title}".strip(),
        kept=(float(kv_cache_bytes(header, demand)), logged["KV buffer"] + logged["RS buffer"]),
        scratch=(float(compute_bytes(header, demand)), logged["compute buffer"] + logged["output buffer"]),
    )


def _logged(text: str, kind: str) -> float:
    return sum(float(found) for found in re.findall(rf"{kind} size =\s+([0-9.]+) MiB", text)) * MEBIBYTE


def table(found: Sequence[Buffers]) -> str:
    """Return the figures for people."""
    head = f"{'model':<24}{'caches':>9}{'logged':>9}{'ratio':>8}{'scratch':>9}{'logged':>9}{'ratio':>8}   (MiB)"
    return "\n".join([head, *(_row(item) for item in found)])


def _row(item: Buffers) -> str:
    cells = (
        f"{predicted / MEBIBYTE:>9.1f}{logged / MEBIBYTE:>9.1f}{ratio:>8.3f}"
        for (predicted, logged), ratio in zip((item.kept, item.scratch), item.ratios, strict=True)
    )
    return f"{item.title:<24}{''.join(cells)}"


def main(*, binary: Path) -> int:
    """Measure all, print, and fail where less is predicted than the server sets aside."""
    found = [measure(shape, binary=binary) for shape in shapes()]
    print(table(found), flush=True)
    return 0 if all(LOWEST <= ratio <= HIGHEST for item in found for ratio in item.ratios) else 1
