# SPDX-License-Identifier: Apache-2.0
"""The header parser: true on real models, and never anything but its own error on hostile bytes."""

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.splitmodel import split_model
from loader_testing.tiny import TinyModel, integers, model_pairs, string, strings, u32
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.contract import HeaderFacts
from nimblet_loader.facts import check_extent, header_facts, runs
from nimblet_loader.gguf import BadMagicError, GGUFError, GGUFHeader, Limits, UnsupportedVersionError, parse_header
from nimblet_loader.split import check_parts


def parsed(raw: bytes, *, step: int = 4096) -> GGUFHeader:
    return parse_header(pieces(raw, step))


def pieces(raw: bytes, step: int) -> Iterator[bytes]:
    return (raw[at : at + step] for at in range(0, len(raw), step))


def real_header(path: Path) -> GGUFHeader:
    with path.open("rb") as file:
        return parse_header(iter(lambda: file.read(65_536), b""))


def test_smollm2_facts(real_model: Callable[[str], Path]) -> None:
    path = real_model("smollm2")
    header = real_header(path)
    check_extent(path.name, header, path.stat().st_size)

    facts = header_facts(path.name, [(header, path.stat().st_size)])

    assert (facts.architecture, facts.block_count, facts.context_length) == ("llama", 30, 8192)
    assert (facts.head_count, facts.head_count_kv, facts.key_length) == (9, 3, 64)
    assert (facts.parameters, facts.vocab_size, facts.output_tied) == (134_515_008, 49_152, True)
    assert header.data_start + facts.tensor_bytes == path.stat().st_size
    assert facts.chat_template


def test_a_real_model_in_parts_has_the_facts_of_the_whole(
    real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = real_model("smollm2")
    parts = split_model(whole, folder=tmp_path, name="m")
    headers = [real_header(path) for path in parts]
    check_parts([path.name for path in parts], headers)
    assert [header.metadata["split.no"] for header in headers] == [0, 1, 2]
    sized = [(header, path.stat().st_size) for header, path in zip(headers, parts, strict=True)]
    assert header_facts("m", sized) == header_facts("m", [(real_header(whole), whole.stat().st_size)])


def test_gemma3_facts(real_model: Callable[[str], Path]) -> None:
    path = real_model("gemma3-270m")
    header = real_header(path)

    facts = header_facts(path.name, [(header, path.stat().st_size)])

    assert (facts.architecture, facts.sliding_window, facts.vocab_size) == ("gemma3", 512, 262_144)
    assert (facts.block_count, facts.head_count_kv, facts.key_length) == (18, 1, 256)
    assert header.data_start + facts.tensor_bytes == path.stat().st_size


def test_minilm_facts(real_model: Callable[[str], Path]) -> None:
    def facts(name: str) -> HeaderFacts:
        path = real_model(name)
        return header_facts("m", [(real_header(path), path.stat().st_size)])

    plain, ranks, labels = (facts(name) for name in ("all-minilm-l6-v2", "minilm-rerank", "minilm-classify"))
    assert (plain.architecture, plain.pooling_type, plain.causal_attention) == ("bert", 1, False)
    assert (plain.classifier, plain.embedding_length, plain.vocab_size) == (None, 384, 30522)
    assert (ranks.pooling_type, ranks.classifier, ranks.classifier_outputs) == (4, True, None)
    assert labels.classifier_labels == ("sport", "money", "weather")


def test_a_large_vocabulary_is_not_held_in_memory(real_model: Callable[[str], Path]) -> None:
    path = real_model("gemma3-270m")
    tracemalloc.start()
    try:
        real_header(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_chunk_borders_do_not_matter(step: int) -> None:
    raw = TinyModel().file()
    assert parsed(raw, step=step) == parsed(raw)


def test_per_layer_values_are_run_length_compacted() -> None:
    pairs = (*model_pairs()[:-4], integers("llama.attention.head_count_kv", [2, 2, 0, 2]))
    raw = TinyModel(pairs=pairs).file()
    assert header_facts("m", [(parsed(raw), len(raw))]).head_count_kv == ((2, 2), (0, 1), (2, 1))
    assert runs([5, 5, 5]) == 5


def test_labels_of_a_head_are_told_where_they_are_few_and_short() -> None:
    def facts(labels: list[str]) -> HeaderFacts:
        pairs = (*model_pairs(), strings("llama.classifier.output_labels", labels), u32("llama.pooling_type", 4))
        raw = TinyModel(pairs=pairs, tensors=(("cls.output.weight", (64, 3)),)).file()
        return header_facts("m", [(parsed(raw), len(raw))])

    told = facts(["no", "yes", "maybe"])
    assert (told.classifier, told.classifier_outputs, told.pooling_type) == (True, 3, 4)
    assert told.classifier_labels == ("no", "yes", "maybe")
    assert facts(["x"] * 17).classifier_outputs == 17
    assert facts(["x"] * 17).classifier_labels is None
    assert facts(["y" * 33, "no"]).classifier_labels is None
    assert facts(["line\nbreak", "no"]).classifier_labels is None
    raw = TinyModel().file()
    assert header_facts("m", [(parsed(raw), len(raw))]).classifier is None


def test_what_recurrent_layers_keep_is_told() -> None:
    kept = {"shortconv.l_cache": 3, "wkv.head_size": 64, "token_shift_count": 1, "ssm.state_size": 16}
    pairs = (*model_pairs(), *(u32(f"llama.{key}", value) for key, value in kept.items()))
    raw = TinyModel(pairs=pairs).file()
    assert header_facts("m", [(parsed(raw), len(raw))]).other == kept


def test_split_parts_are_summed() -> None:
    first, second = TinyModel(), TinyModel(pairs=(), tensors=(("output.weight", (64, 10)),))
    headers = [(parsed(part.file()), len(part.file())) for part in (first, second)]
    facts = header_facts("m", headers)
    assert facts.parameters == 64 * 40 + 64 * 128 + 64 * 10
    assert not facts.output_tied
    # and one that holds the metadata alone, as gguf-split writes it with --no-tensor-first-split
    bare = TinyModel(tensors=())
    facts = header_facts("m", [(parsed(bare.file()), len(bare.file())), *headers[1:]])
    assert facts.parameters == 64 * 10


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", BadMagicError),
        (b"PK\x03\x04" + bytes(60), BadMagicError),
        (TinyModel(version=1).file(), UnsupportedVersionError),
        (TinyModel(version=3 << 24).file(), UnsupportedVersionError),
        (TinyModel().header()[:-5], GGUFError),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), GGUFError),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), GGUFError),
        (TinyModel(pairs=(*model_pairs(), u32("general.alignment", 33))).file(), GGUFError),
        (TinyModel(pairs=(*model_pairs(), string("general.name", "twice"))).file(), GGUFError),
        (TinyModel(pairs=(("k", struct.pack("<I", 99)),)).file(), GGUFError),
        (
            TinyModel(pairs=(("k", struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * 40),)).file(),
            GGUFError,
        ),
        (TinyModel(pairs=(("k", struct.pack("<IIQ", 9, 8, 2**62)),)).file(), GGUFError),
        (TinyModel(tensors=(("huge", (2**63, 2**63)),)).header(), GGUFError),
        (TinyModel(tensors=(("same", (1,)), ("same", (1,)))).file(), GGUFError),
    ],
)
def test_flaws_are_named(raw: bytes, error: type[GGUFError]) -> None:
    with pytest.raises(error):
        parsed(raw)


