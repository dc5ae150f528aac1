# SPDX-License-Identifier: Apache-2.0
"""A load's figures for people and for programs. Text only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from nimblet.cli.load.figures import POINTS, Figures

MILLI = 1000.0


def text(found: Mapping[str, Figures]) -> str:
    """Return a table: a column for each name, and the first beside the second where there are two."""
    names = list(found)
    columns = [_column(figures) for figures in found.values()]
    head = f"{'':<26}" + "".join(f"{name:>16}" for name in names)
    ratios = _ratios(list(found.values()))
    lines = [f"{head}{'ratio':>9}" if ratios else head]
    for label, values in _rows(columns):
        ratio = f"{ratios[label]:>9.2f}" if label in ratios else ""
        lines.append(f"{label:<26}" + "".join(f"{value:>16}" for value in values) + ratio)
    lines += [f"{name}: {count} x {error}" for name, figures in found.items() for error, count in figures.errors]
    return "\n".join(line.rstrip() for line in lines)


def as_json(found: Mapping[str, Figures]) -> str:
    """Return the figures as JSON; seconds."""
    points = [f"p{point}" for point in POINTS]

    def one(figures: Figures) -> dict[str, object]:
        shown = asdict(figures)
        for key in ("first", "between", "whole"):
            shown[key] = dict(zip(points, shown[key], strict=False))
        rates = {
            "tokens_per_second": figures.tokens_per_second,
            "answers_per_second": figures.answers_per_second,
        }
        return {**shown, "errors": dict(figures.errors), **rates}

    return json.dumps({name: one(figures) for name, figures in found.items()}, indent=2)


def _column(figures: Figures) -> dict[str, str]:
    shown = {
        "requests": str(figures.requests),
        "answered": str(figures.answered),
        "answers a second": f"{figures.answers_per_second:.2f}",
        "tokens a second": f"{figures.tokens_per_second:.1f}",
    }
    for label, values in _latencies(figures):
        for point, value in zip(POINTS, values, strict=False):
            shown[f"{label} p{point}, ms"] = f"{value * MILLI:.1f}"
    return {**shown, "client late at most, ms": f"{figures.latest * MILLI:.1f}"}


def _latencies(figures: Figures) -> tuple[tuple[str, tuple[float, ...]], ...]:
    return (
        ("first token", figures.first),
        ("between tokens", figures.between),
        ("whole answer", figures.whole),
    )


def _rows(columns: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    labels = list(dict.fromkeys(label for column in columns for label in column))
    return [(label, [column.get(label, "-") for column in columns]) for label in labels]


def _ratios(found: Sequence[Figures]) -> dict[str, float]:
    """Return how many times better the first of two is, by row: above 1 is a gain, for rates and for latencies."""
    if len(found) != 2:  # noqa: PLR2004 - a comparison has two sides
        return {}
    ours, other = found
    ratios = {}
    if other.tokens_per_second > 0:
        ratios["tokens a second"] = ours.tokens_per_second / other.tokens_per_second
    if other.answers_per_second > 0:
        ratios["answers a second"] = ours.answers_per_second / other.answers_per_second
    for (label, mine), (_, theirs) in zip(_latencies(ours), _latencies(other), strict=True):
        for point, low, high in zip(POINTS, mine, theirs, strict=False):
            if low > 0:
                ratios[f"{label} p{point}, ms"] = high / low
    return ratios
