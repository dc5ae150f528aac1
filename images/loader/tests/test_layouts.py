# SPDX-License-Identifier: Apache-2.0
"""Which files are chosen of repositories laid out as publishers of GGUF files do; their names are written here."""

from dataclasses import dataclass

import pytest

from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.quantization import is_companion, label_of
from nimblet_loader.selection import Entry, select

MEBIBYTE = 2**20
FLAT = [
    "README.md",
    ".gitattributes",
    "SmolLM2-1.7B-Instruct.imatrix",
    "SmolLM2-1.7B-Instruct-IQ3_M.gguf",
    "SmolLM2-1.7B-Instruct-IQ4_XS.gguf",
    "SmolLM2-1.7B-Instruct-Q4_0.gguf",
    "SmolLM2-1.7B-Instruct-Q4_0_4_4.gguf",
    "SmolLM2-1.7B-Instruct-Q4_K_L.gguf",
    "SmolLM2-1.7B-Instruct-Q4_K_M.gguf",
    "SmolLM2-1.7B-Instruct-Q4_K_S.gguf",
    "SmolLM2-1.7B-Instruct-Q6_K.gguf",
    "SmolLM2-1.7B-Instruct-Q6_K_L.gguf",
    "SmolLM2-1.7B-Instruct-f16.gguf",
]
LOWER = [f"qwen2.5-7b-instruct-{name}.gguf" for name in ("q2_k", "q3_k_m", "q8_0-00001-of-00003")] + [
    "qwen2.5-7b-instruct-q8_0-00002-of-00003.gguf",
    "qwen2.5-7b-instruct-q8_0-00003-of-00003.gguf",
    "qwen2.5-7b-instruct-fp16-00001-of-00002.gguf",
    "qwen2.5-7b-instruct-fp16-00002-of-00002.gguf",
]
FOLDERS = [
    "BF16/Qwen3-14B-BF16-00001-of-00002.gguf",
    "BF16/Qwen3-14B-BF16-00002-of-00002.gguf",
    "Q8_0/Qwen3-14B-Q8_0.gguf",
    "UD-Q4_K_XL/Qwen3-14B-UD-Q4_K_XL.gguf",
    "config.json",
    "imatrix_unsloth.gguf",
]
DYNAMIC = [f"Qwen3-8B-{name}.gguf" for name in ("IQ2_M", "UD-IQ2_M", "Q4_K_M", "UD-Q4_K_XL", "UD-Q8_K_XL", "Q8_0")]
VISION = [
    "gemma-3-4b-it-Q4_K_M.gguf",
    "gemma-3-4b-it-F16.gguf",
    "mmproj-model-f16.gguf",
    "gemma-3-4b-it-mmproj-F16.gguf",
    "mmproj-BF16.gguf",
    "mtp-gemma-3-4b-it-Q4_K_M.gguf",
]
WEIGHTED = ["Meta-3B.imatrix.gguf", "Meta-3B.i1-IQ1_S.gguf", "Meta-3B.i1-Q4_K_M.gguf", "Meta-3B.i1-Q6_K.gguf"]
RAW = ["Big.Q4_K_M.gguf", "Big.Q6_K.gguf.part1of2", "Big.Q6_K.gguf.part2of2", "Big.Q8_0.gguf-split-a"]
FAMILY = ["tiny-1b.Q4_K_M.gguf", "tiny-3b.Q4_K_M.gguf", "tiny-1b.Q8_0.gguf", "tiny-3b.Q8_0.gguf"]
PHI = ["Phi-3-mini-4k-instruct-q4.gguf", "Phi-3-mini-4k-instruct-fp16.gguf"]
BOTH = ["m-Q8_0.gguf", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"]


@dataclass(frozen=True)
class Case:
    """A repository's names, what is asked of it, and what is chosen."""

    names: list[str]
    asked: str | None
    chosen: list[str]


@pytest.mark.parametrize(
    "case",
    [
        Case(FLAT, "Q4_K_M", ["SmolLM2-1.7B-Instruct-Q4_K_M.gguf"]),
        Case(FLAT, "q4_0", ["SmolLM2-1.7B-Instruct-Q4_0.gguf"]),
        Case(FLAT, "Q4_0_4_4", ["SmolLM2-1.7B-Instruct-Q4_0_4_4.gguf"]),
        Case(FLAT, "Q6_K", ["SmolLM2-1.7B-Instruct-Q6_K.gguf"]),
        Case(FLAT, "IQ4_XS", ["SmolLM2-1.7B-Instruct-IQ4_XS.gguf"]),
        Case(FLAT, "F16", ["SmolLM2-1.7B-Instruct-f16.gguf"]),
        Case(LOWER, "Q3_K_M", ["qwen2.5-7b-instruct-q3_k_m.gguf"]),
        Case(LOWER, "Q8_0", [f"qwen2.5-7b-instruct-q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]),
        Case(FOLDERS, "BF16", FOLDERS[:2]),
        Case(FOLDERS, "Q4_K_XL", ["UD-Q4_K_XL/Qwen3-14B-UD-Q4_K_XL.gguf"]),
        Case(FOLDERS, "UD-Q4_K_XL", ["UD-Q4_K_XL/Qwen3-14B-UD-Q4_K_XL.gguf"]),
        Case(FOLDERS, "Q8_0", ["Q8_0/Qwen3-14B-Q8_0.gguf"]),
        Case(DYNAMIC, "IQ2_M", ["Qwen3-8B-IQ2_M.gguf"]),
        Case(DYNAMIC, "UD-IQ2_M", ["Qwen3-8B-UD-IQ2_M.gguf"]),
        Case(DYNAMIC, "Q8_0", ["Qwen3-8B-Q8_0.gguf"]),
        Case(VISION, "F16", ["gemma-3-4b-it-F16.gguf"]),
        Case(VISION, "Q4_K_M", ["gemma-3-4b-it-Q4_K_M.gguf"]),
        Case(WEIGHTED, "Q4_K_M", ["Meta-3B.i1-Q4_K_M.gguf"]),
        Case(WEIGHTED[:2], None, ["Meta-3B.i1-IQ1_S.gguf"]),
        Case(RAW, None, ["Big.Q4_K_M.gguf"]),
        Case(PHI, "Q4", ["Phi-3-mini-4k-instruct-q4.gguf"]),
        Case(PHI, "fp16", ["Phi-3-mini-4k-instruct-fp16.gguf"]),
        Case(["model-imatrix-Q4_K_M.gguf", "imatrix.gguf"], None, ["model-imatrix-Q4_K_M.gguf"]),
    ],
    ids=lambda case: f"{case.names[-1]}-{case.asked}",
)
def test_the_one_model_is_chosen(case: Case) -> None:
    entries = [Entry(name, MEBIBYTE, None) for name in case.names]
    assert [entry.path for entry in select(entries, globs=(), quantization=case.asked)] == case.chosen


def refused(names: list[str], asked: str | None = None, globs: tuple[str, ...] = ()) -> SourceError:
    entries = [Entry(name, (at + 1) * 300 * MEBIBYTE, None) for at, name in enumerate(names)]
    with pytest.raises(SourceError) as caught:
        select(entries, globs=globs, quantization=asked)
    return caught.value


def test_candidates_are_listed_by_quantization_with_their_sizes() -> None:
    error = refused(DYNAMIC)
    assert error.reason is Reason.QuantizationAmbiguous
    assert (
        '6 match: "IQ2_M" (300 MiB), "Q4_K_M" (900 MiB), "Q8_0" (1.8 GiB), "UD-IQ2_M" (600 MiB)' in error.message
    )
    assert error.message.endswith("Set source.quantization to one of them.")


def test_a_split_candidate_has_the_size_of_all_its_parts() -> None:
    assert '"BF16" (900 MiB)' in refused(FOLDERS).message


def test_quantizations_of_several_models_are_listed_by_name() -> None:
    error = refused(FAMILY, "Q8_0")
    assert error.reason is Reason.QuantizationAmbiguous
    assert '2 match: "tiny-1b.Q8_0.gguf" (900 MiB), "tiny-3b.Q8_0.gguf" (1.2 GiB)' in error.message
    assert error.message.endswith("Set source.files to one of them, instead of source.quantization.")
    assert "source.quantization, or source.files" in refused(FAMILY).message


def test_a_split_and_a_whole_file_of_one_quantization_are_told_apart_by_a_glob() -> None:
    error = refused(BOTH, "Q8_0")
    assert error.reason is Reason.QuantizationAmbiguous
    assert '"m-Q8_0-*-of-00002.gguf"' in error.message
    entries = [Entry(name, 1, None) for name in BOTH]
    chosen = select(entries, globs=("m-Q8_0-*-of-00002.gguf",), quantization=None)
    assert [entry.path for entry in chosen] == BOTH[1:]


def test_a_quantization_that_is_there_in_raw_pieces_is_said_to_be() -> None:
    error = refused(RAW, "Q6_K")
    assert error.reason is Reason.QuantizationNotFound
    assert (
        'offers "Q4_K_M" (300 MiB). "Big.Q6_K.gguf.part1of2" is a piece of a file cut up as bytes' in error.message
    )


def test_hundreds_of_candidates_make_a_bounded_message() -> None:
    error = refused([f"model-{number}.gguf" for number in range(300)])
    assert "and 268 more" in error.message
    assert len(error.message) < 1900


@pytest.mark.parametrize(
    ("names", "globs"),
    [
        (["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"], ()),
        (["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"], ("m-00001-*",)),
        (["m-00000-of-00002.gguf", "m-00001-of-00002.gguf"], ()),
    ],
)
def test_a_part_that_is_missing_is_its_own_reason(names: list[str], globs: tuple[str, ...]) -> None:
    assert refused(names, globs=globs).reason is Reason.PartMissing


def test_more_parts_than_are_kept_are_refused_with_their_number() -> None:
    error = refused([f"Q8_0/big-Q8_0-{number:05}-of-00080.gguf" for number in range(1, 81)], "Q8_0")
    assert error.reason is Reason.TooManyFiles
    assert "at most 48 files" in error.message
    assert "has 80 parts" in error.message


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("Model-Q4_K_M.gguf", "Q4_K_M"),
        ("m.q5_k_s.gguf", "Q5_K_S"),
        ("m-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("m.i1-IQ3_XXS.gguf", "IQ3_XXS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("m-TQ1_0.gguf", "TQ1_0"),
        ("Qwen2.5-0.5B.gguf", ""),
        ("Q8_0/ggml-model.gguf", "Q8_0"),
        ("m-bf16.gguf", "BF16"),
    ],
)
def test_a_name_tells_its_quantization(path: str, label: str) -> None:
    assert label_of(path) == label


@pytest.mark.parametrize(
    "name", ["mmproj-F16.gguf", "a/m-mmproj-f16.gguf", "imatrix.gguf", "ggml-vocab-phi-3.gguf"]
)
def test_companions_are_no_models(name: str) -> None:
    assert is_companion(name)
