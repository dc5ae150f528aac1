# SPDX-License-Identifier: Apache-2.0
"""The parser's process: whatever a file does, the next one is parsed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from indexer_testing.files import docx_file
from nimblet_indexer.document import FileRefused, Refusal
from nimblet_indexer.parse.worker import Limits, ParserProcess

LIMITS = Limits(file_bytes=8 * 2**20, memory_bytes=600 * 2**20, seconds=60.0)
SLOW_SECONDS = 8.0
"""A sound file is parsed sooner on a busy machine, too."""


@pytest.fixture(scope="module")
def parser() -> Iterator[ParserProcess]:
    """One process for all tests, as an indexer has it."""
    with ParserProcess(LIMITS) as made:
        yield made


def parses(parser: ParserProcess, folder: Path) -> bool:
    """Tell whether a sound file is parsed."""
    path = folder / "sound.docx"
    path.write_bytes(docx_file([("Normal", "All is well.")]))
    return parser.parse(path, name="sound.docx").document.sections[0].text == "All is well."


def test_refusals_come_through(parser: ParserProcess, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(FileRefused) as refused:
        parser.parse(path, name="broken.txt")
    assert refused.value.reason is Refusal.BAD_ENCODING
    assert parses(parser, tmp_path)


def test_a_file_that_is_too_large_is_not_even_read(parser: ParserProcess, tmp_path: Path) -> None:
    # Given a file of a gigabyte that takes no space
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(2**30)
    # Then it is refused by its size
    with pytest.raises(FileRefused) as refused:
        parser.parse(path, name="huge.txt")
    assert refused.value.reason is Refusal.TOO_LARGE


def test_a_link_to_a_device_is_refused(parser: ParserProcess, tmp_path: Path) -> None:
    # Given a link to a device whose reading never ends
    path = tmp_path / "endless"
    path.symlink_to("/dev/zero")
    # Then it is not read, and the next is parsed
    with pytest.raises(FileRefused) as refused:
        parser.parse(path, name="endless.txt")
    assert refused.value.reason is Refusal.LINK
    assert parses(parser, tmp_path)


def test_a_file_that_is_made_to_be_slow_is_given_up(tmp_path: Path) -> None:
    # Given marks that a Markdown parser pairs with each other
    path = tmp_path / "slow.md"
    path.write_bytes(b"*a **b " * 600_000)
    # Then it is given up after its time, which comes before the end of its memory, and the next is parsed
    with ParserProcess(replace(LIMITS, seconds=SLOW_SECONDS, memory_bytes=4 * 2**30)) as parser:
        with pytest.raises(FileRefused) as refused:
            parser.parse(path, name="slow.md")
        assert refused.value.reason is Refusal.TIMED_OUT
        assert parses(parser, tmp_path)


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    # Given a process with little memory and a page of millions of paragraphs
    path = tmp_path / "wide.html"
    path.write_bytes(b"<p>x" * 2**20)
    limits = Limits(memory_bytes=350 * 2**20, seconds=100.0)
    with ParserProcess(limits) as parser:
        # Then it is refused, and the next is parsed
        with pytest.raises(FileRefused):
            parser.parse(path, name="wide.html")
        assert parses(parser, tmp_path)
