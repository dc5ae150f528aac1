# SPDX-License-Identifier: Apache-2.0
"""Draws a load's samples: how many answers had their first token, and their end, within which time."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from nimblet.cli.errors import CommandError
from nimblet.cli.load.figures import Sample

INCHES: Final = (9.0, 4.0)
ENDINGS: Final = (".svg", ".png", ".pdf")
NO_MATPLOTLIB: Final = "expected matplotlib for --plot, found none; install nimblet[plot]"


def check(path: Path) -> None:
    """CommandError where no picture could be written there, told before anything is measured."""
    if find_spec("matplotlib") is None:
        raise CommandError(NO_MATPLOTLIB)
    if path.suffix.lower() not in ENDINGS:
        raise CommandError(f"expected --plot to end in {', '.join(ENDINGS)}, found {path}")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"expected a folder {path.parent} for --plot, found none; make it, or name another")


def draw(found: Mapping[str, Sequence[Sample]], path: Path) -> None:
    """Write the picture; its format is the file's ending. Needs matplotlib (`nimblet[plot]`)."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra that only pictures need
    except ImportError as error:
        raise CommandError(NO_MATPLOTLIB) from error
    figure = Figure(figsize=INCHES, layout="constrained")
    firsts, gaps = figure.subplots(1, 2)
    for name, samples in found.items():
        good = [sample for sample in samples if not sample.error]
        between = [sample.between for sample in good]
        for axes, values in (
            (firsts, [sample.first for sample in good]),
            (gaps, [gap for gap in between if gap is not None]),
        ):
            if values:
                axes.ecdf(values, label=f"{name} ({len(good)} of {len(samples)})")
    for axes, what in ((firsts, "seconds to the first token"), (gaps, "seconds between tokens")):
        axes.set_xlabel(what)
        axes.set_ylabel("share of the answers")
        axes.grid(visible=True, alpha=0.3)
        if axes.lines:
            axes.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"expected to write a picture to {path}, found: {error}") from error