def test_a_header_longer_than_its_limit_is_refused() -> None:
    with pytest.raises(GGUFError, match="longer than 100 bytes"):
        parse_header(iter([TinyModel().file()]), limits=Limits(header_bytes=100))


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ((), Reason.HeaderInvalid),
        ((string("general.architecture", "llama"),), Reason.HeaderInvalid),
        ((*model_pairs()[:3], string("llama.context_length", "many")), Reason.HeaderInvalid),
        ((*model_pairs(), string("general.type", "adapter")), Reason.UnsupportedFormat),
    ],
)
def test_headers_that_are_no_model(pairs: tuple[tuple[str, bytes], ...], reason: Reason) -> None:
    raw = TinyModel(pairs=pairs).file()
    with pytest.raises(SourceError) as caught:
        header_facts("m", [(parsed(raw), len(raw))])
    assert caught.value.reason is reason


def test_tensors_beyond_the_end_of_the_file_are_refused() -> None:
    raw = TinyModel().file()
    with pytest.raises(SourceError, match="tensors end at byte") as caught:
        check_extent("m", parsed(raw), len(raw) - 1)
    assert caught.value.reason is Reason.HeaderInvalid


def parses_or_refuses(raw: bytes) -> None:
    try:
        header = parsed(raw)
        check_extent("m", header, len(raw))
        header_facts("m", [(header, len(raw))])
    except (GGUFError, SourceError):
        return


@given(st.binary(max_size=4096))
@settings(max_examples=300, deadline=None)
def test_random_bytes_end_in_the_parsers_own_error(raw: bytes) -> None:
    parses_or_refuses(raw)
    parses_or_refuses(b"GGUF" + struct.pack("<I", 3) + raw)


@given(st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=9)), min_size=1, max_size=6))
@settings(max_examples=500, deadline=None)
def test_mutations_end_in_the_parsers_own_error_and_little_memory(edits: list[tuple[int, bytes]]) -> None:
    raw = bytearray(TinyModel().file()[:8192])
    for at, patch in edits:
        raw[at : at + len(patch)] = patch
    tracemalloc.start()
    try:
        parses_or_refuses(bytes(raw))
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
