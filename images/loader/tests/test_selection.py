# SPDX-License-Identifier: Apache-2.0
"""Which files make the one model that a user asked for."""

from collections.abc import Sequence

import pytest

from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.selection import Entry, select


def chosen(names: Sequence[str], globs: Sequence[str] = (), quantization: str | None = None) -> list[str]:
    entries = [Entry(name, 1, None) for name in names]
    return [entry.path for entry in select(entries, globs=globs, quantization=quantization)]


def refusal(names: Sequence[str], globs: Sequence[str] = (), quantization: str | None = None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        chosen(names, globs, quantization)
    return caught.value


SPLIT = [f"big-Q8_0-0000{number}-of-00003.gguf" for number in (3, 1, 2)]


def test_a_single_gguf_needs_no_choice() -> None:
    assert chosen(["README.md", "m.gguf", "mmproj-f16.gguf"]) == ["m.gguf"]


@pytest.mark.parametrize("quantization", ["Q4_K_M", "q4_k_m"])
@pytest.mark.parametrize("name", ["m-Q4_K_M.gguf", "m.q4_k_m.gguf", "Q4_K_M/m.gguf"])
def test_a_quantization_picks_one_whatever_its_case(quantization: str, name: str) -> None:
    assert chosen([name, "m-Q4_K_S.gguf", "m-Q8_0.gguf"], quantization=quantization) == [name]


def test_a_quantization_is_not_found_inside_another() -> None:
    names = ["m-Q4_K_M.gguf", "m-IQ4_XS.gguf", "m-BF16.gguf"]
    assert refusal(names, quantization="Q4_K").reason is Reason.QuantizationNotFound
    assert refusal(names, quantization="F16").reason is Reason.QuantizationNotFound


def test_the_parts_of_a_split_model_are_one_choice_in_order() -> None:
    assert chosen([*SPLIT, "big-Q4_0.gguf"], quantization="Q8_0") == sorted(SPLIT)


def test_a_missing_part_is_named() -> None:
    error = refusal(SPLIT[:2])
    assert error.reason is Reason.PartMissing
    assert "[1, 3]" in error.message


def test_too_many_parts_are_refused() -> None:
    names = [f"m-{number:05}-of-00049.gguf" for number in range(1, 50)]
    assert refusal(names).reason is Reason.TooManyFiles


def test_several_models_are_ambiguous_and_listed() -> None:
    error = refusal(["m-Q4_0.gguf", "m-Q8_0.gguf"])
    assert error.reason is Reason.QuantizationAmbiguous
    assert '"Q4_0" (0 MiB), "Q8_0" (0 MiB)' in error.message


def test_globs_narrow_the_choice() -> None:
    assert chosen(["a/m.gguf", "b/m.gguf"], globs=["b/*"]) == ["b/m.gguf"]


@pytest.mark.parametrize(
    ("names", "globs", "reason"),
    [
        (["m.gguf"], ["*.bin"], Reason.FileNotFound),
        (["model.safetensors"], [], Reason.UnsupportedFormat),
        (["model.bin", "m.gguf"], ["*.bin"], Reason.UnsafeFormat),
        ([], [], Reason.UnsupportedFormat),
        (["../../etc/m.gguf"], [], Reason.UnsafePath),
        (["/m.gguf"], [], Reason.UnsafePath),
        (["a\\..\\m.gguf"], [], Reason.UnsafePath),
        (["a\nb.gguf"], [], Reason.UnsafePath),
    ],
)
def test_refusals(names: list[str], globs: list[str], reason: Reason) -> None:
    assert refusal(names, globs).reason is reason
