# SPDX-License-Identifier: Apache-2.0
"""The safetensors header: what the format's own library writes is read, and nothing hostile gets through."""

import json
import struct
import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from nimblet_loader.safetensors import Limits, SafetensorsError, SafetensorsHeader, check_extent, parse_header

SOUND = save(
    {"a": np.zeros((4, 8), np.float16), "b": np.ones((3,), np.int64)}, {"format": "pt", "n": '{"x": [1]}'}
)
A = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


def parsed(raw: bytes, limits: Limits | None = None) -> SafetensorsHeader:
    return parse_header(iter([raw[at : at + 7] for at in range(0, len(raw), 7)]), limits)


def with_header(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode() + data


def test_what_the_formats_library_writes() -> None:
    header = parsed(SOUND)
    check_extent(header, len(SOUND))
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in header.tensors} == {
        "a": ("F16", (4, 8)),
        "b": ("I64", (3,)),
    }
    assert header.metadata == {"format": "pt", "n": '{"x": [1]}'}
    assert (header.parameters, header.bytes_by_type) == (35, {"I64": 24, "F16": 64})


def test_scalars_empty_tensors_escapes_and_spaces() -> None:
    text = '{ "\\u00e9\\n": {"shape":[ ] ,"dtype":"F32", "data_offsets":[0,4]}, "e":{"dtype":"F4","shape":[0],'
    header = parsed(with_header(text + '"data_offsets":[4,4]} }   ', bytes(4)))
    assert [(tensor.name, tensor.shape) for tensor in header.tensors] == [("é\n", ()), ("e", (0,))]
    assert parsed(with_header("{}")).tensors == ()


@pytest.mark.parametrize("cut", [0, 3, 8, 30])
def test_a_file_that_ends_within_its_header(cut: int) -> None:
    with pytest.raises(SafetensorsError, match="within its header"):
        parsed(SOUND[:cut])


@pytest.mark.parametrize("length", [0, 1, 2**33, 2**64 - 1])
def test_a_length_beyond_the_limit_reads_nothing(length: int) -> None:
    with pytest.raises(SafetensorsError, match="bytes, and at most"):
        parsed(struct.pack("<Q", length) + bytes(100))


@pytest.mark.parametrize(
    "header",
    [
        {"a": {**A, "dtype": "OBJECT"}},
        {"a": {**A, "data_offsets": [0, 3]}},
        {"a": {**A, "data_offsets": [2, 0]}},
        {"a": {**A, "data_offsets": [0]}},
        {"a": {**A, "data_offsets": [1, 3]}},
        {"a": {**A, "shape": [-2]}},
        {"a": {**A, "shape": [2.0]}},
        {"a": {**A, "shape": [2**62, 2**62], "data_offsets": [0, 2]}},
        {"a": {**A, "shape": [1] * 9}},
        {"a": {**A, "more": 1}},
        {"a": {"dtype": "U8", "shape": [2]}},
        {"a": A, "b": A},
        {"a": A, "b": {**A, "data_offsets": [3, 5]}},
        {"a": [A]},
        {"a" * 600: A},
        {"__metadata__": {"a": 1}},
        {"__metadata__": {"a": {"b": "c"}}},
        [A],
    ],
)
def test_headers_that_are_none(header: object) -> None:
    with pytest.raises(SafetensorsError):
        parsed(with_header(json.dumps(header), bytes(8)))


@pytest.mark.parametrize(
    "text",
    [
        " {}",
        "{}x",
        '{"a"}',
        '{"a":}',
        '{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
        '{"a":{"dtype":"U8","shape":[02],"data_offsets":[0,2]}}',
        '{"\\ud800x": {"dtype":"U8","shape":[2],"data_offsets":[0,2]},}',
        '{"a\\q": {}}',
        '{"\\u12": {}}',
        '{"__metadata__":{},"__metadata__":{}}',
        "[" * 4000,
        '{"a":' * 4000,
    ],
)
def test_json_that_is_none_or_doubled_or_deep(text: str) -> None:
    with pytest.raises(SafetensorsError):
        parsed(with_header(text, bytes(8)))


def test_counts_have_limits() -> None:
    many = {str(number): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for number in range(5)}
    assert len(parsed(with_header(json.dumps(many))).tensors) == 5
    with pytest.raises(SafetensorsError, match="more than 4 keys"):
        parsed(with_header(json.dumps(many)), Limits(tensors=3))
    told: Mapping[str, object] = {"__metadata__": {"a": "b" * 100}}
    with pytest.raises(SafetensorsError, match="at most 50"):
        parsed(with_header(json.dumps(told)), Limits(value_characters=50))


@pytest.mark.parametrize("change", [-1, 1])
def test_tensors_fill_the_file_exactly(change: int) -> None:
    with pytest.raises(SafetensorsError, match="the file has"):
        check_extent(parsed(SOUND), len(SOUND) + change)


def parses_or_refuses(raw: bytes) -> None:
    try:
        check_extent(parsed(raw), len(raw))
    except SafetensorsError:
        return


@given(st.binary(max_size=2048))
@settings(max_examples=300, deadline=None)
def test_random_bytes_end_in_the_parsers_own_error(raw: bytes) -> None:
    parses_or_refuses(raw)
    parses_or_refuses(struct.pack("<Q", len(raw)) + raw)
    parses_or_refuses(struct.pack("<Q", len(raw) + 1) + b"{" + raw)


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda it: st.lists(it) | st.dictionaries(st.text(), it))
)
@settings(max_examples=200, deadline=None)
def test_any_json_is_a_header_or_the_parsers_own_error(document: object) -> None:
    parses_or_refuses(with_header(json.dumps(document)))
    parses_or_refuses(with_header(json.dumps({"a": document, "__metadata__": document})))


@given(st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=9)), min_size=1, max_size=6))
@settings(max_examples=500, deadline=None)
def test_mutations_end_in_the_parsers_own_error_and_little_memory(edits: list[tuple[int, bytes]]) -> None:
    raw = bytearray(SOUND)
    for at, patch in edits:
        raw[at : at + len(patch)] = patch
    tracemalloc.start()
    try:
        parses_or_refuses(bytes(raw))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("filling", ["[],", "{},", '"":{},', "0,"])
def test_a_header_full_of_small_values_costs_no_more_than_its_length(filling: str) -> None:
    text = "{" + filling * (2**20 // len(filling))
    raw = with_header(text)
    tracemalloc.start()
    try:
        with pytest.raises(SafetensorsError):
            parse_header(iter([raw]))
        assert tracemalloc.get_traced_memory()[1] < 8 * len(raw)
    finally:
        tracemalloc.stop()
