# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimblet.quantity import bytes_of, human_bytes, mebibytes, millicores, millicores_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 1610612736), ("500m", 1), ("2e3", 2000), ("1E", 10**18)],
)
def test_bytes(text: str, expected: int) -> None:
    assert bytes_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1", 1000), ("250m", 250), ("0.1", 100), ("1u", 1), ("2.5", 2500)]
)
def test_millicores(text: str, expected: int) -> None:
    assert millicores_of(text) == expected


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GiB", "one", "1..2"])
def test_text_that_is_no_quantity_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        bytes_of(text)


@given(st.integers(0, 2**60))
def test_rendered_memory_is_never_less(count: int) -> None:
    assert 0 <= bytes_of(mebibytes(count)) - count < 2**20


@given(st.integers(0, 10**9))
def test_rendered_cpu_is_exact(count: int) -> None:
    assert millicores_of(millicores(count)) == count


def test_people_read_mebibytes_and_gibibytes() -> None:
    assert (human_bytes(2**29), human_bytes(3 * 2**29)) == ("512Mi", "1.50Gi")
